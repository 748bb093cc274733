"""The faults by name, each with what is cut, stopped or filled, and for how long. Pure; `injector` does them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from bench.fleet.link_rules import OPEN, LinkRules, isolation, separation
from bench.fleet.network import HOSTS, PORTS

HOLD_SECONDS = 15.0
# Longer than the time after which a standby takes over, and shorter than tests of it want to wait.
POSTGRES_SECONDS = 12.0
SLOW = LinkRules(delay_seconds=0.1, loss=0.02)
CLOCK_SECONDS = 300
KILLED, FROZEN = "kill", "freeze"
SERVERS = ("nats-a", "nats-b", "nats-c", "postgres-primary", "postgres-standby", "s3")
SERVICES = (
    "gateway-a",
    "gateway-b",
    "scheduler-b",
    "scheduler-c",
    "projector-c",
    "projector-a",
    "runner-1",
    "runner-3",
)


class Kind(Enum):
    """How a fault is done."""

    NETWORK = "network"
    KILL_HOST = "kill host"
    FREEZE_HOST = "freeze host"
    KILL = "kill"
    FREEZE = "freeze"
    FILL_DISK = "fill disk"
    MOVE_CLOCK = "move clock"
    UPGRADE = "upgrade"


@dataclass(frozen=True, slots=True)
class Fault:
    """`target` is a host, a program, or the store of a server; `rules` are those of the network meanwhile."""

    name: str
    kind: Kind
    target: str = ""
    seconds: float = HOLD_SECONDS
    rules: LinkRules = OPEN

    @property
    def hosts(self) -> tuple[str, ...]:
        """Hosts on which nothing is repaired meanwhile."""
        if self.kind in (Kind.KILL_HOST, Kind.FREEZE_HOST):
            return (self.target,)
        return tuple(host for host in HOSTS if any(host in cut for cut in self.rules.cuts))


def _network_faults() -> list[Fault]:
    found = [Fault(f"partition-{host}", Kind.NETWORK, rules=LinkRules(isolation(host, PORTS))) for host in HOSTS]
    for one, other in (("a", "b"), ("a", "c"), ("b", "c")):
        found.append(Fault(f"separate-{one}{other}", Kind.NETWORK, rules=LinkRules(separation(one, other))))
    for source, target in (("a", "b"), ("b", "a"), ("a", "c"), ("c", "a"), ("b", "c"), ("c", "b")):
        found.append(Fault(f"oneway-{source}{target}", Kind.NETWORK, rules=LinkRules(frozenset({(source, target)}))))
    for host in HOSTS:
        every = isolation(host, PORTS)
        leaving = frozenset(cut for cut in every if cut[0] == host)
        found.append(Fault(f"mute-{host}", Kind.NETWORK, rules=LinkRules(leaving)))
        found.append(Fault(f"deaf-{host}", Kind.NETWORK, rules=LinkRules(every - leaving)))
    return [*found, Fault("slow", Kind.NETWORK, rules=SLOW)]


def _process_faults() -> list[Fault]:
    found = [Fault(f"kill-host-{host}", Kind.KILL_HOST, host) for host in HOSTS]
    found += [Fault(f"freeze-host-{host}", Kind.FREEZE_HOST, host) for host in HOSTS]
    for target in (*SERVERS, *SERVICES):
        seconds = POSTGRES_SECONDS if target.startswith("postgres") else 5.0
        found.append(Fault(f"kill-{target}", Kind.KILL, target, seconds))
        found.append(Fault(f"freeze-{target}", Kind.FREEZE, target, seconds))
    return found


def _other_faults() -> list[Fault]:
    disks = [Fault(f"fill-nats-{host}", Kind.FILL_DISK, f"nats-{host}") for host in HOSTS]
    disks.append(Fault("fill-postgres-primary", Kind.FILL_DISK, "postgres-primary"))
    clocks = [Fault(f"clock-{host}", Kind.MOVE_CLOCK, host, 40.0) for host in HOSTS]
    return [*disks, *clocks, Fault("upgrade", Kind.UPGRADE, seconds=0.0)]


FAULTS = {fault.name: fault for fault in (*_network_faults(), *_process_faults(), *_other_faults())}


def chosen(names: Sequence[str], seed: int) -> list[Fault]:
    """The faults whose names begin with one of these, all without any, in an order that the seed chooses.

    Errors: ValueError for a name that none begins with.

    >>> [fault.name for fault in chosen(["slow"], seed=1)]
    ['slow']
    """
    for name in names:
        if not any(known.startswith(name) for known in FAULTS):
            raise ValueError(f"no fault begins with {name!r}: `--list` prints their names")
    found = [fault for name, fault in FAULTS.items() if not names or any(map(name.startswith, names))]
    random.Random(seed).shuffle(found)
    return found
