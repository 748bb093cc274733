"""Places to go on from: opaque page cursors for lists, and event ids for streams. Pure."""

import base64
import binascii
import re
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from dreamforge.gateway.errors import Malformed

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PAGE = struct.Struct(">q16s")
_EVENT_ID = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)
SEQUENCE_MAX = 2**63 - 1
# Postgres and Python agree on years up to 9999; a forged cursor must not reach the database with another.
_MICROSECONDS_MAX = 253_402_300_800 * 1_000_000 - 1


@dataclass(frozen=True, slots=True)
class PageCursor:
    """The last job of a page; the next page is what comes after it in (requested_at, job_id), newest first."""

    requested_at: datetime
    job_id: str

    def encode(self) -> str:
        """Opaque to clients, so that we may change it."""
        microseconds = (self.requested_at - _EPOCH) // timedelta(microseconds=1)
        return base64.urlsafe_b64encode(_PAGE.pack(microseconds, UUID(self.job_id).bytes)).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> "PageCursor":
        """Errors: Malformed for anything that `encode` did not make."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            microseconds, job_id = _PAGE.unpack(raw)
            if not 0 <= microseconds <= _MICROSECONDS_MAX:
                raise ValueError(microseconds)
        except (ValueError, struct.error, binascii.Error):
            raise Malformed(parameter="cursor", expected="the next_cursor of an earlier page") from None
        cursor = cls(_EPOCH + timedelta(microseconds=microseconds), str(UUID(bytes=job_id)))
        if cursor.encode() != text:  # one cursor, one spelling
            raise Malformed(parameter="cursor", expected="the next_cursor of an earlier page")
        return cursor


@dataclass(frozen=True, slots=True)
class EventCursor:
    """What a stream's client has seen: every fact up to `facts` (JOBS) and every step up to `steps` (STEPS)."""

    facts: int = 0
    steps: int = 0

    def __str__(self) -> str:
        return f"{self.facts}-{self.steps}"

    @classmethod
    def parse(cls, text: str) -> "EventCursor":
        """Read an event id back.

        Errors: Malformed for anything that is not one.

        >>> EventCursor.parse("12-34")
        EventCursor(facts=12, steps=34)
        """
        match = _EVENT_ID.fullmatch(text)
        if match is None or max(facts := int(match[1]), steps := int(match[2])) > SEQUENCE_MAX:
            raise Malformed(parameter="Last-Event-ID", expected="the id of an event, like 1042-77")
        return cls(facts, steps)
