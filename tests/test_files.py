"""A file is written wholly or not at all."""

import io
import os
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.files import (
    UNREADABLE,
    delete_leftovers,
    is_locked,
    locked,
    open_atomically,
    take_lock,
    write_atomically,
)


class PowerFailureError(BaseException):
    """Ends a write in between, as a kill would."""


def fail(*_args):
    """Take the place of a step of the write."""
    raise PowerFailureError


@given(st.binary(max_size=2000))
def test_content_comes_back(tmp_path_factory, content):
    """Any bytes, in a folder that does not exist yet."""
    path = tmp_path_factory.mktemp("files") / "deep" / "file"
    write_atomically(path, content)
    assert path.read_bytes() == content


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch, step):
    """Before the bytes are on the disk, and before the file has its name."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(step, fail)
    with pytest.raises(PowerFailureError):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_interrupted_write_leaves_nothing_beside_the_file(tmp_path, monkeypatch, step):
    """Half files would fill the disk."""
    monkeypatch.setattr(step, fail)
    with pytest.raises(PowerFailureError):
        write_atomically(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_told(tmp_path, monkeypatch):
    """The error of the system reaches the caller."""

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "file", b"new")


def test_written_file_stands_alone(tmp_path):
    """The file aside is gone."""
    write_atomically(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_reader_never_sees_half_a_file(tmp_path):
    """Two writers and a reader: every read is one of the two contents."""
    path, contents = tmp_path / "file", [b"a" * 100_000, b"b" * 200_000]
    write_atomically(path, contents[0])

    def write(content: bytes, path: Path = path) -> None:
        for _ in range(20):
            write_atomically(path, content)

    writers = [threading.Thread(target=write, args=[content]) for content in contents]
    for writer in writers:
        writer.start()
    seen = {path.read_bytes()}
    while any(writer.is_alive() for writer in writers):
        seen.add(path.read_bytes())
    assert seen <= set(contents)


def test_file_written_in_pieces_takes_its_place_at_the_end(tmp_path):
    """A reader meanwhile finds the old one."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with open_atomically(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
        file.write(b" and long")
    assert path.read_bytes() == b"new and long"


def test_error_between_two_pieces_leaves_the_old_file(tmp_path):
    """And nothing beside it."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with suppress(PowerFailureError), open_atomically(path) as file:
        file.write(b"half")
        raise PowerFailureError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_names_of_files_and_folders_reach_the_disk(tmp_path, monkeypatch):
    """A file whose folder was not brought to the disk is gone after a power failure."""
    synced, fsync = [], os.fsync

    def note(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_atomically(tmp_path / "new" / "deep" / "file", b"new")
    *folders, file, last = synced
    assert folders == [tmp_path, tmp_path / "new"]
    assert file.suffix == ".part"
    assert last == tmp_path / "new" / "deep"


HOLD = """
import sys, time
from pathlib import Path
from backend.files import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_lock_of_a_killed_process_is_open(tmp_path):
    """It keeps others out as long as its process lives."""
    path = tmp_path / "deep" / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - ours
        assert process.stdout.readline() == b"locked\n"
        entered = threading.Event()

        def enter():
            with locked(path):
                entered.set()

        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.2)
        process.kill()
        thread.join(10)
    assert entered.is_set()


def test_lock_is_taken_once(tmp_path):
    """Whoever only looks whether it is taken does not take it; closing the file gives it back."""
    path = tmp_path / "new" / "lock"
    assert not is_locked(path)
    with take_lock(path):
        assert is_locked(path)
        assert take_lock(path) is None
    assert not is_locked(path)
    take_lock(path).close()


def test_lock_that_cannot_be_made_is_told(tmp_path, caplog):
    """What it guards cannot be written either."""
    (tmp_path / "file").write_text("")
    with locked(tmp_path / "file" / "lock"):
        pass
    assert "cannot be locked" in caplog.text


def test_leftovers_are_deleted_where_that_is_possible(tmp_path, caplog):
    """Another process may have been first."""
    (tmp_path / "folder.part").mkdir()
    os.utime(tmp_path / "folder.part", (0, 0))
    delete_leftovers(tmp_path)
    assert "which nobody needs any more, stays" in caplog.text


@pytest.mark.parametrize(
    "header", ["{'descr': '''", "{'descr': (", "{", "", "\0", "1 +", "  a\n b"]
)
def test_array_with_a_broken_header_is_unreadable(header):
    """NumPy hands it to Python's own parser, whose mistakes are of many kinds."""
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
    with pytest.raises(UNREADABLE):
        np.load(io.BytesIO(content))
