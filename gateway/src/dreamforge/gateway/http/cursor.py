"""Where a client continues: opaque page cursors for lists, and event ids for streams. Pure."""

import base64
import re
import struct
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from dreamforge.gateway.http.errors import Malformed

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PAGE = struct.Struct(">q16s")
# 18 digits always fit a sequence (2**63 has 19).
EVENT_ID_PATTERN = "^([0-9]{1,18}-[0-9]{1,18}(-[0-9a-f]{8})?)?$"
_EVENT_ID = re.compile(r"([0-9]{1,18})-([0-9]{1,18})(?:-([0-9a-f]{8}))?", re.ASCII)
SEQUENCE_MAX = 2**63 - 1
# Times below 2**57 microseconds (the year 6537) are valid in Python and Postgres, so every text of this form is a
# valid cursor, and only the form has to be checked.
_MICROSECONDS_BITS = 57
PAGE_PATTERN = "^A[A-Za-f][A-Za-z0-9_-]{30}$"
_PAGE_SHAPE = re.compile(PAGE_PATTERN[1:-1], re.ASCII)


@dataclass(frozen=True, slots=True)
class PageCursor:
    """The last job of a page; the next page is what comes after it in (requested_at, job_id), newest first."""

    requested_at: datetime
    job_id: str

    def encode(self) -> str:
        """Opaque to clients, so that we may change it."""
        microseconds = (self.requested_at - _EPOCH) // timedelta(microseconds=1)
        if microseconds >> _MICROSECONDS_BITS:
            raise ValueError(f"{self.requested_at} is out of range")
        return base64.urlsafe_b64encode(_PAGE.pack(microseconds, UUID(self.job_id).bytes)).decode()

    @classmethod
    def decode(cls, text: str) -> "PageCursor":
        """Errors: Malformed for anything that `encode` did not make."""
        if _PAGE_SHAPE.fullmatch(text) is None:
            raise Malformed(parameter="cursor", expected="the next_cursor of an earlier page")
        microseconds, job_id = _PAGE.unpack(base64.urlsafe_b64decode(text))
        return cls(_EPOCH + timedelta(microseconds=microseconds), str(UUID(bytes=job_id)))


@dataclass(frozen=True, slots=True)
class EventCursor:
    """What the client of a stream has: every fact up to `facts` (JOBS) and every step up to `steps` (STEPS).

    `log` is the end of the identity of the log that both count in; "" in the ids of older releases.
    """

    facts: int = 0
    steps: int = 0
    log: str = ""

    def __str__(self) -> str:
        return f"{self.facts}-{self.steps}-{self.log}" if self.log else f"{self.facts}-{self.steps}"

    def in_log(self, log: str) -> "EventCursor":
        """The cursor in this log: the beginning, where it counts in another one.

        >>> str(EventCursor(12, 34, "aa").in_log("bb")), str(EventCursor(12, 34).in_log("bb"))
        ('0-0-bb', '12-34-bb')
        """
        return EventCursor(log=log) if self.log not in ("", log) else replace(self, log=log)

    @classmethod
    def parse(cls, text: str) -> "EventCursor":
        """Read an event id back.

        Errors: Malformed for anything that is not one.

        >>> EventCursor.parse("12-34-5c9e01ab")
        EventCursor(facts=12, steps=34, log='5c9e01ab')
        """
        match = _EVENT_ID.fullmatch(text)
        if match is None:
            raise Malformed(parameter="Last-Event-ID", expected="the id of an event, like 1042-77-5c9e01ab")
        return cls(int(match[1]), int(match[2]), match[3] or "")
