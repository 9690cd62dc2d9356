"""Import images of microscopes: pixel size, original intensities, a picture to label, a task.

    python scripts/import_images.py FILE... --out imported --project 1

Reads TIFF of all common makers, PNG, JPEG and BMP, each with a sidecar if there is one; with the
extra `microscope` also dm3, dm4, emd, ser and emi. For --project, the environment holds
LABEL_STUDIO_URL and the other settings, as for the backend.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from backend.annotation.client import LabelStudioClient
from backend.annotation.imported_tasks import ImportedTasks
from backend.batch.image_import import ImportOutcome, describe, import_images, open_tasks
from backend.batch.scale_options import scale_options, told_scale
from backend.command_line import fail
from backend.microscope.importers import ImportOptions
from backend.settings import read_settings

TIMEOUT_S = 60.0


def main(arguments: Sequence[str]) -> int:
    """Import; 0 if all came in, 1 if some were refused or Label Studio fails, 2 after a mistake."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        chosen = ImportOptions(
            options.dataset,
            told_scale(options, Path(__file__).name),
            options.resolution_tag,
            options.any_pixel_size,
        )
        with _tasks(options.project) as tasks:
            outcomes = import_images(options.files, chosen, options.out, tasks)
            refused = sum([not _tell(outcome) for outcome in outcomes])
    except (OSError, ValueError) as error:
        return fail(error)
    return 1 if refused else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Import images of microscopes.", parents=[scale_options()]
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="image of a microscope")
    out_help = "gets pictures/, originals/, records/ (default: %(default)s)"
    parser.add_argument(
        "--out", type=Path, default=Path("imported"), metavar="FOLDER", help=out_help
    )
    parser.add_argument("--project", type=int, metavar="ID", help="of Label Studio: make tasks")
    parser.add_argument("--dataset", default="", metavar="NAME",
                        help="image of a file with several, or all")  # fmt: skip
    parser.add_argument("--resolution-tag", action="store_true",
                        help="believe the plain TIFF resolution, if it is plausible")  # fmt: skip
    parser.add_argument("--any-pixel-size", action="store_true",
                        help="accept pixels outside 0.005 to 50 nm")  # fmt: skip
    return parser


@contextmanager
def _tasks(project: int | None) -> Iterator[ImportedTasks | None]:
    if project is None:
        yield None
        return
    settings = read_settings()
    key = settings.label_studio_api_key.get_secret_value()
    with LabelStudioClient(settings.label_studio_url, key, TIMEOUT_S) as client:
        yield open_tasks(client, project)


def _tell(outcome: ImportOutcome) -> bool:
    """Print what became of an image; whether it was imported."""
    for line in describe(outcome):
        print(line)
    return outcome.record is not None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
