"""The cases of follow-ups: the webhooks, and the texts and cancellations by the rules of examples/followups.yaml.

The tests run each of `FOLLOW_UP_CASES`; `KEPT` names the test of each case that takes more than the rules.
"""

from dataclasses import dataclass
from datetime import timedelta

from docs.join_cases import HOUR, MINUTE, SECOND, Received, event
from leads.records import CancelReason

Ended = tuple[str, CancelReason]


@dataclass(frozen=True, slots=True)
class FollowUpCase:
    """`received` in the order of receipt; a day later nothing more has come. `sent` and `cancelled` name rules."""

    name: str
    received: tuple[Received, ...]
    sent: tuple[str, ...]
    cancelled: tuple[Ended, ...] = ()


@dataclass(frozen=True, slots=True)
class KeptCase:
    """A case, its outcome, and the file under tests/ and the name of the test that shows it."""

    name: str
    outcome: str
    file: str
    test: str


def _case(name: str, received: list[Received], *sent: str, cancelled: tuple[Ended, ...] = ()) -> FollowUpCase:
    return FollowUpCase(name, tuple(received), sent, cancelled)


_HANDOVER, _REFERRAL, _SUMMARY = event("handover"), event("referral", SECOND), event("summary", SECOND)
_DROPPED = event("dropped handover")
_LATER_HANDOVER, _LATER_REFERRAL = event("handover", 5 * MINUTE), event("referral", 5 * MINUTE)
_BOTH = ("thanks", "reminder")

FOLLOW_UP_CASES: tuple[FollowUpCase, ...] = (
    _case("a finished flow", [_HANDOVER, _REFERRAL], *_BOTH),
    _case("a dropped flow", [_DROPPED, event("dropped referral", SECOND)], "second-chance"),
    _case(
        "dropped, then finished five minutes later",
        [_DROPPED, event("dropped referral", SECOND), _LATER_HANDOVER, _LATER_REFERRAL],
        *_BOTH,
        cancelled=(("second-chance", "superseded"),),
    ),
    _case(
        "dropped, then finished, and the webhooks of the first flow come last",
        [_LATER_HANDOVER, _LATER_REFERRAL, event("dropped handover", received=6 * MINUTE)],
        *_BOTH,
        cancelled=(("second-chance", "superseded"),),
    ),
    _case(
        "STOP within the flow, and Leadgen hands over as dropped",
        [event("stop word"), event("dropped handover", SECOND)],
        cancelled=(("second-chance", "opted_out"),),
    ),
    _case(
        "STOP within the flow, and Leadgen hands over untagged",
        [event("stop word"), event("handover without a tag", SECOND)],
        cancelled=(("second-chance", "opted_out"),),
    ),
    _case(
        "STOP before the second chance is due",
        [_DROPPED, event("stop word", 5 * MINUTE)],
        cancelled=(("second-chance", "opted_out"),),
    ),
    _case(
        "the summary meets the condition of a rule, the referral after it does not",
        [_SUMMARY, event("referral of another city", MINUTE)],
        "thanks",
        cancelled=(("reminder", "conditions_changed"),),
    ),
    _case(
        "the only summary is stamped six minutes after the handover", [_HANDOVER, event("summary", 6 * MINUTE)], *_BOTH
    ),
    _case(
        "the dropped referral of the last answer, the handover half an hour later",
        [event("dropped referral"), event("dropped handover", 30 * MINUTE)],
        "second-chance",
    ),
    _case(
        "a handover that does not say how the flow ended, beside a complete referral",
        [event("handover without a tag"), event("referral")],
        *_BOTH,
    ),
    _case("a dropped handover beside a complete referral", [_DROPPED, event("referral")], "second-chance"),
    _case(
        "the person writes lines with a colon, and Meta adds the hop of the flow",
        [_HANDOVER, _SUMMARY, event("lines with a hop", 5 * MINUTE)],
        "thanks",
        cancelled=(("thanks", "reply"), ("reminder", "reply")),
    ),
    _case(
        "a summary without a hop is no reply", [_HANDOVER, _REFERRAL, event("summary without a hop", MINUTE)], *_BOTH
    ),
    _case(
        "another app has the thread for a second",
        [
            _HANDOVER,
            event("take by the Page Inbox", SECOND),
            event("pass by another app", 2 * SECOND),
            event("referral", received=3 * SECOND),
        ],
        *_BOTH,
    ),
    _case(
        "a human takes the thread and keeps it",
        [_DROPPED, event("take by the Page Inbox", MINUTE)],
        cancelled=(("second-chance", "control_lost"),),
    ),
    _case("a human answers", [_DROPPED, event("echo of a human", MINUTE)], cancelled=(("second-chance", "human"),)),
    _case("the person writes", [_DROPPED, event("message", MINUTE)], cancelled=(("second-chance", "reply"),)),
    _case(
        "the last answer, within the whole second of the referral's stamp",
        [event("message", timedelta(milliseconds=700)), event("referral", received=SECOND)],
        *_BOTH,
    ),
    _case(
        "a message that is stamped an hour ahead, and a flow after it",
        [event("message", HOUR, received=SECOND), _LATER_HANDOVER, _LATER_REFERRAL],
        *_BOTH,
    ),
    _case(
        "the question of a condition, in other case and with blanks",
        [_HANDOVER, event("referral with the question written otherwise", SECOND)],
        *_BOTH,
    ),
)


