"""taskiq with a Redis stream, its broker that acknowledges tasks after they have run.

Worker: `taskiq worker bench.peers.taskiq_peer:broker`: two processes. A task of a worker that died is taken up again
after ten minutes (`idle_timeout`).
"""

import os

from bench.peers.load import CONNECTIONS, Peer, main, note
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(os.environ["BENCH_QUEUE_URL"], max_connection_pool_size=CONNECTIONS)


@broker.task(task_name="note")
async def task(number: int) -> None:
    """Does nothing."""
    note(number)


class TaskiqPeer(Peer):
    """An asyncio client."""

    name = "taskiq"

    async def open(self) -> None:
        await broker.startup()

    async def close(self) -> None:
        await broker.shutdown()

    async def send(self, number: int) -> None:
        await task.kiq(number)


if __name__ == "__main__":
    main(TaskiqPeer())
