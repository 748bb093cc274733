"""An Ethernet switch in user space: delays, loses and cuts frames between TAP devices, each way by itself.

Kernels without netem and nftables can be used, and one place decides all faults of the network. Run by
`bench.fleet.network` as `python -m bench.fleet.switch SEED NAME=FD ...`, with the descriptors of the TAP devices:
these stay attached when a device moves to another namespace. Each line of standard input is a JSON document of
`LinkRules` and is confirmed by a line with the numbers of frames so far.
"""

import contextlib
import heapq
import json
import os
import random
import select
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from bench.fleet.link_rules import OPEN, LinkRules

FRAME_BYTES = 65_536
# Frames that are waited for; more are dropped, as by a switch whose buffer is full.
QUEUE_FRAMES = 20_000
# Frames that are read from one port before the others have their turn.
BURST_FRAMES = 64
MULTICAST = 0x01
Send = Callable[[str, bytes], None]


@dataclass
class Switch:
    """Ports by name. Addresses of senders are learnt; a frame for an unknown one goes to every other port."""

    ports: tuple[str, ...]
    send: Send
    chance: random.Random
    rules: LinkRules = OPEN
    forwarded: int = 0
    dropped: int = 0
    _port_of: dict[bytes, str] = field(default_factory=dict)
    _waiting: list[tuple[float, int, str, bytes]] = field(default_factory=list)

    def receive(self, source: str, frame: bytes, now: float) -> None:
        """A frame from a port: sent on at once, later, or never."""
        target_address, source_address = frame[:6], frame[6:12]
        self._port_of[source_address] = source
        target = None if target_address[0] & MULTICAST else self._port_of.get(target_address)
        for port in (target,) if target else self.ports:
            if port != source:
                self._pass_on(source, port, frame, now)

    def _pass_on(self, source: str, target: str, frame: bytes, now: float) -> None:
        delay = self.rules.delay_of(source, target, self.chance.random())
        if delay is None or len(self._waiting) >= QUEUE_FRAMES:
            self.dropped += 1
            return
        self.forwarded += 1
        if delay == 0.0:
            self.send(target, frame)
        else:
            heapq.heappush(self._waiting, (now + delay, self.forwarded, target, frame))

    def send_due(self, now: float) -> float | None:
        """Send what is due; seconds until the next frame is, None without one."""
        while self._waiting and self._waiting[0][0] <= now:
            _, _, target, frame = heapq.heappop(self._waiting)
            self.send(target, frame)
        return self._waiting[0][0] - now if self._waiting else None


def _serve(devices: dict[str, int], seed: int, commands: TextIO) -> None:
    """Until standard input ends."""

    def send(port: str, frame: bytes) -> None:
        with contextlib.suppress(OSError):  # the device is down or its queue is full
            os.write(devices[port], frame)

    switch = Switch(tuple(devices), send, random.Random(seed))
    names = {descriptor: name for name, descriptor in devices.items()}
    poll = select.epoll()
    for descriptor in (*names, commands.fileno()):
        poll.register(descriptor, select.EPOLLIN)
    wait: float | None = None
    while True:
        for descriptor, _ in poll.poll(wait):
            if descriptor in names:
                _read(switch, names[descriptor], descriptor)
            elif not _obey(switch, commands):
                return
        wait = switch.send_due(time.monotonic())


def _read(switch: Switch, name: str, descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        for _ in range(BURST_FRAMES):
            switch.receive(name, os.read(descriptor, FRAME_BYTES), time.monotonic())


def _obey(switch: Switch, commands: TextIO) -> bool:
    line = commands.readline()
    if line:
        switch.rules = LinkRules.of(json.loads(line))
        print(json.dumps({"forwarded": switch.forwarded, "dropped": switch.dropped}), flush=True)
    return bool(line)


if __name__ == "__main__":
    opened = {name: int(descriptor) for name, _, descriptor in (word.partition("=") for word in sys.argv[2:])}
    for each in opened.values():
        os.set_blocking(each, False)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)  # a switch of its own hardware would not wait for the hosts
    _serve(opened, int(sys.argv[1]), sys.stdin)
