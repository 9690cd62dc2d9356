"""CD database → a copy to browse with Datasette, and what its columns mean."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from backend.files import write_atomically
from backend.metrology.database import CdDatabase


def write_snapshot(database: CdDatabase, path: Path, folder: Path) -> tuple[Path, Path]:
    """Copy the database into `folder`, and write Datasette's metadata beside the copy.

    The copy does not change while it is browsed: `datasette -i COPY -m METADATA`.

    Returns:
        The copy and the metadata.

    Raises:
        OSError: The folder cannot be written.
        ValueError: The copy would replace the database.
    """
    copy, metadata = folder / path.name, folder / "datasette.yaml"
    if copy.resolve() == path.resolve():
        raise ValueError(f"{folder} holds the database itself: give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as aside:
        fresh = Path(aside) / copy.name
        database.execute("VACUUM INTO ?", [str(fresh)])
        fresh.replace(copy)
    write_atomically(metadata, datasette_metadata(copy.stem).encode())
    return copy, metadata


def datasette_metadata(name: str) -> str:
    """Datasette's metadata, in YAML, for a database served under `name`."""
    text = (resources.files("backend.metrology") / "datasette.yaml").read_text("utf-8")
    metadata = yaml.safe_load(text)
    metadata["databases"] = {name: metadata["databases"]["cds"]}
    return str(yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True))
