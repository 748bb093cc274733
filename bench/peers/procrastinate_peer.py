"""Procrastinate: a queue in Postgres; each task is a row, inserted, claimed and finished in a transaction each.

Worker: `procrastinate --app bench.peers.procrastinate_peer.app worker --concurrency 64`, woken by LISTEN. A task of a
worker that died stays claimed until someone calls its retry of stalled jobs.
"""

import os

import procrastinate
from bench.peers.load import CONNECTIONS, Peer, main, note

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_QUEUE_URL"], min_size=4, max_size=CONNECTIONS)
)


@app.task(name="note")
async def task(number: int) -> None:
    """Does nothing."""
    note(number)


class ProcrastinatePeer(Peer):
    """An asyncio client."""

    name = "procrastinate"

    async def open(self) -> None:
        await app.open_async()

    async def close(self) -> None:
        await app.close_async()

    async def send(self, number: int) -> None:
        await task.defer_async(number=number)


if __name__ == "__main__":
    main(ProcrastinatePeer())
