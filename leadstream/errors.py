"""The errors of the client: ClientError, with UnreadableRecord under it."""

from runtime.mendable import Mendable


class ClientError(Mendable):
    """Reading or writing cannot go on. The message is one line that says what is wrong and what to do.

    It holds no secret and no personal data.
    """


class UnreadableRecord(ClientError):
    """A record of `leads` that is no lead.

    `reason` is a code of "Refused records" in docs/reasons.md, or `no_key` of an erasure that names no lead. The
    message names the place and holds no personal data; `key` and `value` are the record's bytes, which may. Ask for the
    next record to go on behind it.
    """

    def __init__(
        self, *, topic: str, partition: int, offset: int, reason: str, key: bytes | None, value: bytes | None
    ) -> None:
        super().__init__(f"{topic}/{partition}: the record at offset {offset} cannot be read: {reason}")
        self.topic, self.partition, self.offset, self.reason = topic, partition, offset, reason
        self.key, self.value = key, value
