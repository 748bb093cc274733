"""This runner's own durable consumer, as the server keeps it. `assignments` receives from it."""

from dreamforge.contracts.log import subjects
from dreamforge.contracts.log.streams import JOBS, runner_consumer
from dreamforge.runtime.log.bus import ApiError, Bus, refusal

#: Silence after which the server delivers again. Renewed while an attempt runs (see `attempt_manager`).
ACK_WAIT_SECONDS = 10
#: Deliveries beyond the attempts at a time: dropped or refused ones, and the next one while the last is acked.
HEADROOM = 8
NANOSECONDS = 1_000_000_000


async def ensure_consumer(bus: Bus, runner_id: str, *, attempts: int) -> None:
    """Make the durable consumer, or give the one that is there our settings.

    Errors: DependencyAway; BrokerUnfit when the server refuses it.
    """
    name, subject = runner_consumer(runner_id), subjects.assignments_to(runner_id)
    config = {
        "durable_name": name,
        "name": name,
        "description": f"assignments to runner {runner_id}",
        "deliver_subject": subjects.deliveries_to(runner_id),
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": ACK_WAIT_SECONDS * NANOSECONDS,
        "max_deliver": -1,
        "max_ack_pending": attempts + HEADROOM,
        "filter_subject": subject,
        "replay_policy": "instant",
    }
    request = {"stream_name": JOBS.name, "config": config}
    try:
        await bus.request(f"$JS.API.CONSUMER.CREATE.{JOBS.name}.{name}.{subject}", request)
    except ApiError as error:
        raise refusal(error, f"consumer {name} of stream {JOBS.name}") from error
