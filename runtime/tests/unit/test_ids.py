"""No id is made twice: not by threads, and not by a process and its fork."""

import os
import threading

from dreamforge.runtime import ids


def test_a_fork_makes_other_ids() -> None:
    ids.new_id()  # what it draws from is filled now
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, " ".join(ids.new_id() for _ in range(20)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 4096).decode().split()
    ours = [ids.new_id() for _ in range(20)]
    os.close(read)
    os.close(write)
    assert len({each[14:] for each in (*theirs, *ours)}) == 40  # without the time


def test_threads_get_different_ids() -> None:
    made: list[str] = []

    def make() -> None:
        made.extend(ids.new_id() for _ in range(2_000))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8_000
