"""A connection to NATS for one command: who waits for it is a person at a terminal, or a script."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.errors import Error as NatsError

from dreamforge.contracts.errors import DependencyAway
from dreamforge.runtime.log.bus import Bus, is_refused
from dreamforge.runtime.log.streams import connect_as
from dreamforge.runtime.service.settings import CommonSettings

#: A choice: `connect` itself waits without a limit.
CONNECT_SECONDS = 5.0


@asynccontextmanager
async def command_bus(settings: CommonSettings, name: str, *, wait: bool = False) -> AsyncIterator[Bus]:
    """Closed at the end. `wait`: also while nothing listens, which else ends it at once.

    Errors: DependencyAway when NATS does not answer within `CONNECT_SECONDS`, BrokerUnfit.
    """
    where = settings.nats_url.rpartition("@")[2].removeprefix("nats://")  # without its token
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            bus = await connect_as(settings, name, wait=wait)
    except TimeoutError as error:
        reason = f"no answer at {where} within {CONNECT_SECONDS:g} s"
        raise DependencyAway(dependency="nats", reason=reason) from error
    except (NatsError, OSError) as error:
        said = "nothing listens" if is_refused(error) else str(error) or type(error).__name__
        raise DependencyAway(dependency="nats", reason=f"{said} at {where}") from error
    try:
        yield bus
    finally:
        await bus.close()
