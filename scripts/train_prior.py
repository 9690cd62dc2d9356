"""Train the prior: the network of the guide that has learned what strokes mean.

    python scripts/train_prior.py FOLDER

Draws random micrographs with strokes into FOLDER by all processors and trains on them, some hours
on two of them; a run that was stopped goes on when it is started again. At the end FOLDER holds
prior_weights.safetensors and prior_report.json: copy both into backend/learning/ to use them.
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

from backend.files import write_atomically
from backend.learning.guide import GuideSettings
from backend.learning.networks import save_weights
from backend.learning.prior_samples import make_samples
from backend.learning.prior_training import PriorTrainer, PriorTraining, held_out_scores

SAVE_EVERY_STEPS = 100
LOSSES_IN_REPORT = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, train and report; 0 if all went well."""
    options = _parser().parse_args(arguments)
    settings = PriorTraining(steps=options.steps, seed=options.seed)
    folder: Path = options.folder
    drawn = make_samples(
        folder / "samples", options.samples + options.held_out, options.seed, options.workers
    )
    held_out, samples = drawn[: options.held_out], drawn[options.held_out :]
    trainer = PriorTrainer(samples, settings)
    state = folder / "training_state.safetensors"
    try:
        if state.exists():
            trainer.load(state)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    done = len(trainer.losses)
    for loss in (bar := tqdm(trainer.run(), "training", settings.steps, initial=done)):
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        if len(trainer.losses) % SAVE_EVERY_STEPS == 0:
            trainer.save(state)
    share = GuideSettings().previous_share
    report = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "settings": asdict(settings),
        "samples": len(samples),
        "loss": _means(trainer.losses, LOSSES_IN_REPORT),
        "held_out": {
            "samples": len(held_out),
            **held_out_scores(trainer.network, held_out, share),
        },
    }
    save_weights(trainer.network.half(), folder / "prior_weights.safetensors", report)
    text = json.dumps(report, indent=1)
    write_atomically(folder / "prior_report.json", text.encode())
    print(text)
    return 0


def _means(values: Sequence[float], count: int) -> list[float]:
    """Average a long row of values to `count` of them, at most."""
    size = -(-len(values) // count)
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    return [round(sum(part) / len(part), 4) for part in parts]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the prior of the guide.")
    parser.add_argument("folder", type=Path, help="for samples, state and weights")
    parser.add_argument("--samples", type=int, default=1500, help="to train on (default 1500)")
    parser.add_argument("--held-out", type=int, default=50, help="to measure on (default 50)")
    steps = PriorTraining().steps
    parser.add_argument("--steps", type=int, default=steps, help=f"of training (default {steps})")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    workers = os.cpu_count() or 1
    parser.add_argument("--workers", type=int, default=workers, help="processes that draw")
    return parser


if __name__ == "__main__":
    sys.exit(main())
