"""docs/join.md: how signals become leads, with the table of cases that the tests run."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from docs.follow_up_cases import FOLLOW_UP_CASES, KEPT, FollowUpCase
from docs.join_cases import CASES, Becomes, Case, Received
from docs.markdown import table
from leads.person import STATE_TTL

_INTRODUCTION = f"""\
# The join

Made by `make docs` from `docs/join_page.py` and the cases of `docs/join_cases.py`; do not edit.

`leads/join.py` folds the events of one person on one Page into leads: `advance(person, event, policy)` takes an event,
`elapse(person, until, policy)` lets time pass. Both are pure; the time is the time of receipt, never a clock's
([decision 0003](decisions/0003-receipt-order.md)).

## One lead

```mermaid
stateDiagram-v2
    [*] --> open: first signal (revision 1)
    [*] --> closed: a backfill found it (recovered)
    open --> open: another signal that fits it (next revision)
    open --> closed: all signals are in (all_signals)
    open --> closed: join_wait after the first signal (join_wait)
    closed --> closed: a late signal, a transcript (next revision)
    closed --> [*]: {STATE_TTL.days} days after its first signal
```

A complete lead that closes without answers asks for a transcript, once. A dropped flow has no summary to wait for.
A Page that sends fewer signals names them in pages.yaml (`signals`), and its leads close when those are in.

* A **signal** is a lead handover, a lead referral or a summary. It belongs to a lead that has no signal of its kind
  yet, however many minutes lie between Meta's stamps, unless something says that it is of another flow: Leadgen took
  the thread or handed it over in between, a referral and a summary have no question in common, or the outcomes disagree
  and the stamps lie more than five minutes apart. Of several leads, the nearest. A closed lead takes signals stamped
  within an hour of its own, or within 24 hours if the flow was dropped: Meta gives such a flow up long after the last
  answer. A signal that belongs to no lead opens one.
* A **summary** is told by Leadgen's `hop_context` and Meta's first line "Lead summary:". If the first line is another,
  because Meta translates it or a person wrote it, the text must have a question of the Page's forms or of the referral;
  if none is known, it must lie within five minutes of a lead without a summary, or the person has no lead of this flow.
  Otherwise it is a message of the person's. Where the hop is missing, the text belongs to a lead that lacks a summary,
  or it is ignored as `unproven_summary`: it opens no lead and is no reply.
* A signal **on standby** comes while another app has the thread. It adds to a lead of ours that lacks it, and opens
  none: one that comes before its lead is counted as `standby_lead_signal`, and kept until Leadgen hands the flow to us,
  for an hour, or 24 hours if it was dropped. A handover to another app tells that flow from ours.
* An **outcome** that no signal has said is assumed to be incomplete: Leadgen handed over without `metadata`, and
  without the `hop_context` that stands in for it. It gives way to one that is said, and rules wait until then, or until
  the lead closes. Where two signals disagree, the lead is incomplete. If a rule has acted on it as complete, none acts
  on it any more.
* A **recovery** is what a backfill found in the conversation. It opens a lead that is closed at once, unless the person
  has one within five minutes of it: then it gives that lead the answers that it lacks, and nothing otherwise. Webhooks
  that come after all add to the recovered lead.
* **`lead_id`** comes from the Page, the person and the event that opened the lead; the same log gives the same ids.
* **Answers** of the referral come first, then what only the summary knows, then what only the transcript knows; a
  blank one gives way. No revision has fewer answers than the one before, except for a line of the summary that the
  referral shows to be part of another answer. Case, width, blanks and composed letters make no other question.
  An answer of the referral that is a list is read as its items with commas between them, a number or an object as JSON.
* A **duplicate** adds nothing and publishes nothing. It has an `event_id` that a lead has; or it repeats a lead's
  handover within a minute, or its referral or summary word for word, and no flow began in between.
* An open lead's **deadline** fires at its own time, before an event that is received then, at any speed of reading.

## What a state holds at most

All that the join knows of a person is one Kafka record, which is at most 8 MiB. So the state is bounded in the fold
itself, event by event, and a replay sheds the same.

