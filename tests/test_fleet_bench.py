"""The pure parts of `bench.fleet`: what its switch does with frames, and which faults there are."""

import random
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
sys.path.append(str(REPOSITORY))  # benchmarks belong to no distribution
from bench.fleet.failover_rule import PairView, Step, next_step  # noqa: E402
from bench.fleet.faults import FAULTS, Kind, chosen  # noqa: E402
from bench.fleet.link_rules import LinkRules, isolation  # noqa: E402
from bench.fleet.network import HOSTS, PORTS  # noqa: E402
from bench.fleet.placement import POSTGRES_HOSTS, SERVICES  # noqa: E402
from bench.fleet.switch import QUEUE_FRAMES, Switch  # noqa: E402

sys.path.remove(str(REPOSITORY))

Sent = list[tuple[str, bytes]]
ADDRESS = {port: bytes([2, 0, 0, 0, 0, number]) for number, port in enumerate(PORTS)}
BROADCAST = b"\xff" * 6


def frame(source: str, target: str = "", text: bytes = b"") -> bytes:
    return (ADDRESS[target] if target else BROADCAST) + ADDRESS[source] + text


@pytest.fixture
def sent() -> Sent:
    return []


@pytest.fixture
def switch(sent: Sent) -> Switch:
    """It has heard from every port."""
    made = Switch(PORTS, lambda port, data: sent.append((port, data)), random.Random(1))
    for port in PORTS:
        made.receive(port, frame(port), 0.0)
    sent.clear()
    return made


def test_a_frame_goes_to_the_port_of_its_address_and_a_broadcast_to_all_others(switch: Switch, sent: Sent) -> None:
    switch.receive("a", frame("a", "b"), 1.0)
    switch.receive("a", frame("a"), 1.0)
    assert [port for port, _ in sent] == ["b", "b", "c", "client"]


def test_a_cut_is_one_way_and_an_isolated_host_reaches_no_other(switch: Switch, sent: Sent) -> None:
    switch.rules = LinkRules(frozenset({("a", "b")}))
    switch.receive("a", frame("a", "b"), 1.0)
    switch.receive("b", frame("b", "a"), 1.0)
    assert [port for port, _ in sent] == ["a"]
    sent.clear()
    switch.rules = LinkRules(isolation("a", PORTS))
    for port in PORTS:
        switch.receive(port, frame(port), 1.0)
    assert sorted(port for port, _ in sent) == ["b", "b", "c", "c", "client", "client"]


def test_delayed_frames_arrive_in_order_after_the_delay(switch: Switch, sent: Sent) -> None:
    switch.rules = LinkRules(delay_seconds=0.1)
    switch.receive("a", frame("a", "b", b"1"), 1.0)
    switch.receive("a", frame("a", "b", b"2"), 1.05)
    assert switch.send_due(1.0) == pytest.approx(0.1)
    assert sent == []
    assert switch.send_due(1.1) == pytest.approx(0.05)
    assert switch.send_due(1.2) is None
    assert [data[-1:] for _, data in sent] == [b"1", b"2"]


def test_two_percent_are_lost_and_a_full_switch_drops(switch: Switch, sent: Sent) -> None:
    switch.rules = LinkRules(loss=0.02)
    for _ in range(5_000):
        switch.receive("a", frame("a", "b"), 1.0)
    assert 50 < switch.dropped < 150
    assert len(sent) == 5_000 - switch.dropped
    switch.rules, switch.dropped = LinkRules(delay_seconds=1.0), 0
    for _ in range(QUEUE_FRAMES + 7):
        switch.receive("a", frame("a", "b"), 1.0)
    assert switch.dropped == 7


def test_every_fault_has_a_target_that_is_there() -> None:
    programs = {name if name.startswith("runner") else f"{name}-{host}" for name, host in SERVICES}
    programs |= {f"nats-{host}" for host in HOSTS} | {"postgres-primary", "postgres-standby", "s3"}
    for fault in FAULTS.values():
        if fault.kind in (Kind.KILL, Kind.FREEZE, Kind.FILL_DISK):
            assert fault.target in programs, fault.name
        elif fault.kind in (Kind.KILL_HOST, Kind.FREEZE_HOST, Kind.MOVE_CLOCK):
            assert fault.target in HOSTS, fault.name
    assert {host for _, host in SERVICES} | set(POSTGRES_HOSTS) == set(HOSTS)


def test_a_seed_chooses_the_order_and_an_unknown_name_is_refused() -> None:
    names = [fault.name for fault in chosen(["kill-nats", "slow"], seed=4)]
    assert sorted(names) == ["kill-nats-a", "kill-nats-b", "kill-nats-c", "slow"]
    assert names == [fault.name for fault in chosen(["kill-nats", "slow"], seed=4)]
    with pytest.raises(ValueError, match="no fault begins with 'earthquake'"):
        chosen(["earthquake"], seed=1)


def test_a_database_fails_over_only_to_a_server_that_answers() -> None:
    assert next_step(PairView(5.0, True, 5.0, standby_faulty=False)) is Step.FAIL_OVER
    assert next_step(PairView(60.0, False, 60.0, standby_faulty=True)) is Step.NOTHING
    assert next_step(PairView(4.0, True, 30.0, standby_faulty=False)) is Step.NOTHING
    assert next_step(PairView(0.0, False, 30.0, standby_faulty=False)) is Step.REBUILD
    assert next_step(PairView(0.0, False, 30.0, standby_faulty=True)) is Step.NOTHING
