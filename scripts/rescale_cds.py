"""Give measured images another pixel size: new rows in nm, without measuring again.

    python scripts/rescale_cds.py --database cds.db gate_1 --nm-per-px 0.21 --calibration-note "7b"
    python scripts/rescale_cds.py --database cds.db --all --factor 1.03 --calibration-note "Si 111"

The old rows stay. A recipe that places something by nanometres has to be measured again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from backend.batch.scale_options import calibration, scale_options, told_scale
from backend.command_line import fail
from backend.metrology.database import CdDatabase, get_row, open_database
from backend.metrology.rescaling import rescale
from backend.metrology.stated_scales import CORRECTED_BY
from backend.microscope.calibration import Calibration
from backend.microscope.scale import check_plausible


def main(arguments: Sequence[str] | None = None) -> int:
    """Rescale; 0 if all runs were, 1 if some have to be measured again, 2 after a mistake."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.nm_per_px is None) == (options.factor is None):
        parser.error("give either --nm-per-px or --factor")
    if not options.calibration_note:
        parser.error("say where it is known from: --calibration-note")
    try:
        with closing(open_database(options.database, create=False)) as database:
            runs = _runs(database, None if options.all else options.images)
            refused = sum(not _rescaled(database, run, options) for run in runs)
    except (ValueError, OSError) as error:
        return fail(error)
    print(f"{len(runs) - refused} of {len(runs)} runs rescaled")
    return 1 if refused else 0


def _rescaled(database: CdDatabase, run: str, options: argparse.Namespace) -> bool:
    try:
        new = rescale(database, run, _calibration(database, run, options))
    except ValueError as error:
        fail(error)
        return False
    print(f"{run} -> {new}")
    return True


def _runs(database: CdDatabase, images: Sequence[str] | None) -> list[str]:
    """The newest run of each image, recipe and source; of these images, or of all."""
    query = "SELECT DISTINCT run_id, image FROM measurement_latest"
    found: dict[str, str] = dict(database.execute(query).fetchall())
    wanted = set(found.values()) if images is None else set(images)
    lost = sorted(wanted - set(found.values()))
    if lost or not wanted:
        raise ValueError(f"no image {', '.join(lost)} was measured: name images, or give --all")
    return sorted(run for run, image in found.items() if image in wanted)


def _calibration(database: CdDatabase, run: str, options: argparse.Namespace) -> Calibration:
    told = told_scale(options, CORRECTED_BY) if options.nm_per_px else None
    if told:
        check_plausible(told)
        return told
    scale = get_row(database, "runs", run)["calibration_id"]
    if scale is None:
        raise ValueError(f"run {run} has no pixel size to multiply: give --nm-per-px")
    old = get_row(database, "calibrations", scale)
    if old["created_by"] == CORRECTED_BY:
        raise ValueError(f"run {run} was rescaled before: give its pixel size, --nm-per-px")
    sizes = (options.factor * old["nm_per_px_x"], options.factor * old["nm_per_px_y"])
    return calibration(options, sizes, CORRECTED_BY)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Give measured images another pixel size.", parents=[scale_options()]
    )
    add = parser.add_argument
    add("images", nargs="*", help="names of measured images")
    add("--all", action="store_true", help="all images")
    add("--database", type=Path, required=True, help="SQLite file of measure_cds.py")
    add("--factor", type=float, help="in place of --nm-per-px: times the pixel size used before")
    return parser


if __name__ == "__main__":
    sys.exit(main())
