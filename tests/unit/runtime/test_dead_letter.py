"""What a dead letter keeps and says."""

from dataclasses import dataclass

from runtime.dead_letter import dead_letter


@dataclass(frozen=True, slots=True)
class _Record:
    topic: str = "orders"
    partition: int = 3
    offset: int = 41
    key: bytes | None = b"k"
    value: bytes | None = b"\x00\xff not ours"
    headers: tuple[tuple[str, bytes], ...] = ()


def test_key_and_value_are_the_bytes_that_came() -> None:
    key, value, _ = dead_letter(_Record(), stage="decode", reason="too short", fault="NotDecodable")

    assert (key, value) == (b"k", b"\x00\xff not ours")


def test_headers_say_where_from_and_why_in_connects_names() -> None:
    _, _, headers = dead_letter(_Record(), stage="decode", reason="too short", fault="NotDecodable")

    assert dict(headers) == {
        "__connect.errors.topic": b"orders",
        "__connect.errors.partition": b"3",
        "__connect.errors.offset": b"41",
        "__connect.errors.stage": b"decode",
        "__connect.errors.class.name": b"decode",
        "__connect.errors.exception.class.name": b"NotDecodable",
        "__connect.errors.exception.message": b"too short",
    }


def test_a_second_refusal_replaces_the_first_and_keeps_the_records_own_headers() -> None:
    record = _Record(headers=(("received-at", b"1"), ("__connect.errors.topic", b"elsewhere")))

    _, _, headers = dead_letter(record, stage="decode", reason="too short", fault="NotDecodable")

    assert headers[0] == ("received-at", b"1")
    assert [value for name, value in headers if name == "__connect.errors.topic"] == [b"orders"]
