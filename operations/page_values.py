"""Values that several parts of the YAML files have: ids, tokens, and where conversions are reported."""

from leads.pages import STAGE_EVENTS, ConversionSettings
from messenger.conversions import LEAD_SUBMITTED, PURCHASE
from runtime.yaml_file import Value

CONVERSION_KEYS = ("data_set", "access_token", "stages")


def is_id(text: str) -> bool:
    return text.isascii() and text.isdigit()


def id_of(value: Value) -> str:
    # Any other text is the id of nothing: no webhook would match it, and nobody would be told.
    if not is_id(value.text()):
        raise value.fault("expected an id, which has digits only")
    return value.text()


def ids_of(value: Value) -> tuple[str, ...]:
    return tuple(map(id_of, value.items()))


def token_of(value: Value) -> str:
    token = value.text()
    # Anything else cannot stand in a header: each call with it would fail after it may have been sent.
    if not token.isascii() or not token.isprintable() or " " in token:
        raise value.fault("the token has a blank, a line break or a letter that no token has: copy it again")
    return token


def conversions_of(value: Value, page_token: str, *, tokens: bool) -> ConversionSettings:
    """Without a token of their own, or without `tokens`, the Page's token serves them too."""
    section = value.section(*CONVERSION_KEYS)
    return ConversionSettings(
        id_of(section.required("data_set")),
        access_token=section.read("access_token", token_of, page_token) if tokens else page_token,
        stages=section.read("stages", _stages, ()),
    )


def _stages(value: Value) -> tuple[tuple[str, str], ...]:
    return tuple((stage, _event(event)) for stage, event in value.section().items())


def _event(value: Value) -> str:
    name = value.text()
    if name == LEAD_SUBMITTED:
        raise value.fault(f"{name} is reported for each complete lead, and for no stage")
    if name == PURCHASE:
        raise value.fault(f"Meta takes {name} with a price and a currency only, and a stage has none")
    return value.choice(*STAGE_EVENTS)
