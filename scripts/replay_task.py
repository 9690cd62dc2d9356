"""Tell the record of a task, turn by turn, and whether a fresh guide gives the same answers.

    python scripts/replay_task.py TASK --state model-data                  # the record
    python scripts/replay_task.py TASK --state model-data --image FILE     # and its replay

The record tells who drew, how much, by which model and settings (their hash) the guide answered,
and the hash of the answer. Where a fresh guide answers otherwise, it says in how many pixels, and
why. Exit code 0: all is the same, or differs for a reason; 1: one differs without; 2: a mistake.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from backend.command_line import fail
from backend.learning.registry import Registry
from backend.microscope.images import decode_image
from backend.state.state_database import STATE, StateDatabase
from backend.state.turn_record import TurnRecord
from backend.state.turn_replay import describe, replay_task


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay; 0 if nothing is left unexplained, 1 if something is, 2 after a mistake."""
    options = _parser().parse_args(arguments)
    if not (options.state / STATE).exists():
        print(f"{options.state} holds no state of a backend", file=sys.stderr)
        return 2
    unexplained = 0
    try:
        image = decode_image(options.image.read_bytes()) if options.image else None
        registry = Registry(options.registry or options.state / "models")
        with closing(StateDatabase(options.state)) as database:
            replayed = replay_task(TurnRecord(database), options.task, image, registry)
            for number, one in enumerate(replayed, 1):
                print(f"turn {number}, {describe(one)}")
                unexplained += one.is_unexplained
    except (ValueError, OSError) as error:
        return fail(error)
    return 1 if unexplained else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Tell the record of a task, and replay it.")
    add = parser.add_argument
    add("task", type=int, help="number in Label Studio")
    add("--state", type=Path, default=Path("model-data"), help="MODEL_DIR of the backend")
    add("--image", type=Path, metavar="FILE", help="of the task: without it nothing is replayed")
    add("--registry", type=Path, metavar="FOLDER", help="of the shared models, else STATE/models")
    return parser


if __name__ == "__main__":
    sys.exit(main())
