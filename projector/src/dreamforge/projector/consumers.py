"""Durable consumers of the projector: one parks undeliverable messages, one retries parked messages on request.

Unlike a fold, each message is handled by any one projector and acknowledged when that is done; the server keeps their
position.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import psycopg
from loguru import logger
from nats.aio.msg import Msg
from prometheus_client import Counter
from pydantic import BaseModel, Field, ValidationError

from dreamforge.contracts.errors import DependencyAway, MalformedEvent
from dreamforge.contracts.installation_events import MessageParked, ParkedSettled
from dreamforge.contracts.log import streams
from dreamforge.contracts.log.envelope import COPIED_FROM, unseal, unseal_or_none
from dreamforge.contracts.log.subjects import entity_of
from dreamforge.contracts.validation import describe_validation_error
from dreamforge.projector.parking import Park
from dreamforge.projector.projector import Projector
from dreamforge.projector.writing.stream_projection import is_permanent
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import NATS_ERRORS, ApiError, Bus, refusal
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.service import retry

Handler = Callable[[Msg], Awaitable[None]]
NANOSECONDS = 1_000_000_000
ACK_SECONDS = 30
# A message that fails because a server is away comes again after a pause that doubles up to a minute.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
# A week of the longest pauses, as long as advisories are kept; then it is parked, like one that can never succeed.
MAX_DELIVERIES = 10_000
FETCH_MESSAGES, FETCH_SECONDS = 50, 5.0
PASSING = (DependencyAway, ApiError, psycopg.Error, *NATS_ERRORS)
HANDLED = Counter("forge_consumed_messages_total", "Messages of the projector's consumers", ["consumer", "outcome"])


class Advisory(BaseModel):
    """What nats-server says about a message that a consumer will not get again."""

    stream_seq: int = Field(ge=1)
    deliveries: int = 1


async def consume(bus: Bus, stream: str, durable: str, handle: Handler, park: Park) -> None:
    """Handle each message of a stream once, until cancelled.

    While a server is away it is delivered again, later and later; what cannot be handled is parked.
    Errors: BrokerUnfit when the server refuses such a consumer.
    """
    while True:
        async for attempt in retry.backoff(f"consumer {durable}"):
            try:
                await _consume(bus, stream, durable, handle, park)
            except (DependencyAway, *NATS_ERRORS) as error:
                if attempt > 1:
                    logger.warning("not consuming {}: {}", stream, str(error) or type(error).__name__)


async def _consume(bus: Bus, stream: str, durable: str, handle: Handler, park: Park) -> None:
    config = {"durable_name": durable, "ack_policy": "explicit", "ack_wait": ACK_SECONDS * NANOSECONDS}
    request = {"stream_name": stream, "config": config, "action": ""}
    try:
        await bus.request(f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{durable}", request)
    except ApiError as error:
        raise refusal(error, f"consumer {durable} of stream {stream}") from error
    subscription = await bus.js.pull_subscribe_bind(consumer=durable, stream=stream)
    try:
        while True:
            messages: list[Msg] = []
            with suppress(TimeoutError):  # nats-py's own, and asyncio's where its time ends between its two requests
                messages = await subscription.fetch(FETCH_MESSAGES, timeout=FETCH_SECONDS)
            for message in messages:
                outcome = await _handled(message, handle, park, stream)
                HANDLED.labels(durable, outcome).inc()
    finally:
        if bus.connected:
            await subscription.unsubscribe()


async def _handled(message: Msg, handle: Handler, park: Park, stream: str) -> str:
    """Handle one message; what came of it, for the metric."""
    tries = message.metadata.num_delivered
    try:
        if COPIED_FROM in (message.headers or {}):
            raise MalformedEvent(
                subject=message.subject, reason="the server copied it here, as the answer to a request"
            )
        await handle(message)
    except Exception as error:  # whatever a message makes of our code, the next one must be handled
        if _passes(error) and tries < MAX_DELIVERIES:
            logger.warning("will try again: {}", error)
            await message.nak(delay=pause_seconds(tries))
            return "again"
        sequence = message.metadata.sequence.stream
        reason = f"it cannot be handled: {str(error) or type(error).__name__}"
        await park(stream, LogMessage(message.subject, message.headers or {}, message.data, sequence), reason)
        await message.ack()
        return "parked"
    await message.ack()
    return "handled"


def _passes(error: Exception) -> bool:
    """Whether the cause may end by itself: a server is away, or another process writes."""
    return isinstance(error, PASSING) and not is_permanent(error)


def pause_seconds(tries: int) -> float:
    """Until a message is delivered again that was tried so often.

    >>> pause_seconds(1), pause_seconds(3), pause_seconds(10_000)
    (1.0, 4.0, 60.0)
    """
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(tries - 1, 10))


def park_undeliverable(bus: Bus, park: Park) -> Handler:
    """Handles advisories of nats-server that a message will not be delivered again: parks it, where users see it.

    Those of other streams, or of consumers that are not ours, concern others.
    """

    async def handle(message: Msg) -> None:
        stream, consumer = message.subject.split(".")[-2:]
        if not streams.is_own_consumer(stream, consumer):
            return
        advisory = _advisory(message)
        found = await direct_get.one(bus, stream, advisory.stream_seq)
        reason = f"consumer {consumer} will not get it again after {advisory.deliveries} deliveries"
        await park(stream, found or LogMessage("", {}, b"", advisory.stream_seq), reason, tries=advisory.deliveries)

    return handle


def _advisory(message: Msg) -> Advisory:
    """Errors: MalformedEvent."""
    try:
        return Advisory.model_validate_json(message.data)
    except ValidationError as error:
        _, problem = describe_validation_error(error, maximum=1)[0]
        raise MalformedEvent(subject=message.subject, reason=f"no advisory of nats-server: {problem}") from error


def retry_parked(bus: Bus, projector: Projector, park: Park) -> Handler:
    """Handles requests to retry a parked message: folds its job again; what still fails is parked again."""

    async def handle(message: Msg) -> None:
        recorded = unseal_or_none(message.subject, message.headers, message.data, sequence=1)
        event = recorded.event if recorded else None
        if not isinstance(event, ParkedSettled) or event.action != "retry":
            return
        parked = await _parked(bus, event.parked_sequence)
        if parked is None or parked.stream != streams.JOBS.name:
            return
        for item in await projector.refold(entity_of(parked.subject)):
            await park(parked.stream, item.message, item.problem, tries=parked.deliveries + 1)

    return handle


async def _parked(bus: Bus, sequence: int) -> MessageParked | None:
    found = await direct_get.one(bus, streams.PARKED.name, sequence)
    if found is None:
        return None
    event = unseal(found.subject, found.headers, found.data, sequence=sequence).event
    return event if isinstance(event, MessageParked) else None
