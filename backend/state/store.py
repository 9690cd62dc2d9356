"""What must survive a restart: strokes, predictions and weights by task, and the record of turns.

A folder a task, its files written aside and renamed; beside them one SQLite database. What cannot
be written waits in memory, the log and `trouble` say so, and whoever asks gets an answer meanwhile.

Several processes may share the folder. Of the strokes on an image those that Label Studio saved
last stay. A guide that has not heard of a turn of another process is told of it before it answers,
and never replaces the file of one that has.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from sqlite_utils import Database

from backend.annotation.tasks import SentRegion, Task
from backend.arrays import LabelMap, UncertaintyMap
from backend.files import UNREADABLE, delete_leftovers, locked
from backend.learning.spots import Spot
from backend.state.label_pngs import LONG_AGO, from_png, moment_of, to_png
from backend.state.state_database import STATE, StateDatabase
from backend.state.turn_record import Evidence, Turn, TurnRecord
from backend.state.waiting_files import WaitingFiles

if TYPE_CHECKING:
    from backend.learning.guide import (
        Guide,
    )  # brings PyTorch, which programs that export do without

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredPrediction:
    """The latest answer for a task, without the probabilities."""

    label_map: LabelMap  # (H, W)
    uncertainty: UncertaintyMap  # (H, W), to 1/255
    spots: tuple[Spot, ...]
    model: str = ""
    """The shared model that had a part in it, if one had."""
    notes: tuple[str, ...] = ()
    """Where the CDs stand, in sentences."""
    scores: tuple[float, ...] = ()
    """How sure each class is of its own pixels, 0 to 1."""

    @property
    def score(self) -> float:
        """Confidence of the whole prediction, 1 - mean uncertainty, 0 to 1."""
        return 1 - float(self.uncertainty.mean())


def state_key(label_studio_url: str, task: Task, materials: Sequence[str]) -> str:
    """Name the state of a task, for this image with these classes and no other.

    Class indices mean nothing under other materials, and a task id nothing with another image or
    on another host: a mask of those would be wrong and look right. The port of Label Studio may
    change without a loss.
    """
    identity = json.dumps([urlsplit(label_studio_url).hostname, task.image, *materials])
    return f"{task.id}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


class GuideStore:
    """Strokes, predictions and weights by task, below one folder.

    Files are found by `state_key`.
    """

    def __init__(self, folder: Path) -> None:
        """Open the folder, or make it.

        Raises:
            OSError: It cannot be written.
            ValueError: Its database is damaged, or comes from a newer version.
        """
        self._tasks = folder / "tasks"
        self._tasks.mkdir(parents=True, exist_ok=True)
        delete_leftovers(folder)
        self._database = StateDatabase(folder)
        self._files = WaitingFiles()
        self.record = TurnRecord(self._database)
        self._why = ""

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    @property
    def trouble(self) -> str:
        """What an annotator should know while something cannot be written; "" when all is well."""
        return self._why if self._files.waits or self._database.waits else ""

    def alone(self, key: str) -> AbstractContextManager[None]:
        """Keep other threads and processes from answering for a task."""
        return locked(self._tasks / key / "guide.lock")

    def guide_path(self, key: str) -> Path:
        """Where the guide of a task keeps its answers and its network."""
        return self._tasks / key / "guide.safetensors"

    def save_guide(self, key: str, guide: Guide) -> None:
        """Put on disk what a guide has learned, unless another process has answered since.

        Raises:
            OSError: It cannot be written.
        """
        if not self.missed_turns(key, guide):
            guide.save(self.guide_path(key))

    def missed_turns(self, key: str, guide: Guide) -> list[Turn]:
        """The turns of a task that its guide has not heard of."""
        return self.turns(key)[guide.turns_heard :]

    def save_scribbles(
        self, key: str, scribbles: LabelMap, moment: datetime = LONG_AGO
    ) -> LabelMap:
        """Keep all strokes on an image, as a PNG with 255 where nobody drew.

        Args:
            key: Of the task.
            scribbles: Shape (H, W).
            moment: When Label Studio saved them: what it saved later stays where it is.

        Returns:
            The newest strokes.
        """
        path = self._tasks / key / "scribbles.png"
        with self._trying("strokes", key):
            self._files.write(
                path, to_png(scribbles, moment), lambda there: moment_of(there) <= moment
            )
        newest = self.load_scribbles(key)
        return scribbles if newest is None else newest

    def load_scribbles(self, key: str) -> LabelMap | None:
        """Return the strokes of a task as last saved, shape (H, W); None if there are none.

        A damaged file is renamed, so that the next strokes do not replace what may be rescued.
        """
        path = self._tasks / key / "scribbles.png"
        try:
            return from_png(self._files.read(path))
        except FileNotFoundError:
            return None
        except ValueError as error:
            aside = path.with_name(f"{path.name}.damaged")
            logger.warning("%s: its strokes are damaged, see %s: %s", key, aside, error)
            with self._trying("damaged strokes", key):
                path.replace(aside)
            return None

    def save_prediction(self, key: str, prediction: StoredPrediction) -> None:
        """Keep the latest prediction of a task."""
        spots = [asdict(spot) for spot in prediction.spots]
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            label_map=prediction.label_map,
            uncertainty=np.round(prediction.uncertainty * 255).astype(np.uint8),
            spots=np.array(json.dumps(spots)),
            model=np.array(prediction.model),
            notes=np.array(json.dumps(prediction.notes)),
            scores=np.array(prediction.scores, np.float64),
        )
        with self._trying("prediction", key):
            self._files.write(self._tasks / key / "prediction.npz", buffer.getvalue())

    def load_prediction(self, key: str) -> StoredPrediction | None:
        """Return the latest prediction of a task; None if there is none, or a damaged one."""
        path = self._tasks / key / "prediction.npz"
        try:
            return _decode_prediction(self._files.read(path))
        except FileNotFoundError:
            return None
        except ValueError as error:
            logger.warning("%s: %s is damaged and ignored: %s", key, path, error)
            return None

    def forget_prediction(self, key: str) -> None:
        """Drop the latest prediction of a task: then it has none."""
        with self._trying("withdrawn prediction", key):
            self._files.delete(self._tasks / key / "prediction.npz")

    def record_turn(self, key: str, turn: Turn, evidence: Evidence | None = None) -> int:
        """Add a turn to the record, which only grows; return how many there are of this task."""
        with self._trying("turn", key):
            self.record.add(key, turn, evidence)
        return len(self.turns(key))

    def turns(self, key: str) -> list[Turn]:
        """The turns of a task in their order."""
        return self.record.turns(key)

    def remember_sent(self, task_id: int, regions: Sequence[SentRegion]) -> None:
        """Remember the regions of an answer."""
        rows = [{**asdict(region), "task": task_id} for region in regions]
        with self._trying("answer", str(task_id)):
            self._database.add({"sent_regions": rows})

    def sent(self, task_id: int, ids: Collection[str]) -> dict[str, SentRegion]:
        """Return those of the regions `ids` that we have sent for this task, by id."""
        return _by_id(self._database.find("sent_regions", "task", task_id), ids)

    @contextmanager
    def _trying(self, what: str, key: str) -> Iterator[None]:
        """Go on when something cannot be written: it waits in memory until it can be."""
        try:
            yield
        except OSError as error:
            why = error.strerror or error
            self._why = (
                f"The backend's state folder cannot be written ({why}): go on, your strokes are in "
                "Label Studio, and tell who runs the backend."
            )
            logger.error("task %s: its %s cannot be written yet: %s", key, what, error)  # noqa: TRY400 - a full disk is no bug


class SentRegions:
    """The regions that a backend has sent, for other programs: read only, while it may run."""

    def __init__(self, folder: Path) -> None:
        """Open the state of the backend below `folder`.

        Raises:
            FileNotFoundError: There is none.
        """
        self._path = (folder / STATE).resolve()
        if not self._path.exists():
            raise FileNotFoundError(f"{folder} holds no state of a backend")
        address = f"{self._path.as_uri()}?mode=ro"
        self._database = Database(sqlite3.connect(address, uri=True, timeout=10))

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def sent(self, task_id: int, ids: Collection[str]) -> dict[str, SentRegion]:
        """Return those of the regions `ids` that were sent for this task, by id.

        Raises:
            OSError: The database is damaged, or may not be read.
        """
        try:
            rows = self._database.query("select * from sent_regions where task = ?", [task_id])
            return _by_id(rows, ids)
        except sqlite3.Error as error:
            raise OSError(f"{self._path} cannot be read: {error}") from None


def _by_id(rows: Iterable[Mapping[str, Any]], ids: Collection[str]) -> dict[str, SentRegion]:
    """Turn those rows of the database whose id is among `ids` into regions."""
    return {
        row["id"]: SentRegion(row["id"], row["control"], row["label"], row["answer"])
        for row in rows
        if row["id"] in ids
    }


def _decode_prediction(content: bytes) -> StoredPrediction:
    """Decode the arrays of a prediction; raise a ValueError if they are none."""
    try:
        with np.load(io.BytesIO(content)) as arrays:
            return StoredPrediction(
                arrays["label_map"],
                arrays["uncertainty"].astype(np.float32) / 255,
                tuple(Spot(**spot) for spot in json.loads(str(arrays["spots"]))),
                str(arrays["model"]) if "model" in arrays else "",
                tuple(json.loads(str(arrays["notes"]))) if "notes" in arrays else (),
                tuple(arrays["scores"].tolist()) if "scores" in arrays else (),
            )
    except UNREADABLE as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
