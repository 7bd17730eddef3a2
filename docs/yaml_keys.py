"""Every key of the YAML files, with its meaning and its default, for docs/configuration.md."""

from collections.abc import Iterable

from leads.pages import START_WORDS, STOP_WORDS


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in sorted(words))


PAGE_KEYS = {
    "access_token": (
        "The Page's access token; `${NAME}` reads the environment, or the file that `NAME_FILE` names",
        "none: nothing is sent for this Page",
    ),
    "target_app": ("Our app: that to which the lead ad hands its leads", "`LEADSTREAM_APP_ID`, else by handover"),
    "join_wait": ("How long a lead waits for missing signals before it closes, at most `7d`", "`15m`"),
    "signals": ("Which of `handover`, `referral` and `summary` this Page sends: a lead closes when they are in", "all"),
    "thread_control": (
        "How long thread control lasts after a lead flow: `receiving_app_control_expiration` of the ad, "
        "whole days from `1d` to `7d`",
        "`1d`",
    ),
    "time_zone": ("The time zone of the rules' quiet hours, such as `Europe/Berlin`", "`UTC`"),
    "also": ("Other ids under which webhooks name this Page (`entry.id`)", "none"),
    "stop_words": (
        "What a person writes, or the title or payload of the button or quick reply that they press, to get no more "
        "follow-ups, in any case: see [follow-ups.md](follow-ups.md). An empty list is none",
        _listed(STOP_WORDS),
    ),
    "start_words": ("What they write to get follow-ups again", _listed(START_WORDS)),
    "min_gap": (
        "The least time between two messages to one person, at most `24h`, of different rules, for different leads, or "
        "of automations of your own. The later one waits, and expires where its window closes before. The steps of one "
        "rule keep their own times",
        "none",
    ),
    "conversions": (
        "Report conversions of this Page to Meta: `data_set` is the id of the data set that is linked to it, "
        "`access_token` a token for it if it is not the Page's, `stages` the events of Meta's for stages that your CRM "
        "calls otherwise, as in `{won: OrderCreated}`: see [conversions.md](conversions.md)",
        "none are reported",
    ),
    "questions": ("Question texts of its lead forms, which make summaries with colons unambiguous", "none"),
}

RULE_KEYS = {
    "name": ("Names the rule in commands and outcomes; must be unique and should never change", "required"),
    "when": ("Which leads: `outcome`, `page`, `ad`, `answers`; every given condition must hold", "every lead"),
    "wait_for": (
        "`answers`: act when the lead has answers, or closes and its transcript has none or takes more than five "
        "minutes. `handover`: act when thread control is ours",
        "act on the first revision that matches",
    ),
    "send": ("The message: `text`, and either `quick_replies` or `buttons`", "required, unless there are `steps`"),
    "after": (
        "How long to wait before it. A step more than 24 hours after the person's last message is never sent; "
        "`followups check` reports it",
        "at once",
    ),
    "steps": ("Several messages instead: a list of `send` with `after`, since the step before; `20d` in all", "one"),
    "quiet_hours": (
        "When nothing is sent, such as `21:00-08:00`, in the `time_zone` of the Page: a step that falls due then waits "
        "for their end, and expires where the window closes before. They are asked again right before each call, "
        "however late that is",
        "none",
    ),
    "within": (
        "How long after it is due a step is still of use; a step that comes late, because the sink was down or another "
        "app had the thread, then expires instead",
        "as long as the window is open",
    ),
    "cancel_on": (
        "The events that cancel it while it is pending: `reply` (the person wrote), `human` (a person or another app "
        "answered), `control_lost`",
        "all three",
    ),
    "then": ("The thread's control after the last message: `pass_to_inbox` or `release`", "it stays ours"),
}

CAPS_KEYS = {
    "per_person": "How many messages a person may get in 24 hours; more are cancelled",
    "per_page": "How many messages the people of a Page may get in 24 hours, at least one for each partition; more "
    "wait, and expire with their window. Each partition has an even share: the cap is never exceeded, and is not "
    "reached where a Page's people are spread unevenly",
}

WHEN_KEYS = {
    "outcome": "`complete` or `incomplete`",
    "page": "A page id, or a list of them",
    "ad": "An ad id, or a list of them",
    "answers": "Question → `equals`, `contains` or `regex`, or several of them. The question's case, width and blanks "
    "do not count; the answer's case does. `regex` is in RE2's syntax and is "
    "searched for in the first 10,000 characters: no look-around, no back-references; `\\d`, `\\w`, `\\s`, `\\b` know "
    "ASCII only, `\\p{L}` is any letter; `(?i)` ignores case in every language",
}

SEND_KEYS = {
    "text": "Up to 1999 characters, or 640 with buttons. `{answers[the question]|default}`, `{ad.ad_title|default}` "
    "and `{page_id}` are filled from the lead",
    "quick_replies": "Up to 13 of `title` (20 characters) and `payload` (the title if absent)",
    "buttons": "Up to 3 of `title` (20 characters) and either `url` or `payload`",
}

DESTINATION_KEYS = {
    "name": (
        "Names it in commands, metrics and the ledger: lower-case letters, digits, dashes. It never changes",
        "required",
    ),
    "url": ("Where deliveries are posted: https, or http with `allow_private`. No log shows it", "required"),
    "secret": (
        "What signs them: `whsec_` and 24 to 64 bytes in base64, or a list of several while you change it",
        "required",
    ),
    "when": ("Which leads, as in `followups.yaml`. Of outcomes, only `page` counts", "every lead"),
    "wait_for": ("As in `followups.yaml`: `answers` or `handover`", "every revision is delivered"),
    "pii": ("`true`: personal data are delivered too", "they are masked"),
    "outcomes": ("`true`: the outcomes of follow-ups are delivered too", "leads only"),
    "body": (
        "A mapping or list that is sent as JSON, with placeholders in its texts: `{lead_id}`, `{revision}`, "
        "`{answers[the question]|default}`, `{ad.ad_title}` and every field of a lead",
        "the record",
    ),
    "erased": ("The same for an erasure, with `{lead_id}`", "the event `lead.erased`"),
    "headers": ("More headers, such as `Authorization`", "none"),
    "from": ("What it gets of older leads: `now` is none, `beginning` all, or since a time", "`now`"),
    "allow_private": ("`true`: it may be in a private network or on this machine", "such addresses are refused"),
    "ca_file": ("A PEM file with the authorities that may sign its certificate", "the public ones"),
}
