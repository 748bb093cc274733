"""Celery with a Redis broker, as its documentation sets it up; results are not kept, which is faster.

Worker: `celery --app bench.peers.celery_peer worker`: prefork, a process for each core, prefetch of 4 each. It takes a
task off the queue before it runs it (its default): a worker that dies loses the tasks that it runs.
"""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import celery
from bench.peers.load import CONNECTIONS, Peer, main, note

app = celery.Celery("bench", broker=os.environ["BENCH_QUEUE_URL"])
app.conf.update(task_ignore_result=True, broker_pool_limit=CONNECTIONS, broker_connection_retry_on_startup=True)


@app.task(name="note")
def task(number: int) -> None:
    """Does nothing."""
    note(number)


class CeleryPeer(Peer):
    """Its client blocks: at full speed each connection has a thread."""

    name = "celery"

    async def send(self, number: int) -> None:
        """In the event loop: a thread between would add its own delay."""
        task.delay(number)

    async def send_all(self, numbers: Iterator[int]) -> None:
        """A thread for each connection, all taking from one iterator."""

        def worker() -> None:
            for number in numbers:
                task.delay(number)

        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            await asyncio.gather(*(loop.run_in_executor(threads, worker) for _ in range(CONNECTIONS)))


if __name__ == "__main__":
    main(CeleryPeer())
