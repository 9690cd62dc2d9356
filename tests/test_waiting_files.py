"""What cannot be written waits in memory, and is written once it can be."""

import pytest

from backend.state.waiting_files import WaitingFiles


@pytest.fixture
def blocked(tmp_path):
    """A folder that cannot be made, since a file has its name; remove that, and it can."""
    place = tmp_path / "folder"
    place.write_text("")
    return place


@pytest.fixture
def files(blocked):
    """Two files could not be written."""
    files = WaitingFiles()
    for name in ("a", "b"):
        with pytest.raises(OSError, match="folder"):
            files.write(blocked / name, name.encode())
    return files


def test_waiting_file_is_found(files, blocked):
    """As if it were written."""
    assert files.waits
    assert (files.read(blocked / "a"), files.read(blocked / "b")) == (b"a", b"b")


def test_waiting_files_are_written_with_the_next(files, blocked):
    """Which need not be one of them."""
    blocked.unlink()
    files.write(blocked / "c", b"c")
    assert not files.waits
    assert {path.name: path.read_bytes() for path in blocked.iterdir()} == {
        "a": b"a", "b": b"b", "c": b"c"}  # fmt: skip


def test_newest_content_waits(files, blocked):
    """There is one of each file."""
    with pytest.raises(OSError, match="folder"):
        files.write(blocked / "a", b"newer")
    blocked.unlink()
    files.write(blocked / "b", b"b")
    assert (blocked / "a").read_bytes() == b"newer"


def test_file_that_can_be_written_does_not_wait_for_others(files, tmp_path):
    """One folder may be read-only while others are not."""
    files.write(tmp_path / "free", b"free")
    assert (tmp_path / "free").read_bytes() == b"free"
    assert files.waits


def test_newer_file_of_another_process_stays(tmp_path):
    """Also when this one was first to ask for it, and had to wait."""
    place, files = tmp_path / "folder", WaitingFiles()
    place.write_text("")
    with pytest.raises(OSError, match="folder"):
        files.write(place / "a", b"1", lambda there: there < b"1")
    place.unlink()
    WaitingFiles().write(place / "a", b"2")
    files.write(place / "b", b"b")
    assert (place / "a").read_bytes() == b"2"
    assert not files.waits
