"""Bring the finished annotations of a Label Studio project to disk, or a dataset up to date.

    python scripts/export_ground_truth.py PROJECT_ID --out DATASET

The environment holds LABEL_STUDIO_URL and the other settings, as for the backend. DATASET gets
images/, masks/ (class index per pixel, 255 where it is unknown), legend.json and manifest.json.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from backend.annotation.dataset_files import MANIFEST
from backend.annotation.export import KINDS, Outcome
from backend.command_line import fail
from backend.settings import Settings, read_settings
from backend.work.project_export import open_export

COCO = "annotations.json"


def main(arguments: Sequence[str]) -> int:
    """Export; 0 if it worked, 1 if Label Studio does not answer or refuses, 2 after a mistake."""
    parser = argparse.ArgumentParser(description="Export finished ground truth to a folder.")
    parser.add_argument("project", type=int, metavar="PROJECT_ID", help="number in its address")
    out_help = "folder to make, or to bring up to date"
    parser.add_argument("--out", type=Path, required=True, metavar="DATASET", help=out_help)
    coco_help = f"write {COCO} in COCO format too; once there, it is kept up to date"
    parser.add_argument("--coco", action="store_true", help=coco_help)
    options = parser.parse_args(arguments)
    with_coco = options.coco or (options.out / COCO).exists()  # an old one would tell lies
    if with_coco and find_spec("pycocotools") is None:
        parser.error("pycocotools is missing: pip install 'tem-guide[export]'")
    try:
        _export(read_settings(), options.project, options.out, with_coco=with_coco)
    except (OSError, ValueError) as error:
        return fail(error)
    return 0


def _export(settings: Settings, project: int, folder: Path, *, with_coco: bool) -> None:
    """Export, and print what became of each finished task, and how many there are of each kind."""
    with ExitStack() as stack:
        exporting = open_export(settings, project, folder, stack)
        if exporting.notice:
            print(exporting.notice)
        counts = Counter(_tell(outcome) for outcome in exporting.run())
    if set(counts) <= {"unfinished"}:
        print(
            f"Project {project} has no finished annotation: tick Finished GT and submit. "
            f"Nothing is changed in {folder}."
        )
        return
    print(f"{', '.join(f'{counts[kind]} {kind}' for kind in KINDS)}; see {folder / MANIFEST}")
    if with_coco:
        from backend.annotation.coco import write_coco  # needs an optional extra

        print(f"{write_coco(exporting.dataset)} masks in {folder / COCO}")


def _tell(outcome: Outcome) -> str:
    """Print what became of a task, unless it is unfinished as most are; return the kind of it."""
    if outcome.kind != "unfinished":
        print(f"{outcome.kind} task {outcome.task}: {outcome.sentence}")
    for notice in () if outcome.kind == "kept" else outcome.notices:
        print(f"  {notice}")
    return outcome.kind


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
