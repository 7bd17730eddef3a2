"""The erasure register: everything received of a person up to a time is ignored. It holds keyed hashes, never ids.

A PSID has too few digits for a bare hash. The hash's key lies in the register too, so that whoever holds the register
can still test one id, and nobody can use a table made elsewhere (decision 0006).
"""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

from leads.facts import JoinEvent, PersonErased
from messenger.events import PageId, Psid, person_key

SALT = b"salt/"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Erasures:
    """Reads the records of the register in their order, and says what is erased."""

    def __init__(self) -> None:
        self._salts: list[bytes] = []
        self._until: dict[bytes, datetime] = {}

    def __len__(self) -> int:
        """How many people are erased."""
        return len(self._until)

    @property
    def salt(self) -> bytes | None:
        """The key to hash the next person with; None in an empty register."""
        return self._salts[0] if self._salts else None

    def note(self, key: bytes | None, value: bytes | None) -> None:
        """Take one record in. Raises `ValueError` for a value that is none of ours."""
        if key is None or value is None:
            return
        if key.startswith(SALT):
            # Two first erasures at the same time leave two salts: people hashed with either stay erased.
            if value not in self._salts:
                self._salts.append(value)
            return
        until = _EPOCH + int(value) * _MILLISECOND
        self._until[key] = max(until, self._until.get(key, until))

    def until(self, page_id: PageId, psid: Psid) -> datetime | None:
        """The time up to which everything of this person is erased; None without an erasure."""
        if not self._until:
            return None
        found = (self._until.get(register_key(salt, page_id, psid)) for salt in self._salts)
        return max((until for until in found if until is not None), default=None)

    def cover(self, page_id: PageId, psid: Psid | None, *moments: datetime) -> bool:
        """Whether an event of this person with any of these times is erased."""
        until = None if psid is None else self.until(page_id, psid)
        return until is not None and min(moments) <= until

    def kill(self, event: JoinEvent) -> bool:
        """Whether an event happened or was received before its person was erased; never true of the erasure itself."""
        if isinstance(event, PersonErased):
            return False
        return self.cover(event.page_id, event.psid, event.event_at, event.received_at)


NOBODY = Erasures()


def register_key(salt: bytes, page_id: PageId, psid: Psid) -> bytes:
    """The key of a person in the register."""
    return hmac.digest(salt, person_key(page_id, psid).encode(), "sha256").hex().encode()


def salt_record(salt: bytes) -> tuple[bytes, bytes]:
    """The key and value that put a salt into the register."""
    return SALT + hashlib.sha256(salt).hexdigest()[:16].encode(), salt


def erasure_record(salt: bytes, page_id: PageId, psid: Psid, until: datetime) -> tuple[bytes, bytes]:
    """The key and value that erase everything of a person up to a time."""
    return register_key(salt, page_id, psid), b"%d" % ((until - _EPOCH) // _MILLISECOND)
