"""The demo follows the follow-ups as any consumer may."""

from pathlib import Path

from msgspec.structs import replace

from leads.opt_out import notice
from leads.person import Person
from operations.demo.observer import Observer, Stillness
from operations.demo.run import _environ as demo_environ
from operations.demo.run import _settings as demo_settings
from operations.local.stack import hand_offs
from runtime.settings import Settings
from tests.builders import NOON, PAGE, PERSON
from tests.unit.sinks.outcomes import an_outcome


def test_an_opt_out_is_no_follow_up() -> None:
    observer = Observer()
    opt_out = notice(Person(page_id=PAGE, psid=PERSON, touched_at=NOON, opted_out_at=NOON), "message:m1", NOON)

    observer.note_command(opt_out)
    observer.note_outcome(replace(an_outcome(opt_out.command_id, "cancelled"), rule=opt_out.rule))

    assert (observer.commands, observer.outcomes) == ({}, {})


def test_a_count_that_moves_is_never_still_for_long() -> None:
    seconds = iter([10.0, 10.0, 69.0, 69.0, 130.0, 131.0])
    stillness = Stillness(lambda: next(seconds))

    assert [stillness.of(count) for count in (5, 6)] == [0.0, 0.0]
    assert [stillness.of(count) for count in (6, 6)] == [61.0, 62.0]


def test_invented_leads_go_to_no_endpoint_of_the_operator(tmp_path: Path) -> None:
    theirs = tmp_path / "destinations.yaml"
    theirs.write_text("destinations: [{name: crm, url: '${CRM_URL}', secret: '${CRM_SECRET}'}]")
    base = Settings(destinations=theirs, state_dir=tmp_path / "state")

    settings = demo_settings(base)
    environ = demo_environ(base, settings, {"LEADSTREAM_DESTINATIONS": str(theirs), "CRM_SECRET": "x"}, 1)

    assert "deliver" in hand_offs(base, {})
    assert "deliver" not in hand_offs(settings, environ | {"DEMO_PAGE_TOKEN": "t"})
    assert environ["LEADSTREAM_DESTINATIONS"] == str(settings.destinations)
    assert "CRM_SECRET" not in environ
