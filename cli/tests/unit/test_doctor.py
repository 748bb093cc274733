"""What `dreamforge doctor` makes of what it finds; that it finds it is in integration."""

from pathlib import Path

import pytest

from dreamforge.cli.commands.doctor import line_of
from dreamforge.cli.doctor.disk import filesystem_of, judge_filesystem, judge_fsync, judge_room
from dreamforge.cli.doctor.findings import Finding, Severity
from dreamforge.cli.doctor.gpu import Card, judge_cards, judge_torch
from dreamforge.cli.doctor.machine import judge_clock, judge_memory, judge_open_files, judge_sandbox
from dreamforge.cli.doctor.nats import judge_account, judge_skew, judge_stream
from dreamforge.cli.doctor.objects import judge_round_trip
from dreamforge.cli.doctor.postgres import judge_schema
from dreamforge.cli.doctor.services import judge_answer, judge_service
from dreamforge.cli.doctor.state_folder import check_state_folder, judge_owner
from dreamforge.cli.setup_machine import TORCH_VERSION

GIB = 2**30
HERE = Path("/srv/forge")
OK, NOTE, WARNING, FAULT = Severity.OK, Severity.NOTE, Severity.WARNING, Severity.FAULT


@pytest.mark.parametrize(
    ("finding", "severity"),
    [
        (judge_room(100 * GIB, HERE), OK),
        (judge_room(5 * GIB, HERE), WARNING),
        (judge_room(GIB // 2, HERE), FAULT),
        (judge_filesystem("ext4", HERE), OK),
        (judge_filesystem("nfs4", HERE), WARNING),
        (judge_filesystem("tmpfs", HERE), FAULT),
        (judge_fsync(0.000_001), WARNING),
        (judge_fsync(0.001), NOTE),
        (judge_fsync(0.05), WARNING),
        (judge_owner(HERE, 7, 7, 0o700), OK),
        (judge_owner(HERE, 7, 7, 0o755), WARNING),
        (judge_owner(HERE, 7, 8, 0o700), FAULT),
        (judge_memory(16 * GIB), OK),
        (judge_memory(2 * GIB), WARNING),
        (judge_open_files(-1), OK),
        (judge_open_files(1024), WARNING),
        (judge_sandbox(7), OK),
        (judge_sandbox(1), NOTE),
        (judge_sandbox(0), WARNING),
        (judge_clock(synchronised=True), OK),
        (judge_clock(synchronised=None), NOTE),
        (judge_clock(synchronised=False), NOTE),
        (judge_torch(None, has_driver=True), NOTE),
        (judge_torch(f"{TORCH_VERSION}+cpu", has_driver=False), OK),
        (judge_torch(f"{TORCH_VERSION}+cpu", has_driver=True), FAULT),
        (judge_torch("2.0.1", has_driver=False), WARNING),
        (judge_skew(0.1), OK),
        (judge_skew(None), NOTE),
        (judge_skew(30.0), WARNING),
        (judge_account({"storage": 9 * GIB, "limits": {"max_storage": 10 * GIB}}), WARNING),
        (judge_account({"storage": GIB, "limits": {"max_storage": 10 * GIB}}), OK),
        (judge_schema(None, "0008"), FAULT),
        (judge_schema("0008", "0008"), OK),
        (judge_schema("0009", "0008"), WARNING),
        (judge_round_trip(0.01, same=True), OK),
        (judge_round_trip(2.0, same=True), WARNING),
        (judge_round_trip(0.01, same=False), WARNING),
        (judge_answer("http://f", 200, "application/json", 0.1), OK),
        (judge_answer("http://f", 503, "application/json", 0.1), FAULT),
        (judge_answer("http://f", 200, "text/html", 0.1), FAULT),
        (judge_answer("http://f", 421, "application/problem+json", 0.1), FAULT),
        (judge_service("gateway", [], 0), OK),
        (judge_service("gateway", [], 9), WARNING),
        (judge_service("gateway", ["nats: away"], 0), FAULT),
    ],
)
def test_each_fact_is_judged_by_its_bounds(finding: Finding, severity: Severity) -> None:
    assert finding.severity is severity, finding


def test_what_can_be_mended_says_how() -> None:
    found = [judge_room(0, HERE), judge_fsync(0.05), judge_torch("2.13.0+cpu", has_driver=True), judge_sandbox(0)]
    assert all(finding.remedy for finding in found)


def test_a_stream_that_drops_its_oldest_is_never_too_full() -> None:
    full = {"config": {"max_bytes": 10, "discard": "old"}, "state": {"bytes": 10}}
    assert judge_stream("STEPS", full).severity is OK
    assert judge_stream("JOBS", {**full, "config": {"max_bytes": 10, "discard": "new"}}).severity is WARNING
    many = {"config": {"max_bytes": -1}, "state": {"bytes": 10, "num_subjects": 50_000_000}}
    assert "8.8 GiB of memory" in judge_stream("JOBS", many).fact


def test_a_driver_without_a_card_is_a_fault_and_a_machine_without_a_driver_is_none() -> None:
    (card,) = judge_cards((Card("H100", 80 * GIB, "580.65"),), "", has_driver=True)
    (silent,) = judge_cards((), "Driver/library version mismatch", has_driver=True)
    (none,) = judge_cards((), "", has_driver=False)
    assert [each.severity for each in (card, silent, none)] == [OK, FAULT, NOTE]
    assert "version mismatch" in silent.fact


def test_the_file_system_of_a_folder_is_that_of_the_nearest_mount() -> None:
    mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\nserver:/x /mnt/my\\040disk nfs4 rw 0 0\nbroken"
    assert filesystem_of(Path("/tmpfiles"), mounts) == "ext4"
    assert filesystem_of(Path("/tmp/a"), mounts) == "tmpfs"
    assert filesystem_of(Path("/mnt/my disk/a"), mounts) == "nfs4"
    assert filesystem_of(Path("/a"), "") == ""


def test_a_folder_that_is_not_there_yet_is_no_fault_and_is_not_made(tmp_path: Path) -> None:
    (found,) = check_state_folder(tmp_path / "new" / ".forge")
    assert found.severity is NOTE
    assert not (tmp_path / "new").exists()


def test_a_remedy_stands_below_its_fact() -> None:
    first, second = line_of(judge_room(0, HERE)).plain.split("\n")
    assert first.startswith("fault   disk")
    assert second.strip().startswith("try  make room")
