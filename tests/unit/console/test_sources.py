"""The stages that the console looks at."""

from pathlib import Path

import pytest

from console.sources import without_idle
from runtime.settings import Settings
from tests.builders import PAGE

_STAGES = {"ingest": "http://ingest:8001", "sink-deliver": "http://d:8010", "sink-conversions": "http://c:8011"}


@pytest.mark.parametrize(
    ("pages", "looked_at"),
    [
        (f'pages: {{"{PAGE}": {{}}}}', {"ingest"}),
        (f'pages: {{"{PAGE}": {{conversions: {{data_set: "77"}}}}}}', {"ingest", "sink-conversions"}),
        ("pages: [", {"ingest", "sink-deliver", "sink-conversions"}),
    ],
    ids=["nothing to hand on", "conversions", "unreadable"],
)
def test_a_sink_with_nothing_to_hand_on_is_not_missed(tmp_path: Path, pages: str, looked_at: set[str]) -> None:
    settings = Settings(pages=tmp_path / "pages.yaml", destinations=tmp_path / "destinations.yaml")
    settings.pages.write_text(pages)

    assert without_idle(_STAGES, settings).keys() == looked_at
