"""The codes of findings, each with its meaning for an operator."""

from collections.abc import Mapping

from schemas.topics import COMMANDS, LEADS, TRANSCRIPTS

_FOLDED = {LEADS: "revision of a lead", COMMANDS: "follow-up command", TRANSCRIPTS: "transcript request"}

MEANINGS: Mapping[str, str] = {
    "lost_webhook": "A webhook was answered 200, and Kafka does not have it.",
    "other_bytes": "Kafka has other bytes at the place that a receipt names.",
    "lost_event": "An item of a webhook is no event, is not ignored, and has no dead letter.",
    "event_without_item": "An event comes from no item of the webhook that it names.",
    "event_out_of_order": "An event of a person comes after a later one of the same person.",
    "lost_letter": "A webhook or a command was refused, and has no dead letter.",
    "letter_without_item": "A dead letter names a webhook that nothing refuses.",
    **{
        f"{topic.name}_missing": f"The log of webhooks makes a {noun} that is not there."
        for topic, noun in _FOLDED.items()
    },
    **{
        f"{topic.name}_unlike_fold": f"A {noun} is not as the log of webhooks makes it."
        for topic, noun in _FOLDED.items()
    },
    **{f"{topic.name}_not_in_fold": f"The log of webhooks makes no such {noun}." for topic, noun in _FOLDED.items()},
    "message_without_event": "A webhook has a message of which there is no event and no dead letter.",
    "signal_without_lead": "No lead shows a referral or a handover of Meta's.",
    "flow_unlike_its_lead": "The signals of a flow agree, and it is not one closed lead that says the same.",
    "course_unlike_its_rule": "The commands for the lead of such a flow are not the steps of a rule for all leads.",
    "tombstone_without_erasure": "A record was removed, and its person was not erased.",
    "request_without_fact": "A transcript was requested, and no fact answers.",
    "command_without_outcome": "A command has no outcome, and its time is over.",
    "command_left_open": "A command has no end, and its time is over.",
    "command_not_taken_up": "A command was set aside by the send sink, and its time is over.",
    "text_without_command": "A person got a text for which there is no command.",
    "texted_twice": "A person got the text of one command twice.",
    "texted_before_the_attempt": "A person got a text before the ledger had an attempt.",
    "texted_after_its_end": "A person got a text after its time.",
    "texted_too_early": "A person got a text before its time.",
    "texted_too_soon": "A person got a text too soon after another.",
    "texted_in_quiet_hours": "A person got a text in the quiet hours of its rule.",
    "texted_without_the_step_before": "A person got a text of which the step before was not sent.",
    "texted_after_cancellation": "A person got a text after the record that takes its command back.",
    "texted_after_reply": "A person got a text after they had replied.",
    "texted_after_stop_word": "A person got a text after a stop word.",
    "texted_after_human": "A person got a text after a human had answered.",
    "texted_after_erasure": "A person got a text after they had been erased.",
    "texted_after_block": "A person got a text after their Page had been blocked.",
    "texted_after_a_later_flow": "A person got a text about a lead after they had finished a later flow.",
    "ledger_denies_a_text": "A person got a text of which the ledger says that it was not sent.",
    "ledger_invents_a_text": "The ledger says that a text was sent, and no echo shows it.",
    "ledger_goes_back": "The ledger forgets that a text was sent, delivered or read.",
    "ledger_overlooks_an_echo": "The ledger has a doubt that an echo in the log settles.",
    "cancelled_without_a_cause": "A command was cancelled, and nothing in the log is a cause.",
    "cancelled_against_its_rule": "A command was cancelled for a reason that its rule does not name.",
    "lost_row": "The warehouse lacks the row of a record.",
    "row_twice": "The warehouse has the row of a record twice.",
    "row_without_record": "The warehouse has a row of a record that Kafka does not have.",
    "row_unlike_record": "A row of the warehouse is not as its record.",
}
