"""Tell the CD database where images were taken: lot, wafer, die and site.

    python scripts/set_wafer_sites.py sites.csv --database cds.db

sites.csv has a column image, its name in the database, and some of lot, wafer, die_x, die_y and
site. Control charts and box plots of report_cds.py go by lots then.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from backend.command_line import fail
from backend.metrology.database import open_database
from backend.metrology.wafer_sites import read_sites, set_sites


def main(arguments: Sequence[str] | None = None) -> int:
    """Write them; 0 if it worked, 1 if something cannot be read or written, 2 after a mistake."""
    parser = argparse.ArgumentParser(description="Tell where measured images were taken.")
    parser.add_argument("table", type=Path, help="CSV file: image, lot, wafer, die_x, die_y, site")
    parser.add_argument(
        "--database", type=Path, required=True, help="SQLite file of measure_cds.py"
    )
    options = parser.parse_args(arguments)
    try:
        sites = read_sites(options.table)
        with closing(open_database(options.database, create=False)) as database:
            print(f"{set_sites(database, sites)} images have a place now")
    except (ValueError, OSError) as error:
        return fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
