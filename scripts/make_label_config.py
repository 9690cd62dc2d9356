"""Write Label Studio's labeling config for a list of materials.

Example: python scripts/make_label_config.py Si Oxide Nitride Metal --output label_config/gate.xml
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from backend.annotation.label_config import write_label_config
from backend.command_line import fail
from backend.errors import InvalidLabelConfigError


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="make_label_config.py",
        description="Write Label Studio's labeling config for a list of materials.",
    )
    parser.add_argument(
        "materials", nargs="+", metavar="MATERIAL", help="name of a class, in the order of classes"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="file to write; printed if left out"
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Write or print the config; 0 if it worked, 2 after a user's mistake."""
    options = make_parser().parse_args(arguments)
    try:
        xml = write_label_config(options.materials)
        if options.output is None:
            sys.stdout.write(xml)
        else:
            options.output.write_text(xml, encoding="utf-8")
    except (InvalidLabelConfigError, OSError) as error:
        return fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
