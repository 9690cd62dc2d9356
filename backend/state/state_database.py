"""The database of a state folder: regions sent to Label Studio, and the record of all turns.

What cannot be written, since the disk is full, waits in memory. It is found there as if it were
written, and is written with the next row that can be.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from sqlite_utils import Database, Migrations

from backend.databases import execute_all, open_sqlite, writing

STATE = "state.db"
Row: TypeAlias = dict[str, Any]

migrations = Migrations("tem_guide_state")


@migrations()
def m001_tables(database: Database) -> None:
    """Make the tables of the first versions, which may be there without this note."""
    execute_all(
        database,
        """
CREATE TABLE IF NOT EXISTS sent_regions (id TEXT PRIMARY KEY, task INTEGER, control TEXT,
  label TEXT, answer TEXT);
CREATE INDEX IF NOT EXISTS idx_sent_regions_task ON sent_regions(task);
CREATE TABLE IF NOT EXISTS turns (key TEXT, task INTEGER, at TEXT, strokes INTEGER,
  drawn_px INTEGER, uncertainty REAL, model TEXT);
CREATE INDEX IF NOT EXISTS idx_turns_key ON turns(key)
""",
    )


@migrations()
def m002_replay(database: Database) -> None:
    """Keep what a turn can be replayed from; nothing of the record is changed or deleted."""
    execute_all(
        database,
        """
ALTER TABLE turns ADD COLUMN annotator TEXT NOT NULL DEFAULT '';
ALTER TABLE turns ADD COLUMN scribbles TEXT NOT NULL DEFAULT '';
ALTER TABLE turns ADD COLUMN answer TEXT NOT NULL DEFAULT '';
ALTER TABLE turns ADD COLUMN settings TEXT NOT NULL DEFAULT '';
ALTER TABLE turns ADD COLUMN opinion_steps INTEGER NOT NULL DEFAULT 0;
CREATE INDEX turns_task ON turns(task);
CREATE TABLE contents (sha256 TEXT PRIMARY KEY, content BLOB NOT NULL)
""",
    )
    for table in ("turns", "contents"):
        for change in ("UPDATE", "DELETE"):
            database.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                "BEGIN SELECT RAISE(ABORT, 'the record of turns only grows'); END"
            )


class StateDatabase:
    """Rows of the database below a state folder, for all threads of a process."""

    def __init__(self, folder: Path) -> None:
        """Open it, or make it.

        Raises:
            OSError: It cannot be written.
            ValueError: It is damaged, or comes from a newer version.
        """
        # workers on other hosts write here too
        self._database = open_sqlite(
            folder / STATE, migrations, "record of a backend", log_ahead=False
        )
        self._lock = threading.Lock()  # one connection, several request threads
        self._waiting: list[tuple[str, Row]] = []  # tables and rows that are still to be written

    def close(self) -> None:
        """Close it."""
        self._database.close()

    @property
    def waits(self) -> bool:
        """Whether there are rows that could not be written."""
        return bool(self._waiting)

    def add(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Add rows to tables, all or none; those with an id that is there already are left out.

        Raises:
            OSError: They cannot be written yet, and wait in memory.
        """
        with self._lock:
            new_rows = [(table, row) for table, new in rows.items() for row in new]
            waiting = [*self._waiting, *new_rows]
            try:
                with writing(self._database):
                    for table, row in waiting:
                        self._database.table(table).insert(row, ignore=table != "turns")
            except sqlite3.Error as error:  # a row that is no row at all does not wait
                self._waiting = waiting
                raise OSError(f"{STATE} cannot be written: {error}") from None
            self._waiting = []

    def find(self, table: str, column: str, value: object) -> list[Row]:
        """Return the rows with this value in the order they came, those that wait at the end.

        Raises:
            OSError: The database cannot be read.
        """
        with self._lock:
            waiting = [row for name, row in self._waiting if name == table and row[column] == value]
            try:
                rows = list(
                    self._database.table(table).rows_where(
                        f"{column} = ?", [value], order_by="rowid"
                    )
                )
            except sqlite3.Error as error:
                raise OSError(f"{STATE} cannot be read: {error}") from None
        return [*rows, *waiting]
