"""List, show, publish and roll back the shared models of a registry, and follow CDs to theirs.

    python scripts/models.py --registry FOLDER list
    python scripts/models.py --registry FOLDER show 3
    python scripts/models.py --registry FOLDER publish 3
    python scripts/models.py --registry FOLDER rollback
    python scripts/models.py --registry FOLDER lineage IMAGE --database cds.db

A version is published unless it is worse than the one that serves; --force publishes it anyway.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from backend.batch.lineage import trace
from backend.command_line import fail
from backend.errors import RegistryError
from backend.learning.publication import lineage, publish
from backend.learning.registry import ModelCard, Registry
from backend.metrology.database import open_database


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked; 0 if it worked, 1 if not, 2 after a mistake."""
    options = _parser().parse_args(arguments)
    registry = Registry(options.registry)
    try:
        match options.command:
            case "list":
                print(table(registry))
            case "show":
                card = registry.card(options.version)
                shown = {**asdict(card), "lineage": [asdict(s) for s in lineage(registry, card)]}
                print(json.dumps(shown, indent=1, ensure_ascii=False))
            case "publish":
                return publish_one(registry, options.version, force=options.force)
            case "lineage":
                with closing(open_database(options.database, create=False)) as database:
                    print(*trace(database, options.cd, registry), sep="\n")
            case _:
                card_now = registry.roll_back()
                print(f"{card_now.name} serves again" if card_now else "no shared model serves now")
    except (ValueError, OSError) as error:
        return fail(error)
    return 0


def publish_one(registry: Registry, version: int, *, force: bool) -> int:
    """Publish a version through the gate, or past it."""
    verdict = publish(registry, version, force=force)
    if verdict.publish or force:
        print(verdict.sentence)
        print(f"{registry.card(version).name} is published")
        return 0
    print(verdict.sentence, file=sys.stderr)
    return 1


def table(registry: Registry) -> str:
    """A line for each version."""
    standings = dict.fromkeys(registry.rolled_back(), "rolled back")
    standings |= dict.fromkeys(registry.history()[-1:], "published")
    rows: list[tuple[str, ...]] = [("version", "date", "images", "mean IoU", "materials", "")]
    for version in registry.versions():
        standing = standings.get(version, "")
        try:
            card = registry.card(version)
            damage = "its weights are damaged" if registry.damage(card) else ""
            rows.append(_row(card, ", ".join(filter(None, [standing, damage]))))
        except RegistryError:
            rows.append((f"v{version:04d}", "", "", "", "cannot be read", standing))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _row(card: ModelCard, standing: str) -> tuple[str, ...]:
    iou = card.metrics.get("mean_iou")
    return (
        card.name,
        card.created[:10],
        str(len(card.images)),
        "" if iou is None else f"{iou:.4f}",
        ", ".join(card.materials),
        standing,
    )


def _version(text: str) -> int:
    number = text.removeprefix("v")
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no version: give a number")
    return int(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The shared models of a registry.")
    parser.add_argument("--registry", type=Path, required=True, help="folder of the shared models")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="a table of all versions")
    commands.add_parser("rollback", help="let the version serve that served before")
    for name, words in (
        ("show", "what is known of a version, as JSON"),
        ("publish", "let a version serve, unless it is worse than the one that does"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument("version", type=_version, help="its number, such as 3 or v0003")
    command.add_argument("--force", action="store_true", help="even if it is worse")
    follow = commands.add_parser("lineage", help="what CDs stand on: labels, model, ground truth")
    follow.add_argument("cd", metavar="CD", help="id of a measurement or run, or name of an image")
    follow.add_argument("--database", type=Path, required=True, metavar="FILE", help="has the CDs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
