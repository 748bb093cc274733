"""Receives assignments: a FastStream subscriber on this runner's own durable consumer.

A push consumer: no pull has to wait, and the server refuses a second process with the same runner id.
"""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from faststream import AckPolicy
from faststream.nats import ConsumerConfig, JStream, NatsBroker, NatsMessage
from faststream.security import BaseSecurity
from loguru import logger

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.events import JobAssigned
from dreamforge.contracts.log import subjects
from dreamforge.contracts.log.envelope import unseal
from dreamforge.contracts.log.permissions import inbox_of, runner_user
from dreamforge.contracts.log.streams import JOBS, runner_consumer
from dreamforge.gpu_runner.supervisor.assignment import ReceivedAssignment
from dreamforge.gpu_runner.supervisor.assignment_consumer import HEADROOM
from dreamforge.runtime.log.bus import PING_SECONDS, PINGS_UNANSWERED
from dreamforge.runtime.log.names import PLAIN_NAMES, Names
from dreamforge.runtime.log.seeds import seed_in
from dreamforge.runtime.tls.client_context import client_context


def assignments_broker(
    nats_url: str,
    runner_id: str,
    take: Callable[[ReceivedAssignment], None],
    names: Names = PLAIN_NAMES,
    *,
    seed_file: Path | None = None,
    ca_file: Path | None = None,
) -> NatsBroker:
    """A broker whose one subscriber gives every assignment to `take`, which must acknowledge its message.

    It has a connection of its own, so that the names on the server are given here.
    No acknowledgement is FastStream's: by default it would terminate a message whose handler raised.
    """
    context = client_context(ca_file, "FORGE_NATS_CA_FILE")
    broker = NatsBroker(
        nats_url.split(","),
        name=f"assignments of {runner_id}",
        inbox_prefix=inbox_of(runner_user(runner_id)),
        nkeys_seed_str=seed_in(seed_file),
        security=None if context is None else BaseSecurity(ssl_context=context),
        logger=None,
        apply_types=False,  # `unseal` has validated already, and injection costs 200 us a message
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        ping_interval=PING_SECONDS,
        max_outstanding_pings=PINGS_UNANSWERED,
    )
    with warnings.catch_warnings():
        # FastStream advises against a durable push consumer because it does not scale out: ours must not.
        warnings.simplefilter("ignore", RuntimeWarning)
        subscriber = broker.subscriber(
            names.on_server(subjects.assignments_to(runner_id)),
            stream=JStream(names.stream(JOBS.name), declare=False),
            durable=runner_consumer(runner_id),
            config=ConsumerConfig(max_ack_pending=HEADROOM),
            ack_policy=AckPolicy.MANUAL,
            decoder=partial(_decode, names),
            no_reply=True,
            title="JobAssigned to this runner",
            description="Attempts that the scheduler gave to this runner; acknowledged once the log has their outcome",
        )

    @subscriber
    async def on_assigned(event: JobAssigned) -> None:
        message: NatsMessage = broker.context.get_local("message")
        raw = message.raw_message
        traceparent = (raw.headers or {}).get("traceparent", "")
        place, is_first = raw.metadata.sequence.stream, raw.metadata.num_delivered == 1
        job_id = subjects.entity_of(names.here(raw.subject))
        take(ReceivedAssignment(job_id, event, message, traceparent, place, is_first))

    return broker


async def _decode(names: Names, message: NatsMessage) -> JobAssigned:
    """The event in a message. Errors: MalformedEvent, once the message is terminated (the projector parks it)."""
    raw = message.raw_message
    try:
        recorded = unseal(names.here(raw.subject), raw.headers, raw.data, sequence=raw.metadata.sequence.stream)
    except MalformedEvent as error:
        logger.warning("terminating a message that cannot be read: {}", error)
        await message.reject()
        raise
    assert isinstance(recorded.event, JobAssigned), "the consumer's filter lets nothing else through"
    return recorded.event
