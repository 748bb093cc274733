"""What is kept for one user cannot be read, exchanged or locked by another."""

import asyncio
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dreamforge.runtime.embedded.folder import FolderLock
from dreamforge.runtime.private_folder import NotPrivate, make_private, open_private

OTHER_USER = 12345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_folder_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert not make_private(tmp_path / "above" / "state")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "above" / "state") == 0o700
    assert not make_private(tmp_path / "above" / "state")


def test_a_folder_that_was_open_is_closed_with_all_in_it(tmp_path: Path) -> None:
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    elsewhere.write_text("of others")
    elsewhere.chmod(0o644)
    (state / "nats").mkdir(parents=True)
    (state / "nats" / "seed").write_text("secret")
    (state / "run").write_text("a program")
    (state / "link").symlink_to(elsewhere)
    for path, mode in (
        (state, 0o775),
        (state / "nats", 0o755),
        (state / "nats" / "seed", 0o644),
        (state / "run", 0o755),
    ):
        path.chmod(mode)
    assert make_private(state)
    assert [mode_of(path) for path in (state, state / "nats", state / "nats" / "seed")] == [0o700, 0o700, 0o600]
    assert (mode_of(state / "run"), mode_of(elsewhere)) == (0o700, 0o644)
    assert not make_private(state)


@as_root
@pytest.mark.parametrize("attack", ["folder", "link"])
def test_what_belongs_to_another_user_is_refused(tmp_path: Path, attack: str) -> None:
    state = tmp_path / "state"
    if attack == "folder":
        state.mkdir()
    else:
        (tmp_path / "own").mkdir(mode=0o700)
        state.symlink_to(tmp_path / "own")
    os.chown(state, OTHER_USER, OTHER_USER, follow_symlinks=False)
    with pytest.raises(NotPrivate, match="belongs to user 12345" if attack == "folder" else "another user made"):
        make_private(state)


@pytest.mark.parametrize("place", ["target", "above"])
def test_a_link_to_where_others_can_write_is_refused(tmp_path: Path, place: str) -> None:
    target, link = tmp_path / "above" / "target", tmp_path / "state"
    target.mkdir(parents=True, mode=0o700)
    link.symlink_to(target)
    make_private(link)
    (target if place == "target" else target.parent).chmod(0o777)
    with pytest.raises(NotPrivate, match=r"is a link to .*, and others can write in .*: chmod go-w"):
        make_private(link)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(NotPrivate, match="cannot be used"):
        make_private(tmp_path / "state")


async def test_a_lock_is_not_taken_through_a_link_nor_left_open(tmp_path: Path) -> None:
    lock, victim = tmp_path / "lock", tmp_path / "victim"
    victim.write_text("precious")
    lock.symlink_to(victim)
    with pytest.raises(NotPrivate, match="is a link: remove it"):
        await FolderLock(tmp_path, "test").acquire()
    assert victim.read_text() == "precious"
    lock.unlink()
    lock.touch(mode=0o666)
    held = FolderLock(tmp_path, "test")
    await held.acquire()
    assert mode_of(lock) == 0o600
    assert fcntl.fcntl(held.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    assert lock.read_text().startswith(f"{os.getpid()}-")
    held.release()


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "record")
    with pytest.raises(NotPrivate, match="no regular file"):
        open_private(tmp_path / "record", os.O_RDONLY)


@as_root
async def test_another_user_can_neither_read_nor_lock(tmp_path: Path) -> None:
    held = FolderLock(tmp_path / "state", "test")
    await held.acquire()
    code = (
        f"import os, sys; os.setgroups([]); os.setgid({OTHER_USER}); os.setuid({OTHER_USER})\n"
        "try: open(sys.argv[1])\nexcept PermissionError: print('refused')"
    )
    command = (sys.executable, "-c", code, str(tmp_path / "state" / "lock"))
    done = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert await done.communicate() == (b"refused\n", None)
    held.release()
