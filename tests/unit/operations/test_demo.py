"""The demo follows the follow-ups as any consumer may."""

from msgspec.structs import replace

from leads.opt_out import notice
from leads.person import Person
from operations.demo.observer import Observer
from tests.builders import NOON, PAGE, PERSON
from tests.unit.sinks.outcomes import an_outcome


def test_an_opt_out_is_no_follow_up() -> None:
    observer = Observer()
    opt_out = notice(Person(page_id=PAGE, psid=PERSON, touched_at=NOON, opted_out_at=NOON), "message:m1", NOON)

    observer.note_command(opt_out)
    observer.note_outcome(replace(an_outcome(opt_out.command_id, "cancelled"), rule=opt_out.rule))

    assert (observer.commands, observer.outcomes) == ({}, {})
