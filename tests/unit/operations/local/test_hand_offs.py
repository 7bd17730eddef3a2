"""The sinks that hand leads on run where something is to be handed on."""

from pathlib import Path

import pytest

from operations.local.stack import hand_offs
from operations.stage_states import stages_of_up
from runtime.settings import Settings
from tests.builders import PAGE


@pytest.mark.parametrize(
    ("page", "found"),
    [('{conversions: {data_set: "77"}}', ("conversions",)), ("{}", ())],
    ids=["on", "off"],
)
def test_conversions_are_reported_where_a_page_has_them_on(tmp_path: Path, page: str, found: tuple[str, ...]) -> None:
    settings = Settings(pages=tmp_path / "pages.yaml", admin_port=9001)
    settings.pages.write_text(f'pages: {{"{PAGE}": {page}}}')

    assert hand_offs(settings, {}) == found
    urls = [url for name, url in stages_of_up(settings).items() if name == "sink-conversions"]
    assert urls == ["http://127.0.0.1:9011" for _ in found]


def test_a_file_with_a_fault_hides_no_other_stage(tmp_path: Path) -> None:
    settings = Settings(pages=tmp_path / "pages.yaml")
    settings.pages.write_text("pages: [")

    assert {"ingest", "streams", "sink-send"} <= stages_of_up(settings).keys()
