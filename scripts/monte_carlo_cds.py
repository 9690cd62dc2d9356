"""Measure how accurate CDs are, on images whose truth is exact, and set that beside the goals.

    python scripts/monte_carlo_cds.py --trials 60 --goals G4 G5 --csv goals.csv

Prints a Markdown table; ends with 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from backend.metrology.accuracy import GOALS, Check, check_goals


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the goals asked for; 0 if all are reached."""
    options = _parser().parse_args(arguments)
    checks = check_goals(options.goals, options.trials)
    print("| goal | condition | wanted | measured | reached |")
    print("|---|---|---|---|---|")
    for check in checks:
        reached = "yes" if check.reached else "**no**"
        print(
            f"| {check.goal} | {check.condition} | {check.wanted} | {check.measured} | {reached} |"
        )
    if options.csv:
        _write(options.csv, checks)
    return 0 if all(check.reached for check in checks) else 1


def _write(path: Path, checks: Sequence[Check]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["goal", "condition", "wanted", "measured", "reached"])
        writer.writeheader()
        writer.writerows(asdict(check) for check in checks)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure the accuracy goals on exact truth.")
    parser.add_argument(
        "--trials", type=int, default=60, help="images of each condition (default 60)"
    )
    parser.add_argument(
        "--goals", nargs="+", choices=tuple(GOALS), default=list(GOALS), help="default: all"
    )
    parser.add_argument("--csv", type=Path, help="also write the table there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
