"""How far the read tables are, from the NOTIFY of the projector: a read can wait until it sees a write."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from loguru import logger
from psycopg import sql

from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.tables import checkpoint_channel, checkpoints
from dreamforge.gateway.http.errors import ProjectionBehind
from dreamforge.runtime.service import retry
from dreamforge.runtime.storage.postgres import connect, require_own_session

RECONNECT_SECONDS = 1.0
_READ = f"SELECT sequence FROM {checkpoints.name} WHERE stream = %s"


class Checkpoints:
    """The JOBS sequence that the tables have reached, live. One connection a process; no polling."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self.reached = 0
        self.listening = False
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._told: set[Callable[[], None]] = set()

    async def run(self) -> None:
        """Listen until cancelled, reconnecting when Postgres is unavailable. Errors: DatabaseUnfit."""
        async for _ in retry.backoff("the notifications of the projection", cap_seconds=RECONNECT_SECONDS):
            try:
                await self._listen()
            except (psycopg.Error, OSError) as error:
                if self.listening:
                    logger.warning("lost the notifications of the projection: {}", str(error).partition("\n")[0])
            self.listening = False

    async def wait_for(self, sequence: int, timeout_seconds: float) -> None:
        """Return once the tables contain everything up to a sequence. Errors: ProjectionBehind at the time-out."""
        if self.reached >= sequence:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = sequence
        try:
            await asyncio.wait_for(future, timeout_seconds)
        except TimeoutError:
            raise ProjectionBehind(wanted=sequence, reached=self.reached) from None
        finally:
            self._waiting.pop(future, None)

    @contextmanager
    def told(self, on_move: Callable[[], None]) -> Iterator[None]:
        """As long as this runs, call a function after each move."""
        self._told.add(on_move)
        try:
            yield
        finally:
            self._told.discard(on_move)

    def moved(self, sequence: int) -> None:
        """The checkpoint is now here. It goes back only when the tables are rebuilt."""
        self.reached = sequence
        for future in [f for f, wanted in self._waiting.items() if wanted <= sequence and not f.done()]:
            future.set_result(None)
        for tell in self._told:
            tell()

    async def _listen(self) -> None:
        async with await connect(self._database_url, name="dreamforge-listen", connect_seconds=2) as connection:
            await require_own_session(connection, self._database_url)
            here = await (await connection.execute("SELECT current_schema()")).fetchone()
            channel = sql.Identifier(checkpoint_channel(str(here[0] if here else "")))
            await connection.execute(sql.SQL("LISTEN {}").format(channel))  # first, so that no notification is missed
            row = await (await connection.execute(_READ, (JOBS.name,))).fetchone()
            self.moved(int(str(row[0])) if row else 0)
            self.listening = True
            async for notice in connection.notifies():
                stream, _, sequence = notice.payload.partition(" ")
                if stream == JOBS.name and sequence.isdecimal():
                    self.moved(int(sequence))
