"""The lease of a service's leader, and which values under its key are believed. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from pydantic import AwareDatetime, Field, ValidationError

from dreamforge.contracts.log.streams import LEADER_LEASE_SECONDS
from dreamforge.contracts.models.descriptor import Value

LEASE_HEADERS = {"Nats-TTL": f"{LEADER_LEASE_SECONDS}s"}
# The server ends a lease, so none is older; this bounds only how far clocks may differ.
BELIEVED_SECONDS = 10.0
# A message that the server itself copied from a stream, on behalf of a reader.
COPIED = "Nats-Stream"


class LeaderLease(Value):
    """Who leads, and when it said so."""

    instance_id: str = Field(min_length=1, max_length=200)
    at: AwareDatetime


def holder_of(data: bytes, headers: Mapping[str, str], now: datetime) -> str | None:
    """The instance that holds the lease; None where the key is free, or its value is no lease of ours.

    A lease ends by itself (it has our time to live), says when it was taken, and was written by its holder. Any other
    value would keep every scheduler from leading.

    >>> from datetime import UTC
    >>> holder_of(b"a name alone", LEASE_HEADERS, datetime(2026, 1, 1, tzinfo=UTC)) is None
    True
    """
    try:
        lease = LeaderLease.model_validate_json(data)
    except ValidationError:
        return None
    lasts = all(headers.get(name) == value for name, value in LEASE_HEADERS.items())
    if not lasts or COPIED in headers or abs(now - lease.at) > timedelta(seconds=BELIEVED_SECONDS):
        return None
    return lease.instance_id
