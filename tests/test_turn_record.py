"""The record of turns only grows, comes back with all it stands on, and outlives the schema."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from backend.state.state_database import STATE, StateDatabase
from backend.state.turn_record import Evidence, Turn, TurnRecord

TURN = Turn(7, "2026-11-30T19:40:00+00:00", 2, 40, 0.25, "tem-guide-v3", "ann@example.com", 10)
SCRIBBLES = np.full((40, 60), 255, np.uint8)
SCRIBBLES[3:6, 4:30] = 1
EVIDENCE = Evidence(SCRIBBLES, np.ones((40, 60), np.uint8), {"seed": 0, "classes": ["Si", "Ä"]})


@pytest.fixture
def reopen(tmp_path):
    """Open the record of one folder, again and again."""
    opened = []

    def reopen():
        opened.append(StateDatabase(tmp_path))
        return TurnRecord(opened[-1])

    yield reopen
    for database in opened:
        database.close()


def test_turn_comes_back_with_its_evidence(reopen):
    """What was drawn, what was answered, by whom and by what."""
    reopen().add("key", TURN, EVIDENCE)
    record = reopen()
    (turn,) = record.turns("key")
    assert (turn.annotator, turn.opinion_steps, turn.model) == ("ann@example.com", 10, TURN.model)
    np.testing.assert_array_equal(record.scribbles(turn), EVIDENCE.scribbles)
    np.testing.assert_array_equal(record.answer(turn), EVIDENCE.answer)
    assert record.settings(turn) == EVIDENCE.settings
    assert record.of_task(7) == [turn]
    assert record.turns("other") == record.of_task(8) == []


def test_same_content_is_kept_once(reopen, tmp_path):
    """Asking again without a new stroke costs a row of numbers."""
    record = reopen()
    for _ in range(3):
        record.add("key", TURN, EVIDENCE)
    with closing(sqlite3.connect(tmp_path / STATE)) as database:
        assert database.execute("select count(*) from contents").fetchone() == (3,)
    assert len(record.turns("key")) == 3


@pytest.mark.parametrize(
    "change",
    ["update turns set strokes = 3", "delete from turns", "delete from contents",
     "update contents set content = x'00'"],
)  # fmt: skip
def test_record_only_grows(reopen, tmp_path, change):
    """Whoever changes it by another program has to take its guards away first."""
    reopen().add("key", TURN, EVIDENCE)
    with (
        closing(sqlite3.connect(tmp_path / STATE)) as database,
        pytest.raises(sqlite3.IntegrityError, match="the record of turns only grows"),
    ):
        database.execute(change)


def test_changed_content_is_told(reopen, tmp_path):
    """Its name is its hash."""
    reopen().add("key", TURN, EVIDENCE)
    with closing(sqlite3.connect(tmp_path / STATE)) as database, database:
        database.execute("drop trigger contents_no_update")
        database.execute("update contents set content = x'00'")
    record = reopen()
    with pytest.raises(ValueError, match="is missing or was changed"):
        record.scribbles(record.turns("key")[0])


OLD = """
create table sent_regions (id text primary key, task integer, control text, label text,
  answer text);
create table turns (key text, task integer, at text, strokes integer, drawn_px integer,
  uncertainty float, model text);
insert into turns values ('key', 7, '2026-11-22T08:40:00+00:00', 2, 40, .5, 'tem-guide-v0');
insert into sent_regions values ('a', 7, 'seg', 'Si', 'x')
"""


def test_record_of_an_earlier_version_goes_on(reopen, tmp_path):
    """Its turns are there, without what that version did not keep."""
    with closing(sqlite3.connect(tmp_path / STATE)) as database:
        database.executescript(OLD)
    reopen().add("key", TURN, EVIDENCE)
    record = reopen()
    old, new = record.turns("key")
    assert (old.strokes, old.model, old.annotator, old.scribbles) == (2, "tem-guide-v0", "", "")
    assert record.scribbles(old) is None
    assert record.answer(old) is None
    assert record.settings(old) == {}
    assert record.scribbles(new) is not None


def test_record_of_a_newer_version_is_refused(reopen, tmp_path):
    """Nothing is written where we do not know what it means."""
    reopen()
    with closing(sqlite3.connect(tmp_path / STATE)) as database, database:
        database.execute(
            "insert into _sqlite_migrations (migration_set, name, applied_at) "
            "values ('tem_guide_state', 'm099_later', '2027-01-01')"
        )
    with pytest.raises(ValueError, match=r"state\.db: .* newer version \(m099_later\)"):
        reopen()


def test_damaged_database_is_refused(reopen, tmp_path):
    """With its name, and nothing of it is lost."""
    (tmp_path / STATE).write_bytes(b"no database" * 100)
    with pytest.raises(ValueError, match=r"state\.db is no record of a backend"):
        reopen()
    assert (tmp_path / STATE).read_bytes() == b"no database" * 100


def test_turn_that_cannot_be_written_waits(tmp_path):
    """It is found meanwhile, and written in its place before the next."""
    with closing(StateDatabase(tmp_path)) as one, closing(StateDatabase(tmp_path)) as two:
        record, other = TurnRecord(one), TurnRecord(two)
        one._database.execute("pragma query_only = on")
        with pytest.raises(OSError, match=r"state\.db cannot be written: .* readonly"):
            record.add("key", TURN, EVIDENCE)
        assert [turn.strokes for turn in record.turns("key")] == [2]
        assert record.scribbles(record.turns("key")[0]) is not None
        assert other.turns("key") == []
        one._database.execute("pragma query_only = off")
        record.add("key", replace(TURN, strokes=3), None)
        assert [turn.strokes for turn in other.turns("key")] == [2, 3]
        assert other.answer(other.turns("key")[0]) is not None


def test_row_that_can_never_be_written_does_not_keep_others_out(reopen):
    """Half of a surrogate pair is no text; what comes later is written."""
    record = reopen()
    with pytest.raises(UnicodeEncodeError):
        record.add("key", replace(TURN, annotator="\ud800"), None)
    record.add("key", TURN, EVIDENCE)
    assert [turn.annotator for turn in reopen().turns("key")] == [TURN.annotator]
