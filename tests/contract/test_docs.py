"""What the docs say is what the code has: generated pages, commands, variables, keys and links."""

import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from cli.main import main
from docs.configuration_page import SETTINGS
from docs.generate import DOCS, OBSERVABILITY, PAGES, WATCHED
from docs.topics_page import RAW_HEADERS
from docs.yaml_keys import DESTINATION_KEYS, PAGE_KEYS, RULE_KEYS, SEND_KEYS, WHEN_KEYS
from operations.configuration import load_pages, load_rules
from operations.destinations import load_destinations
from runtime.metrics import Metrics
from runtime.plausible import SENT_AT
from runtime.settings import SECRETS, Settings, variable
from runtime.tracing import TRACEPARENT
from runtime.yaml_file import FileFault
from schemas.copies import COPY, OTHER_PAGE_ID, PAGE_ID, SIGNATURE
from schemas.topics import TOPICS

ROOT = DOCS.parent
PROSE = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
VARIABLES = {variable(name) for name in Settings.__dataclass_fields__} | {f"{variable(name)}_FILE" for name in SECRETS}


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_what_its_generator_writes(name: str) -> None:
    """`make docs` writes it anew."""
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name]()


@pytest.mark.parametrize("name", WATCHED)
def test_a_rule_file_or_a_dashboard_is_what_its_generator_writes(name: str) -> None:
    """`make docs` writes it anew."""
    assert (OBSERVABILITY / name).read_text(encoding="utf-8") == WATCHED[name]()


def test_every_topic_is_described() -> None:
    text = PAGES["topics.md"]()

    assert [topic.name for topic in TOPICS if f"`{topic.name}`" not in text] == []


def test_every_metric_is_described_with_its_meaning() -> None:
    families = {family.name for family in Metrics().registry.collect()}
    rows = re.findall(r"^\| `(leadstream_\w+?)(?:_total)?` \|.*\| (.+) \|$", PAGES["metrics.md"](), re.MULTILINE)

    assert {name for name, _ in rows} == families
    assert all(meaning.strip() for _, meaning in rows)


def test_every_setting_is_described_and_no_other() -> None:
    assert SETTINGS.keys() == Settings.__dataclass_fields__.keys()


def test_every_key_of_the_pages_is_described_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "pages.yaml"
    path.write_text('pages: {"1": {nonsense: 1}}')

    assert _known_keys(lambda: load_pages(Settings(pages=path), {})) == set(PAGE_KEYS)


@pytest.mark.parametrize(
    ("rule", "described"),
    [
        ("{nonsense: 1}", RULE_KEYS),
        ("{name: a, send: {text: b}, when: {nonsense: 1}}", WHEN_KEYS),
        ("{name: a, send: {nonsense: 1}}", SEND_KEYS),
    ],
    ids=["rule", "when", "send"],
)
def test_every_key_of_the_followups_is_described_and_no_other(
    tmp_path: Path, rule: str, described: dict[str, object]
) -> None:
    path = tmp_path / "followups.yaml"
    path.write_text(f"rules: [{rule}]")

    assert _known_keys(lambda: load_rules(Settings(followups=path), {})) == set(described)


def test_every_key_of_the_destinations_is_described_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "destinations.yaml"
    path.write_text("destinations: [{nonsense: 1}]")

    assert _known_keys(lambda: load_destinations(Settings(destinations=path), {})) == set(DESTINATION_KEYS)


def test_the_example_of_destinations_is_read() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    environ = {"CRM_SECRET": secret, "CHAT_SECRET": secret, "CRM_TOKEN": "t", "CHAT_URL": "https://chat.example.com/x"}

    assert len(load_destinations(Settings(destinations=ROOT / "examples" / "destinations.yaml"), environ)) == 2


def test_every_header_of_a_raw_record_is_described() -> None:
    written = (ROOT / "ingest" / "publisher.py").read_text(encoding="utf-8")

    of_all = {*re.findall(r'\("([a-z0-9-]+)", ', written), SENT_AT, SIGNATURE}
    assert of_all | {COPY, PAGE_ID, OTHER_PAGE_ID, TRACEPARENT} == set(RAW_HEADERS)


@pytest.mark.parametrize("command", main.list_commands(click.Context(main)))
def test_every_command_is_named_where_people_read(command: str) -> None:
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]

    assert any(f"leadstream {command}" in page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_variable_in_the_docs_is_a_setting(page: Path) -> None:
    tests_read = _variables(ROOT / "tests" / "conftest.py") if page.name == "CONTRIBUTING.md" else set()

    assert _variables(page) <= VARIABLES | tests_read


def _variables(page: Path) -> set[str]:
    return set(re.findall(r"LEADSTREAM_\w*\w", page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_in_the_docs_exists(page: Path) -> None:
    named = set(re.findall(r"`(?:[A-Z_]+=\S+ )*leadstream ([a-z]+)", page.read_text(encoding="utf-8")))

    assert named <= set(main.list_commands(click.Context(main)))


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_every_file_named_in_the_docs_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [page.parent / target for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text)]
    files = [ROOT / name for name in re.findall(r"`((?:\w[\w.-]*/)+[\w-]+\.(?:py|md|yaml|avsc|toml))`", text)]

    assert [path for path in (*links, *files) if not path.exists()] == []


def _known_keys(load: Callable[[], object]) -> set[str]:
    with pytest.raises(FileFault) as fault:
        load()
    return set(str(fault.value).split("known are ")[1].split(", "))