* An event of more than 768 KiB is a dead letter. Meta's items are smaller; a fact of ours may not be.
* When a person's leads take more than 1 MiB, the **oldest are shed**, never the one that an event has just changed.
  An open one closes first (`close_reason` `shed`, a last revision with all that it has), and what is scheduled for it
  is cancelled (`cancel_reason` `shed`). A command that was issued stays, and a reply still cancels it.
* The skeleton of a shed lead stays until it is forgotten: id, revision, outcome, Meta's stamps, the signals that it
  was made from, and which rules have acted. So a repeated signal is a `duplicate`, and a late one is ignored as
  `lead_shed`: neither makes a second lead or a lower revision, and no rule acts twice. A promotion brings the lead
  back whole.
* When the skeletons alone take more than 512 KiB, some hundreds of leads in 30 days, no further lead of that person
  is opened: its signals are ignored as `too_many_leads`, because a lead that is forgotten could be made again.
* An id of an event that repeats a long text is remembered as its SHA-256.

`leadstream_join_state_shed_total` counts them; `leads` and the webhooks keep everything.

**Set aside.** An event that raises is left out after the worker has ended at it three times
([operating.md](operating.md)): it changes nothing in its person's state but the mark that it was read. A deadline
that raises ends without a step or a revision. A replay leaves out what raises at once, so that unchanged code gives
the same leads; where the live join ended at a stretch of records, it is careful with all of them.

## Windows and thread control

Kept for each person, and written to each revision of a lead.

| event | messaging window | thread control |
|---|---|---|
| message, postback, reaction | 24 hours from it | at least one day from it, if we still have it |
| lead handover to us | of a complete lead: 24 hours from its end | as long as the Page's `thread_control` |
| any other pass to us, a take by us | unchanged | one day |
| a request by another app | unchanged | one day at the most |
| pass to another app, a take by another | unchanged | lost; cancels what is issued, or due before it comes back |
| a take by the Leadgen app: another flow begins | unchanged | lost until the flow ends |
| summary | unchanged: nobody wrote it | unchanged |

A routing event that is older than the newest one changes nothing. A stamp ahead of its receipt counts as the receipt,
and one in whole seconds covers its second: an answer within it is no reply to the flow that it ended.

## Cases

What is received with its time after the first, and what the leads are a day after the last.
"""


_FOLLOW_UPS = """\
## Follow-ups

The texts and cancellations that the rules of [examples/followups.yaml](../examples/followups.yaml) then give, in this
order, with the reasons. `tests/unit/leads/test_follow_up_cases.py` runs each row. The city of the
usual answers is the reminder's.
"""

_KEPT = """\
Cases that take more than the rules, each with its test:
"""


def join_page() -> str:
    cases = table(("Case", "Received", "Leads"), map(_row, CASES))
    follow_ups = table(("Case", "Received", "Sent", "Cancelled"), map(_row_of_follow_up, FOLLOW_UP_CASES))
    kept = table(
        ("Case", "Outcome", "Test"), ((case.name, case.outcome, f"`tests/{case.file}::{case.test}`") for case in KEPT)
    )
    return f"{_INTRODUCTION}\n{cases}\n\n{_FOLLOW_UPS}\n{follow_ups}\n\n{_KEPT}\n{kept}\n"


def _row(case: Case) -> tuple[str, str, str]:
    leads = "; ".join(map(_lead, case.leads)) or "none"
    return (
        case.name,
        ", ".join(_received(case.received)),
        leads + (", and asks for a transcript" * case.asks_for_transcript),
    )


def _row_of_follow_up(case: FollowUpCase) -> tuple[str, str, str, str]:
    cancelled = ", ".join(f"{rule} (`{reason}`)" for rule, reason in case.cancelled)
    return case.name, ", ".join(_received(case.received)), ", ".join(case.sent) or "nothing", cancelled


def _received(events: Sequence[Received]) -> Iterator[str]:
    first = events[0].received
    return (f"{event.kind}{_later(event.received - first)}" for event in events)


def _later(by: timedelta) -> str:
    seconds = int(by.total_seconds())
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= size:
            return f" +{seconds // size} {unit}"
    return ""


def _lead(lead: Becomes) -> str:
    answers = "no answers" if lead.answers == "none" else f"answers by {lead.answers}"
    return f"{lead.outcome}, {lead.revisions} revisions, {answers}, `{lead.closed_by}`"
