"""Reads the weights of a model into the page cache while another one renders: its load then waits for no disk.

Nothing here imports torch, and nothing is loaded: what a file holds is the kernel's to keep or to drop.
"""

import asyncio
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger
from nats.aio.msg import Msg
from pydantic import ValidationError

from dreamforge.contracts.fleet import NextModel
from dreamforge.contracts.log.subjects import next_model_of
from dreamforge.contracts.readable_sizes import readable_size
from dreamforge.gpu_runner.machine.memory import system_memory
from dreamforge.gpu_runner.machine.page_cache import SHARE, read_ahead
from dreamforge.gpu_runner.supervisor.local_models import LocalModel
from dreamforge.runtime import clock
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.storage.weight_files import weight_files

#: A model that was read so lately is still there, unless memory ran short; then reading it again would not help.
FRESH_SECONDS = 60.0


@dataclass(slots=True)
class ModelReadAhead:
    """One model at a time; a newer wish ends the one before."""

    models: Mapping[str, LocalModel]
    #: What is loaded already.
    resident: Callable[[], Collection[str]]
    free_bytes: Callable[[], int] = lambda: system_memory().free_bytes
    #: What was read: bytes by model id, and when.
    read: dict[str, tuple[int, float]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _reading: "asyncio.Task[None] | None" = None
    _model_id: str = ""

    async def listen(self, bus: Bus, runner_id: str) -> None:
        """Take the scheduler's hints until cancelled; one that cannot be read is none."""
        subscription = await bus.nc.subscribe(next_model_of(runner_id), cb=self._hear)
        try:
            await asyncio.Event().wait()
        finally:
            self.stop()
            await subscription.unsubscribe()

    def want(self, *model_ids: str) -> None:
        """Begin to read the first of these that is not loaded, is not being read, and was not read a moment ago."""
        for model_id in model_ids:
            if self._is_worth_it(model_id):
                self.stop()
                self._model_id, self._stop = model_id, threading.Event()
                self._reading = asyncio.create_task(self._read(model_id, self.models[model_id].folder, self._stop))
                return

    def stop(self) -> None:
        """Read no further."""
        self._stop.set()
        self._model_id = ""

    async def finished(self) -> None:
        """Once nothing is being read."""
        if self._reading is not None:
            await asyncio.wait({self._reading})

    def _is_worth_it(self, model_id: str) -> bool:
        if model_id not in self.models or model_id in self.resident() or model_id == self._model_id:
            return False
        _, at = self.read.get(model_id, (0, -FRESH_SECONDS))
        return clock.monotonic_seconds() - at >= FRESH_SECONDS

    async def _read(self, model_id: str, folder: Path, stop: threading.Event) -> None:
        began = clock.monotonic_seconds()
        files = await asyncio.to_thread(weight_files, folder)
        limit_bytes = int(self.free_bytes() * SHARE)
        count = await asyncio.to_thread(read_ahead, files, limit_bytes=limit_bytes, stop=stop)
        if stop.is_set():
            return
        self.read[model_id] = (count, clock.monotonic_seconds())
        self._model_id = ""
        if count:
            seconds = clock.monotonic_seconds() - began
            logger.info("read ahead: {} of model {} in {:.2f} s", readable_size(count), model_id, seconds)

    async def _hear(self, message: Msg) -> None:
        try:
            self.want(NextModel.model_validate_json(message.data).model_id)
        except ValidationError as error:
            logger.warning("a hint that cannot be read: {}", error)
