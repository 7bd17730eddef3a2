"""destinations.yaml: what it says, and each fault with its file, line and key."""

from pathlib import Path

import pytest

from leads.rules import When
from operations.destinations import destination_names, destination_variables, load_destinations
from runtime.settings import Settings
from runtime.yaml_file import FileFault
from sinks.deliver.destination import Destination
from tests.receiver import SECRET

ENVIRON = {"CRM_SECRET": SECRET, "CRM_TOKEN": "t0ken-of-crm"}


def settings_with(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "destinations.yaml"
    path.write_text(text, encoding="utf-8")
    return Settings(destinations=path)


def load(tmp_path: Path, keys: str, url: str = "https://crm.example.com/leads") -> Destination:
    text = f"destinations:\n  - name: crm\n    url: {url}\n    secret: ${{CRM_SECRET}}\n{keys}"
    [destination] = load_destinations(settings_with(tmp_path, text), ENVIRON)
    return destination


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    settings = Settings(destinations=tmp_path / "none.yaml")

    assert load_destinations(settings, {}) == ()
    assert destination_names(settings) == ()
    assert destination_variables(settings) == frozenset()


def test_the_smallest_one(tmp_path: Path) -> None:
    destination = load(tmp_path, "")

    assert (destination.when, destination.start, destination.pii, destination.outcomes) == (When(), "now", False, False)
    assert destination.secrets == (SECRET,)
    assert SECRET not in repr(destination)
    assert "crm.example.com" not in repr(destination)


def test_every_key(tmp_path: Path) -> None:
    destination = load(
        tmp_path,
        "    when: {outcome: complete, page: '1', answers: {'City?': {equals: Bern}}}\n"
        "    wait_for: answers\n    outcomes: true\n    pii: true\n"
        "    allow_private: true\n    from: 2026-03-02T12:00\n"
        "    headers: {Authorization: 'Bearer ${CRM_TOKEN}'}\n"
        "    body: {text: '{answers[City?]|?}', n: 5, on: true, list: ['{lead_id}', null]}\n"
        "    erased: {text: 'gone: {lead_id}'}\n",
    )

    assert (destination.when.outcome, destination.when.wait_for) == ("complete", "answers")
    assert destination.headers == {"Authorization": "Bearer t0ken-of-crm"}
    assert destination.body == {"text": "{answers[City?]|?}", "n": 5, "on": True, "list": ["{lead_id}", None]}
    assert f"{destination.start:%Y-%m-%d %H:%M %z}" == "2026-03-02 12:00 +0000"
    assert {"t0ken-of-crm", SECRET} & {part for hidden in destination.hidden for part in hidden.split()}


def test_names_and_variables_need_no_secret(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, "destinations: [{name: crm, url: '${CRM_URL}', secret: '${CRM_SECRET}'}]")

    assert destination_names(settings) == ("crm",)
    assert destination_variables(settings) == {"CRM_URL", "CRM_SECRET"}


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://crm.example.com", "expected https"),
        ("ftp://crm.example.com", "expected an address such as"),
        ("https://", "expected an address such as"),
        ("https://crm.example.com:0/", "expected an address such as"),
        ("'https://crm.exämple.com'", "expected an address such as"),
        ("'https://crm.example.com/a b'", "expected an address such as"),
        ("https://user:word@crm.example.com", "expected no user, password or fragment"),
        ("'https://crm.example.com/#x'", "expected no user, password or fragment"),
        ("https://2130706433/", "neither a name nor an address"),
        ("https://0x7f000001/", "neither a name nor an address"),
        ("https://0x7f.1/", "neither a name nor an address"),
        ("https://0177.0.0.1/", "neither a name nor an address"),
        ("https://127.1/", "neither a name nor an address"),
        ("https://1.2.3.4.5/", "neither a name nor an address"),
        ("https://crm..example.com/", "neither a name nor an address"),
        ("'https://[fe80::1%25eth0]/'", "expected an address such as|neither a name nor an address"),
    ],
)
def test_an_address_that_is_none_is_refused_and_not_shown(tmp_path: Path, url: str, fault: str) -> None:
    with pytest.raises(FileFault, match=fault) as refused:
        load(tmp_path, "", url)

    assert str(refused.value).startswith(f"{tmp_path}/destinations.yaml:3: url: ")
    assert url.strip("'").removeprefix("https://") in ("", "crm.example.com") or url not in str(refused.value)


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ("    headers: {webhook-id: x}\n", "is set by leadstream"),
        ("    headers: {Host: x}\n", "is set by leadstream"),
        ("    headers: {'a b': x}\n", "no name of a header"),
        ('    headers: {A: "x\\r\\nB: y"}\n', "has a line break"),
        ("    headers: {A: ü}\n", "has a line break"),
        ("    headers: {A: x, a: y}\n", "duplicate header"),
        ("    pii: yes please\n", "expected one of true, false"),
        ("    body: '{lead_id}'\n", "expected a mapping or a list"),
        ("    body: {a: '{answers[City?]}'}\n", "answers is personal data: set pii: true"),
        ("    body: {a: '{psid}'}\n", "psid is personal data: set pii: true"),
        ("    body: {a: '{nothing}'}\n", "there is no {nothing} here"),
        ("    body: {a: '{'}\n", "placeholders are"),
        ("    erased: {a: '{psid}'}\n", "there is no {psid} here"),
        ("    from: yesterday\n", "expected now, beginning, or a time"),
        ("    ca_file: /nowhere/ca.pem\n", "expected a file with certificates"),
        ("    wait_for: ever\n", "expected one of answers, handover"),
        ("    when: {outcome: maybe}\n", "expected one of complete, incomplete"),
        ("    retries: 5\n", "unknown key 'retries'"),
        ("  - {name: crm, url: 'https://a.example.com', secret: '${CRM_SECRET}'}\n", "duplicate destination"),
    ],
)
def test_a_wrong_key_is_refused(tmp_path: Path, keys: str, fault: str) -> None:
    with pytest.raises(FileFault, match=fault):
        load(tmp_path, keys)


BAD_SECRETS = ["whsec_", "whsec_c2hvcnQ=", SECRET.removeprefix("whsec_"), "whsec_%%%%", f"whsec_{'A' * 88}"]


@pytest.mark.parametrize("secret", BAD_SECRETS)
def test_a_secret_that_is_none_is_refused_and_not_shown(tmp_path: Path, secret: str) -> None:
    settings = settings_with(
        tmp_path, "destinations: [{name: crm, url: 'https://crm.example.com', secret: ['${CRM_SECRET}', '${OLD}']}]"
    )

    with pytest.raises(FileFault, match="expected whsec_ and 24 to 64 bytes in base64") as refused:
        load_destinations(settings, ENVIRON | {"OLD": secret})
    assert secret == "whsec_" or secret not in str(refused.value)


@pytest.mark.parametrize("name", ["", "CRM", "a b", "a/b", "-a", "a" * 51])
def test_a_name_is_short_and_plain(tmp_path: Path, name: str) -> None:
    text = f"destinations: [{{name: '{name}', url: 'https://a.example.com', secret: '${{CRM_SECRET}}'}}]"

    with pytest.raises(FileFault, match="expected lower-case letters"):
        load_destinations(settings_with(tmp_path, text), ENVIRON)


def test_http_is_for_private_addresses(tmp_path: Path) -> None:
    assert load(tmp_path, "    allow_private: true\n", "http://crm:8080/leads").url == "http://crm:8080/leads"
