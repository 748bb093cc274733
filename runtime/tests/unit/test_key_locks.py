"""Keys of the embedded store have one writer at a time, and what it replaces stays until it is replaced."""

from pathlib import Path

import pytest

from dreamforge.runtime.storage.key_locks import KeyLocks, restore_replaced

KEY = "uploads/ab/abc"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "objects" / "forge" / KEY
    path.parent.mkdir(parents=True)
    path.write_text("old")
    return path


def locks(folder: Path) -> KeyLocks:
    return KeyLocks(f"unix:{folder}/s3.sock", "forge", timeout_seconds=0.01)


def test_only_the_embedded_store_needs_locks(tmp_path: Path, stored: Path) -> None:
    other = KeyLocks("storage.example:9000", "forge", timeout_seconds=0)
    with locks(tmp_path).writing(KEY), other.writing(KEY), other.reading(KEY), other.removing(KEY):
        pass


def test_readers_of_a_key_go_together_and_a_writer_alone(tmp_path: Path, stored: Path) -> None:
    one, other = locks(tmp_path), locks(tmp_path)
    with one.reading(KEY), other.reading(KEY), pytest.raises(TimeoutError, match=r"has held the lock .*/locks/\d\d"):
        other.writing(KEY).__enter__()
    with one.writing(KEY), other.reading("uploads/ab/another"):
        for refused in (other.reading(KEY), other.removing(KEY), other.writing("uploads/ab/another", KEY)):
            with pytest.raises(TimeoutError):
                refused.__enter__()
    with other.writing(KEY, "images/of the same lock or not"):
        pass


def test_an_object_that_a_failed_put_took_away_is_there_again(tmp_path: Path, stored: Path) -> None:

    def fail() -> None:
        with locks(tmp_path).writing(KEY):
            stored.unlink()
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        fail()
    assert stored.read_text() == "old"
    with locks(tmp_path).writing(KEY):
        stored.unlink()
        stored.write_text("new")
    assert stored.read_text() == "new"
    assert not list((tmp_path / "replaced").iterdir())


def test_an_object_that_a_killed_put_took_away_is_there_after_the_next_start(tmp_path: Path, stored: Path) -> None:
    killed = locks(tmp_path).writing(KEY)
    killed.__enter__()
    stored.unlink()
    restore_replaced(tmp_path)
    assert stored.read_text() == "old"
    restore_replaced(tmp_path)
    assert stored.read_text() == "old"


def test_who_makes_or_removes_a_folder_is_alone_in_it_and_nobody_else_waits(tmp_path: Path, stored: Path) -> None:
    one, other = locks(tmp_path), locks(tmp_path)
    with one.writing("uploads/cd/first"):
        for refused in (other.writing("uploads/cd/second"), other.removing("uploads/cd/third")):
            with pytest.raises(TimeoutError, match=r"/locks/\d-\d\d"):
                refused.__enter__()
        with other.writing("uploads/ab/beside"):
            pass
    with one.writing("uploads/ab/one"), other.writing("uploads/ab/two"):
        pass
    with one.removing("uploads/ab/one"), pytest.raises(TimeoutError, match=r"/locks/\d-\d\d"):
        other.writing("uploads/ab/two").__enter__()


def test_a_folder_that_came_while_its_lock_was_waited_for_is_not_taken_alone(tmp_path: Path, stored: Path) -> None:
    one, folder = locks(tmp_path), stored.parents[1] / "cd"
    with one.writing("uploads/cd/first"):
        folder.mkdir()
    with one.writing("uploads/cd/second"), locks(tmp_path).writing("uploads/cd/third"):
        pass
