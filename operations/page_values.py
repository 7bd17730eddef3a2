"""Values that several parts of the YAML files have: ids and tokens."""

from runtime.yaml_file import Value


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
