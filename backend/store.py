"""What must survive a restart: strokes, predictions and weights by task, and what was sent.

A folder a task, its files written aside and renamed; beside them one SQLite database of the regions
sent to Label Studio, which tell a stroke from a mask that came back.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import sqlite3
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from sqlite_utils import Database

from backend.annotation.tasks import SentRegion, Task
from backend.arrays import LabelMap, UncertaintyMap
from backend.files import UNREADABLE, write_atomically
from backend.learning.spots import Spot

logger = logging.getLogger(__name__)

STATE = "state.db"
_TURN_COLUMNS = {"key": str, "task": int, "at": str, "strokes": int, "drawn_px": int,
                 "uncertainty": float, "model": str}  # fmt: skip


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

    @property
    def score(self) -> float:
        """Confidence of the whole prediction, 1 - mean uncertainty, 0 to 1."""
        return 1 - float(self.uncertainty.mean())


@dataclass(frozen=True)
class Turn:
    """What was drawn by an answer, and what the answer was."""

    task: int
    at: str  # date and time, ISO 8601
    strokes: int  # regions of the scribble brush
    drawn_px: int
    uncertainty: float  # mean of the image, 0 to 1
    model: str  # version


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
        """
        self._tasks = folder / "tasks"
        self._tasks.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(folder / STATE, check_same_thread=False, timeout=10)
        self._database = Database(connection)
        self._database.enable_wal()
        self._lock = threading.Lock()  # one connection, several request threads
        columns = {"id": str, "task": int, "control": str, "label": str, "answer": str}
        self._sent = self._database.table("sent_regions")
        self._sent.create(columns, pk="id", if_not_exists=True)
        self._sent.create_index(["task"], if_not_exists=True)
        self._turns = self._database.table("turns")
        self._turns.create(_TURN_COLUMNS, if_not_exists=True)
        self._turns.create_index(["key"], if_not_exists=True)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def guide_path(self, key: str) -> Path:
        """Where the guide of a task keeps its answers and its network."""
        return self._tasks / key / "guide.safetensors"

    def save_scribbles(self, key: str, scribbles: LabelMap) -> None:
        """Keep all strokes on an image, as a PNG with 255 where nobody drew."""
        buffer = io.BytesIO()
        Image.fromarray(scribbles).save(buffer, "PNG")
        write_atomically(self._tasks / key / "scribbles.png", buffer.getvalue())

    def load_scribbles(self, key: str) -> LabelMap | None:
        """Return the strokes of a task as last saved, shape (H, W); None if there are none.

        A damaged file is renamed, so that the next strokes do not replace what may be rescued.
        """
        path = self._tasks / key / "scribbles.png"
        try:
            return _decode_scribbles(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            aside = path.with_name(f"{path.name}.damaged")
            path.replace(aside)
            logger.warning("%s: its strokes are damaged, see %s: %s", key, aside, error)
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
        )
        write_atomically(self._tasks / key / "prediction.npz", buffer.getvalue())

    def load_prediction(self, key: str) -> StoredPrediction | None:
        """Return the latest prediction of a task; None if there is none, or a damaged one."""
        path = self._tasks / key / "prediction.npz"
        try:
            return _decode_prediction(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            logger.warning("%s: %s is damaged and ignored: %s", key, path, error)
            return None

    def record_turn(self, key: str, turn: Turn) -> int:
        """Add a turn to the record, which only grows; return how many there are of this task."""
        with self._lock:
            self._turns.insert({"key": key, **asdict(turn)})
            return self._turns.count_where("key = ?", [key])

    def turns(self, key: str) -> list[Turn]:
        """The turns of a task in their order."""
        with self._lock:
            rows = list(self._turns.rows_where("key = ?", [key], order_by="rowid"))
        return [Turn(**{name: row[name] for name in Turn.__annotations__}) for row in rows]

    def remember_sent(self, task_id: int, regions: Sequence[SentRegion]) -> None:
        """Remember the regions of an answer."""
        with self._lock:
            self._sent.insert_all([{**asdict(region), "task": task_id} for region in regions])

    def sent(self, task_id: int, ids: Collection[str]) -> dict[str, SentRegion]:
        """Return those of the regions `ids` that we have sent for this task, by id."""
        with self._lock:
            return _by_id(self._sent.rows_where("task = ?", [task_id]), ids)


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


def _decode_scribbles(content: bytes) -> LabelMap:
    """Decode a PNG of strokes; raise a ValueError if it is none."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as file:
            scribbles = np.array(file)
    except (OSError, SyntaxError) as error:  # the latter is Pillow's, for a broken PNG
        raise ValueError(str(error)) from error
    if scribbles.ndim != 2 or scribbles.dtype != np.uint8:  # noqa: PLR2004 - rows, columns
        raise ValueError(f"it holds {scribbles.dtype} of shape {scribbles.shape}, no label map")
    return scribbles


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
            )
    except UNREADABLE as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
