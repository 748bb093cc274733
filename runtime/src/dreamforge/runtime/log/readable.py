"""One message as the event it holds, or nothing."""

from loguru import logger

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.log.envelope import Recorded, unseal
from dreamforge.runtime.log.message import LogMessage


def readable(message: LogMessage) -> Recorded | None:
    """The event in a message; None, with a log line, if the message cannot be read."""
    try:
        return unseal(message.subject, message.headers, message.data, sequence=message.sequence)
    except MalformedEvent as error:
        logger.warning("ignoring message {}: {}", message.sequence, error)
        return None
