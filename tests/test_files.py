"""A file is written wholly or not at all."""

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.files import open_atomically, write_atomically


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