_SINK, _CANCELLING = "unit/sinks/send/test_sink.py", "unit/sinks/test_cancelling.py"
_ONE_PERSON, _JOIN = "unit/sinks/send/test_one_person.py", "unit/leads/test_join.py"

KEPT: tuple[KeptCase, ...] = (
    KeptCase(
        "two rules or leads would write to one person within `min_gap`",
        "the later one waits",
        _ONE_PERSON,
        "test_messages_of_two_rules_or_leads_to_one_person_keep_the_gap_of_the_page",
    ),
    KeptCase(
        "Meta answers 551",
        "nothing else is tried for this person",
        _ONE_PERSON,
        "test_a_person_whom_meta_refuses_is_not_tried_again",
    ),
    KeptCase(
        "a step of a course is refused for good",
        "the steps after it are cancelled",
        _SINK,
        "test_a_step_that_is_refused_for_good_ends_the_steps_behind_it",
    ),
    KeptCase(
        "quiet hours from 21:00, a command of 20:50, and a sink that is down until 02:00",
        "sent at the end of the quiet hours",
        _SINK,
        "test_a_sink_that_was_down_sends_nothing_in_quiet_hours_and_no_faster_after_them",
    ),
    KeptCase(
        "a command is parked into the night, or a cap frees it then",
        "sent at the end of the quiet hours",
        _SINK,
        "test_what_is_parked_until_the_night_waits_for_the_morning",
    ),
    KeptCase(
        "a command in its quiet hours, and one of another rule",
        "the other goes first",
        _SINK,
        "test_a_command_in_its_quiet_hours_holds_no_other_of_its_person_but_its_next_step",
    ),
    KeptCase(
        "`streams` are behind: the reminder is emitted, the cancellation not yet",
        "cancelled: an old command waits for the join",
        _CANCELLING,
        "test_a_reminder_is_cancelled_although_the_join_is_behind_and_emits_its_cancellation_later",
    ),
    KeptCase(
        "STOP is read, the join's notice is not written yet, and any command is due",
        "the command waits for the join",
        _CANCELLING,
        "test_a_command_waits_until_the_join_has_passed_the_stop_word_that_the_sink_has_read",
    ),
    KeptCase(
        "an erasure is read again after the person came back and sent STOP",
        "the opt-out stays",
        "unit/sinks/test_erasure.py",
        "test_an_erasure_that_is_read_again_forgets_nothing_of_who_came_back",
    ),
    KeptCase(
        "an old unblock is delivered again after a restart",
        "nothing is cancelled",
        _CANCELLING,
        "test_an_old_unblock_that_meta_delivers_again_after_a_restart_cancels_nothing",
    ),
    KeptCase(
        "an attempt is throttled beyond its window",
        "`expired` with its window",
        _SINK,
        "test_an_attempt_that_is_throttled_beyond_its_window_expires_with_it_and_so_do_those_behind_it",
    ),
    KeptCase(
        "a message after thread control has ended",
        "thread control stays ended",
        _JOIN,
        "test_a_message_renews_thread_control_and_never_revives_it",
    ),
    KeptCase(
        "the signals of a flow that was handed to us come on standby",
        "they count",
        "unit/leads/test_standby.py",
        "test_signals_of_a_flow_that_was_handed_to_us_count",
    ),
    KeptCase(
        "an answer is too long for Meta",
        "it is cut, and the end of the rule's text stays",
        "unit/leads/test_followup.py",
        "test_the_longest_answers_are_cut_and_the_short_ones_stay_whole",
    ),
    KeptCase(
        "a pattern that takes ages in other engines",
        "linear time",
        "unit/leads/test_rules.py",
        "test_no_pattern_and_no_answer_take_more_than_linear_time",
    ),
    KeptCase(
        "`wait_for: handover` on a Page that sends none",
        "`followups check` and `doctor` say so",
        "unit/cli/test_followups.py",
        "test_a_wait_that_never_ends_or_is_missing_is_told",
    ),
    KeptCase(
        "`wait_for: answers`, and only the transcript has them",
        "it waits for the transcript",
        "unit/leads/test_transcripts.py",
        "test_a_rule_that_waits_for_answers_has_those_of_the_transcript",
    ),
    KeptCase(
        "somebody writes each week, and the past is replayed from last week",
        "no difference",
        "unit/leads/test_warm_up.py",
        "test_a_fact_older_than_the_warm_up_changes_no_lead_of_somebody_who_writes_every_day",
    ),
    KeptCase(
        "a human asks the only question of a form, word for word",
        "`backfill` restores no lead",
        "unit/leads/test_gaps.py",
        "test_the_only_question_of_a_form_may_be_a_humans_and_opens_no_lead",
    ),
    KeptCase(
        "another bot writes, or the Page Inbox under its misprinted id, and no app is configured as ours",
        "cancelled",
        _JOIN,
        "test_another_app_than_leadgen_handed_over_to_is_not_us_where_none_is_configured",
    ),
)
