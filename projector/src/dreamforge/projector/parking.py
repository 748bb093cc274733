"""Parking: a message that cannot be processed is copied to the PARKED stream, and its own stream continues."""

from collections.abc import Awaitable
from typing import Protocol

from loguru import logger
from nats.js.errors import APIError as JetStreamApiError

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.installation_events import MessageParked
from dreamforge.contracts.log.envelope import seal
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.bus import NATS_ERRORS, Bus, refusal
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.service import retry
from dreamforge.runtime.service.telemetry import PARKED

SERVICE = "projector"
# A parked event must itself fit into a message, nats-server's max_payload of 1 MiB: 512 KiB of data are 683 KiB as
# base64, 32 headers of 500 characters at most 188 KiB as JSON escapes.
MAX_DATA_BYTES = 512 * 1024
MAX_HEADERS, MAX_CHARACTERS = 32, 500


class Park(Protocol):
    """Parks a message for a reason; `tries` is how often it was tried."""

    def __call__(self, stream: str, message: LogMessage, reason: str, *, tries: int = 1) -> Awaitable[None]: ...


def parked_event(stream: str, message: LogMessage, reason: str, tries: int = 1) -> MessageParked:
    """The message as an event, shortened where it would not fit."""
    headers = list(message.headers.items())[:MAX_HEADERS]
    return MessageParked(
        at=clock.now(),
        stream=stream,
        sequence=message.sequence,
        subject=_plain(message.subject),
        service=SERVICE,
        reason=_plain(reason),
        headers={_plain(name): _plain(value) for name, value in headers},
        data=message.data[:MAX_DATA_BYTES],
        deliveries=max(1, tries),
    )


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:MAX_CHARACTERS]


def park_on_bus(bus: Bus, source: str) -> Park:
    """Park on the bus; returns once the message is stored, since only then may a checkpoint pass it.

    Errors, of the function that is returned: BrokerUnfit when the server refuses such a message.

    The message id makes the server drop a second copy of the same message, as after a crash.
    """

    async def park(stream: str, message: LogMessage, reason: str, *, tries: int = 1) -> None:
        event = parked_event(stream, message, reason, tries)
        envelope = seal(event, entity_id=SERVICE, event_id=ids.new_id(), source=source)
        headers = envelope.headers | {"Nats-Msg-Id": f"{SERVICE}:{stream}:{message.sequence}:{tries}"}

        async def publish() -> None:
            try:
                await bus.js.publish(envelope.subject, envelope.data, headers=headers)
            except JetStreamApiError as error:
                raise refusal(error, "a parked message") from error

        await retry.until_it_works("the stream of parked messages", publish, DependencyAway, *NATS_ERRORS)
        PARKED.labels(stream).inc()
        logger.warning("parked {} {} on {}: {}", stream, message.sequence, event.subject, event.reason)

    return park


async def park_nothing(stream: str, message: LogMessage, reason: str, *, tries: int = 1) -> None:
    """Parks nothing: for rebuilding, since such messages were parked when they were new."""
