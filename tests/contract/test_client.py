"""The public API is what is written here: a change that breaks a program of somebody else fails."""

import inspect
import subprocess
import sys
from pathlib import Path

import leadstream
from tests.builders import NOON, a_lead

_READ = "(self, *, group: str | None = None, since: datetime.datetime | None = None, follow: bool = True, environ: "
_ENVIRON = "collections.abc.Mapping[str, str] | None = None) -> None"
_SEND = "(self, *records: leads.records.SendFollowUp | leads.records.LeadStage) -> None"

# Name → what it takes. Names and parameters with a default may be added; nothing else may change.
CALLS = {
    "AsyncLeads.__init__": f"{_READ}{_ENVIRON}",
    "AsyncLeads.__anext__": "(self) -> leadstream.reading.LeadRecord",
    "AsyncLeads.commit": "(self) -> None",
    "AsyncWriter.__init__": f"(self, *, timeout: float = 30.0, environ: {_ENVIRON}",
    "AsyncWriter.send": _SEND,
    "Leads.__init__": f"{_READ}{_ENVIRON}",
    "Leads.__next__": "(self) -> leadstream.reading.LeadRecord",
    "Leads.commit": "(self) -> None",
    "Writer.__init__": f"(self, *, timeout: float = 30.0, environ: {_ENVIRON}",
    "Writer.send": _SEND,
    "follow_up": "(lead: leads.records.Lead, *, rule: str, message: leads.records.FollowUpMessage, step: int = 1, "
    "after: datetime.timedelta = datetime.timedelta(0), "
    "cancel_on: tuple[typing.Literal['reply', 'human', 'control_lost'], ...] = ('reply', 'human', 'control_lost')) "
    "-> leads.records.SendFollowUp",
    "lead_stage": "(*, lead_id: str, page_id: str, psid: str, stage: str, occurred_at: datetime.datetime | None = None,"
    " stage_id: str | None = None, source: str = '') -> leads.records.LeadStage",
}
# The fields of the records of the topics are those of the schemas, which tests/contract/test_schemas.py pins.
ATTRIBUTES = {"LeadRecord": ("lead_id", "lead", "partition", "offset", "written_at")}
RECORDS = {"Ad", "Answer", "Button", "FollowUpMessage", "Lead", "LeadStage", "QuickReply", "SendFollowUp"}
ERRORS = {"ClientError", "UnreadableRecord"}


def test_the_names_of_the_client_are_these() -> None:
    classes = {name.partition(".")[0] for name in CALLS}

    assert set(leadstream.__all__) == classes | set(ATTRIBUTES) | RECORDS | ERRORS
    assert all(getattr(leadstream, name).__doc__ for name in classes | set(ATTRIBUTES) | ERRORS)


def test_each_is_called_as_it_was() -> None:
    assert {name: _called(name) for name in CALLS} == CALLS


def test_what_is_read_has_the_attributes_that_it_had() -> None:
    assert leadstream.LeadRecord.__match_args__ == ATTRIBUTES["LeadRecord"]


def test_every_fault_of_the_client_is_one_error() -> None:
    assert issubclass(leadstream.UnreadableRecord, leadstream.ClientError)
    assert {"topic", "partition", "offset", "reason", "key", "value"} <= vars(_unreadable()).keys()


def test_a_record_shows_no_personal_data_and_neither_does_its_fault() -> None:
    record = leadstream.LeadRecord("l1", a_lead(), 0, 7, NOON)

    assert "Menlo Park" not in f"{record!r} {_unreadable()!r} {_unreadable()}"


def test_a_program_is_checked_against_the_types(tmp_path: Path) -> None:
    """As somebody's mypy sees the package where it is installed: a lead that may be erased has no `answers`."""
    program = tmp_path / "program.py"
    lines = ("import leadstream", "def run(record: leadstream.LeadRecord) -> None:", "    record.lead.answers")
    program.write_text("\n".join((*lines, "    record.ofset", "")))

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), program.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 'Item "None" of "Lead | None" has no attribute "answers"' in done.stdout
    assert '"LeadRecord" has no attribute "ofset"' in done.stdout
    assert "Found 2 errors" in done.stdout


def _called(name: str) -> str:
    named: object = leadstream
    for part in name.split("."):
        named = getattr(named, part)
    assert callable(named)
    return str(inspect.signature(named))


def _unreadable() -> leadstream.UnreadableRecord:
    return leadstream.UnreadableRecord(
        topic="leads", partition=0, offset=7, reason="not_a_record", key=b"l1", value=b"Menlo Park"
    )
