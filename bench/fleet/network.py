"""Three hosts as network namespaces, and the client's port in our own, joined by the switch of `bench.fleet.switch`."""

import asyncio
import fcntl
import json
import os
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.fleet.link_rules import OPEN, LinkRules

HOSTS = ("a", "b", "c")
# Where the clients are: the port in our own namespace, which reaches every host as a load balancer does.
CLIENT = "client"
PORTS = (*HOSTS, CLIENT)
NETWORK_BITS = 24
ADDRESSES = {port: f"10.77.0.{number}" for number, port in enumerate(PORTS, 1)}
# Fewer and larger frames: each costs the switch about the same.
MTU_BYTES = 16_000
TAP_DEVICE = "/dev/net/tun"
SET_TAP = 0x400454CA  # TUNSETIFF of linux/if_tun.h
TAP_WITHOUT_HEADER = 0x0002 | 0x1000  # IFF_TAP | IFF_NO_PI


def namespace(host: str) -> str:
    """The network namespace of a host."""
    return f"dreamforge-{host}"


def inside(host: str, *command: str) -> tuple[str, ...]:
    """A command that runs in the namespace of a host, under the pid of what is started."""
    return ("ip", "netns", "exec", namespace(host), *command)


def problem_here() -> str:
    """Why this machine cannot do it; "" when it can."""
    if sys.platform != "linux":
        return "network namespaces are a feature of Linux"
    if os.geteuid() != 0:
        return "it needs root, to make network namespaces and TAP devices"
    if not Path(TAP_DEVICE).exists():
        return f"{TAP_DEVICE} is missing: load the kernel module tun"
    return ""


@dataclass
class Network:
    """The namespaces and the switch, while it is entered. `frames` counts what the switch did."""

    seed: int
    rules: LinkRules = OPEN
    frames: dict[str, int] = field(default_factory=dict)
    _switch: "asyncio.subprocess.Process | None" = None
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __aenter__(self) -> Self:
        remove_namespaces()
        taps = {port: _tap(f"forge-{port}") for port in PORTS}
        try:
            for number, port in enumerate(PORTS, 1):
                _attach(port, number)
            words = [f"{port}={descriptor}" for port, descriptor in taps.items()]
            self._switch = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bench.fleet.switch", str(self.seed), *words),
                pass_fds=tuple(taps.values()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C stops us first
            )
        finally:
            for descriptor in taps.values():
                os.close(descriptor)
        await self.change(OPEN)
        return self

    async def change(self, rules: LinkRules) -> None:
        """Returns once the switch obeys these rules."""
        async with self._changing:
            assert self._switch is not None
            commands, answers = self._switch.stdin, self._switch.stdout
            assert commands is not None
            assert answers is not None
            commands.write(json.dumps(rules.document()).encode() + b"\n")
            self.frames = json.loads(await answers.readline())
            self.rules = rules

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._switch is not None and self._switch.stdin is not None:
            self._switch.stdin.close()
            await self._switch.wait()
        remove_namespaces()


def remove_namespaces() -> None:
    """Also those that an earlier run left behind."""
    for host in HOSTS:
        subprocess.run(["ip", "netns", "delete", namespace(host)], check=False, capture_output=True)


def _tap(name: str) -> int:
    """The descriptor of a new TAP device; the device is gone when every copy of it is closed."""
    descriptor = os.open(TAP_DEVICE, os.O_RDWR)
    fcntl.ioctl(descriptor, SET_TAP, struct.pack("16sH22x", name.encode(), TAP_WITHOUT_HEADER))
    return descriptor


def _attach(port: str, number: int) -> None:
    """Give a device its place, hardware address and address, and its namespace a loopback."""
    device = f"forge-{port}"
    within = ["ip"]
    if port in HOSTS:
        within = ["ip", "-n", namespace(port)]
        _run("ip", "netns", "add", namespace(port))
        _run("ip", "link", "set", device, "netns", namespace(port))
        _run(*within, "link", "set", "lo", "up")
    _run(*within, "link", "set", device, "address", f"02:00:00:00:00:{number:02x}", "mtu", str(MTU_BYTES))
    _run(*within, "address", "add", f"{ADDRESSES[port]}/{NETWORK_BITS}", "dev", device)
    _run(*within, "link", "set", device, "up")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
