"""Throw broken input at all that reads from outside, and report what does not take it.

    python scripts/fuzz.py --inputs 100000        # some minutes; pip install ".[test]" first
    python scripts/fuzz.py --inputs 2000 --targets pictures microscope --seed 7

The last line of the table must show no crash; then the exit code is 0. The targets are in
tests/fuzz_targets.py and tests/fuzz_api.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

SHARES = {
    "rle": 0.26,
    "strokes": 0.18,
    "configs": 0.16,
    "recipes": 0.10,
    "pictures": 0.20,
    "microscope": 0.02,
    "checkpoints": 0.05,
    "api": 0.03,
}
"""Of the inputs, by target: those that take long get few."""


def main(arguments: Sequence[str]) -> int:
    """Fuzz; 0 if nothing crashed and nothing was slow, 1 if something did."""
    parser = argparse.ArgumentParser(description="Fuzz all that reads input from outside.")
    parser.add_argument("--inputs", type=int, default=10_000, help="of all targets together")
    parser.add_argument("--targets", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--seed", type=int, default=0, help="of all chance (default: 0)")
    help_out = "folder for a report of each target (default: fuzz)"
    parser.add_argument("--out", type=Path, default=Path("fuzz"), help=help_out)
    options = parser.parse_args(arguments)
    fuzz_run = import_module("fuzz_run")  # after --help: it needs the test extra
    whole = sum(SHARES[target] for target in options.targets)
    counts = {
        target: max(1, round(options.inputs * SHARES[target] / whole)) for target in options.targets
    }
    reports = fuzz_run.run_targets(counts, options.seed, options.out)
    print(fuzz_run.table(reports))
    for report in reports:
        for place, first in report.crashes.items():
            print(f"\n{report.target}: {place}\n  the first of them: {first:.300}")
    return 0 if all(report.is_clean for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
