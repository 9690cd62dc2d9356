"""Turn a CD database into tables, figures, overlays and one page about them.

    python scripts/report_cds.py --database cds.db --out report --overlays

Open report/index.html. With --browse a copy of the database is written too, for Datasette.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from backend.command_line import fail
from backend.metrology.browsing import write_snapshot
from backend.metrology.database import open_database

PATIENCE = "--setting sql_time_limit_ms 10000 --setting facet_time_limit_ms 3000"
"""Pairing tens of thousands of CDs takes Datasette seconds; it gives up after one."""


def main(arguments: Sequence[str]) -> int:
    """Write the report; 0 if it worked, 1 if a file cannot be written, 2 after a mistake."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.baseline is not None and options.baseline < 2:  # noqa: PLR2004 - one shows no spread
        parser.error("--baseline must be 2 or more images")
    try:
        from backend.metrology.report import ReportOptions, write_report  # need an optional extra
        from backend.metrology.workbook import write_workbook
    except ModuleNotFoundError as error:
        sys.exit(f'{error.name} is missing: .venv/bin/pip install -e ".[report]"')
    try:
        with closing(open_database(options.database, create=False)) as database:
            wanted = ReportOptions(options.overlays, options.baseline)
            print(write_report(database, options.database, options.out, wanted))
            if options.xlsx:
                print(write_workbook(database, options.out / "cds.xlsx"))
            if options.browse:
                copy, metadata = write_snapshot(database, options.database, options.out / "browse")
                print(f"datasette -i {copy} -m {metadata} {PATIENCE}")
    except (ValueError, OSError) as error:
        return fail(error)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        description="Turn a CD database into tables, figures and one page about them."
    )
    add = parser.add_argument
    add("--database", type=Path, required=True, metavar="FILE", help="as measure_cds.py fills it")
    add("--out", type=Path, required=True, metavar="FOLDER", help="for index.html and its files")
    add("--overlays", action="store_true", help="draw the newest run of each image")
    add("--baseline", type=int, metavar="N", help="control limits from the first N images (all)")
    add("--xlsx", action="store_true", help="write all tables as an Excel file, too")
    add("--browse", action="store_true", help="copy the database, for Datasette")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
