"""Train the prior: the network of the guide that has learned what strokes mean.

    python scripts/train_prior.py FOLDER

Draws random micrographs with strokes into FOLDER by all processors and trains on them, some hours
on two of them, with 5 GB of memory; a run that was stopped goes on when it is started again. In the
end FOLDER holds prior_weights.safetensors with its report in the header: copy it into
backend/learning/ to use it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from tqdm import tqdm

from backend.command_line import fail
from backend.learning.guide import GuideSettings
from backend.learning.networks import save_weights
from backend.learning.prior_samples import make_samples
from backend.learning.prior_training import PriorTrainer, PriorTraining, held_out_scores

SAVE_EVERY_STEPS = 100
LOSSES_IN_REPORT = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, train and report; 0 if all went well."""
    options = _parser().parse_args(arguments)
    folder: Path = options.folder
    settings = PriorTraining(options.samples, options.held_out, options.steps, seed=options.seed)
    count = settings.held_out + settings.samples
    drawn = make_samples(folder / "samples", count, settings.seed, options.workers)
    trainer = PriorTrainer(drawn[settings.held_out :], settings)
    try:
        train(trainer, folder / "training_state.safetensors")
    except ValueError as error:
        return fail(error)
    share = GuideSettings().previous_share
    report = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "settings": asdict(settings),
        "loss": _means(trainer.losses, LOSSES_IN_REPORT),
        "held_out": held_out_scores(trainer.network, drawn[: settings.held_out], share),
    }
    save_weights(trainer.network.half(), folder / "prior_weights.safetensors", report)
    print(json.dumps(report, indent=1))
    return 0


def train(trainer: PriorTrainer, state: Path) -> None:
    """Train to the end, from where `state` was written."""
    if state.exists():
        trainer.load(state)
    done = len(trainer.losses)
    for loss in (bar := tqdm(trainer.run(), "training", trainer.settings.steps, initial=done)):
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        if len(trainer.losses) % SAVE_EVERY_STEPS == 0:
            trainer.save(state)


def _means(values: Sequence[float], count: int) -> list[float]:
    """Average a long row of values to `count` of them, at most."""
    size = -(-len(values) // count)
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    return [round(sum(part) / len(part), 4) for part in parts]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few: give 1 or more")
    return number


def _parser() -> argparse.ArgumentParser:
    default = PriorTraining()
    parser = argparse.ArgumentParser(description="Train the prior of the guide.")
    parser.add_argument("folder", type=Path, help="for samples, state and weights")
    for name, value, words in (
        ("--samples", default.samples, "to train on"),
        ("--held-out", default.held_out, "samples to measure on"),
        ("--steps", default.steps, "of training"),
        ("--workers", os.cpu_count() or 1, "processes that draw"),
        ("--seed", default.seed, "of all that is random"),
    ):
        text = f"{words} (default {value})"
        parser.add_argument(name, type=_positive, default=value, help=text)
    return parser


if __name__ == "__main__":
    sys.exit(main())
