"""Check CD recipes, and tell what they would measure.

    python scripts/check_recipe.py RECIPE.yaml... --nm-per-px 0.21 --labels Si Oxide Metal Nitride
    python scripts/check_recipe.py --schema recipe.schema.json      # for editors

All mistakes are told at once, each with its line. Exit code 0: none, 2: some.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from backend.command_line import fail
from backend.files import write_atomically
from backend.metrology.recipe_file import load_recipe, recipe_schema
from backend.metrology.recipe_plan import describe_plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Check; 0 if all recipes are right, 2 if not, 1 if something cannot be read or written."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not (options.recipes or options.schema):
        parser.error("name recipes, or --schema FILE")
    code = 0
    for path in options.recipes:
        try:
            print("\n".join(describe_plan(load_recipe(path, options.labels), options.nm_per_px)))
        except (ValueError, OSError) as error:
            code = max(code, fail(error))
    try:
        if options.schema:
            write_atomically(options.schema, recipe_schema().encode())
    except OSError as error:
        code = max(code, fail(error))
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Check CD recipes.")
    add = parser.add_argument
    add("recipes", type=Path, nargs="*", help="YAML files")
    add("--labels", nargs="+", help="of the project, which the materials must be among")
    add("--nm-per-px", type=float, help="pixel size of the images that will be measured")
    add("--schema", type=Path, metavar="FILE", help="write the JSON Schema of recipes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
