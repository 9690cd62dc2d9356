"""SQLite databases that several processes share: written whole or not at all, and kept up to date.

`PRAGMA synchronous` is left at FULL: what was committed is there after a power failure.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database, Migrations
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

WAIT_S = 30.0
"""For another process that is writing."""


def open_sqlite(
    path: Path, migrations: Migrations, kind: str, *, log_ahead: bool = True
) -> Database:
    """Open a database, made or brought up to date where needed; its user sees to threads.

    Args:
        path: In a folder that exists.
        migrations: What makes it what it should be.
        kind: What it is called in messages: "CD database".
        log_ahead: Who reads does not wait for who writes; all must be on one host, since SQLite's
            write-ahead log does not work over a network.

    Raises:
        OSError: It cannot be read or written.
        ValueError: The file is something else, or comes from a newer version.
    """
    try:
        connection = sqlite3.connect(path, timeout=WAIT_S, check_same_thread=False)
    except sqlite3.OperationalError as error:
        raise OSError(f"{path} cannot be opened: {error}: does its folder exist?") from None
    database = Database(connection)
    try:
        _write_log(database, ahead=log_ahead)
        database.execute("PRAGMA foreign_keys=ON")
        bring_up_to_date(database, migrations)
    except sqlite3.OperationalError as error:
        database.close()
        raise OSError(f"{path} cannot be used as a {kind}: {error}") from None
    except sqlite3.DatabaseError as error:
        database.close()
        raise ValueError(f"{path} is no {kind}: {error}") from None
    except ValueError as error:
        database.close()
        raise ValueError(f"{path}: {error}") from None
    return database


@retry(
    # SQLite does not wait by itself here: of two that change the mode at once, one is refused
    retry=retry_if_exception(lambda error: "locked" in str(error)),
    wait=wait_random(0.005, 0.05),
    stop=stop_after_delay(WAIT_S),
    reraise=True,
)
def _write_log(database: Database, *, ahead: bool) -> None:
    if ahead:
        database.enable_wal()
    else:
        database.disable_wal()


def bring_up_to_date(database: Database, migrations: Migrations) -> None:
    """Make what a database lacks.

    Raises:
        ValueError: A newer version of this program has changed the database.
    """
    known = {migration.name for migration in migrations.pending(Database(memory=True))}
    newer = sorted({migration.name for migration in migrations.applied(database)} - known)
    if newer:
        raise ValueError(
            f"the database was changed by a newer version ({', '.join(newer)}): use that version, "
            "or another database"
        )
    if migrations.pending(database):
        with writing(database):  # another process may be doing the same
            migrations.apply(database)


@contextmanager
def writing(database: Database) -> Iterator[None]:
    """Write all of the block or nothing, and wait for others before it, not in the middle."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.commit()
    finally:
        database.rollback()  # does nothing after a commit


def execute_all(database: Database, statements: str) -> None:
    """One by one: `executescript` would end the transaction that a failure must undo."""
    for statement in statements.split(";\n"):
        database.execute(statement)
