"""Let simulated annotators work through tasks of a real Label Studio, training in between.

    python scripts/simulate_team.py --folder team-data

Starts Label Studio and the backend on free ports, imports synthetic images, and lets a person work
at each task over the API until it is right. After every few tasks the shared model is trained and
published, as with the button Start Training: later tasks should then need fewer strokes, and the
table at the end tells whether they did.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from backend.annotation.client import LabelStudioClient
from backend.annotation.label_config import write_label_config
from backend.annotation.projects import (
    BackendAddress,
    connect_backend,
    ensure_project,
    import_image,
)
from backend.annotation.tabs import ensure_tabs
from backend.command_line import fail
from backend.microscope.equipment import EquipmentName
from backend.microscope.synthetic import SyntheticImage, make_image
from backend.trials.demo_images import as_png
from backend.trials.demo_servers import backend_server, label_studio, load_keys
from backend.trials.processes import ServerError, free_port
from backend.trials.team import Finished, Person, train

EQUIPMENT: tuple[EquipmentName, ...] = ("A", "B")
LINE = "{:>6} {:>8} {:>6} {:>8.2f} {:>15.4f} {:>10.4f}  {}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Play; 0 if it worked, 1 after an error."""
    options = _parser().parse_args(arguments)
    try:
        with ExitStack() as stack:
            keys = load_keys(options.folder)
            url = stack.enter_context(label_studio(options.folder, free_port(), keys))
            backend = stack.enter_context(backend_server(options.folder, free_port(), keys, url))
            client = stack.enter_context(LabelStudioClient(url, keys.token, timeout_s=120.0))
            play(client, backend, options)
    except (ServerError, OSError, ValueError) as error:
        return fail(error)
    return 0


def play(
    client: LabelStudioClient, backend: BackendAddress, options: argparse.Namespace
) -> list[list[Finished]]:
    """Finish all tasks; return what they took, a list for each round between two trainings."""
    images = [
        make_image("gate", EQUIPMENT[seed % len(EQUIPMENT)], seed, (options.size, options.size))
        for seed in range(options.tasks)
    ]
    materials = images[0].materials
    project, is_new = ensure_project(client, options.title, write_label_config(materials))
    connect_backend(client, project, backend)
    ensure_tabs(client, project)
    if is_new:
        for number, image in enumerate(images):
            import_image(client, project, f"{number:03}.png", as_png(image.image))
    tasks = [body["id"] for body in client.tasks(project)]
    person = Person(client, project, materials, options.enough)
    print("  task  strokes   asks   waits s  before strokes   accepted  model")
    rounds: list[list[Finished]] = []
    for first in range(0, options.tasks, options.train_every):
        chosen = list(zip(tasks, images, strict=True))[first : first + options.train_every]
        rounds.append([_finish(person, task, image) for task, image in chosen])
        if first + options.train_every < options.tasks:
            start = time.perf_counter()
            status = train(client, project, backend)
            took_s = time.perf_counter() - start
            print(f"training: {status.state} after {took_s:.0f} s: {status.sentence}", flush=True)
    print(summary(rounds, options.enough))
    return rounds


def summary(rounds: Sequence[Sequence[Finished]], enough: float) -> str:
    """Medians of the tasks before the first training, and after each one, as a table."""
    rows = [
        "",
        "| trainings before | tasks | right in the end | strokes | asks | accuracy before strokes "
        "| accepted | waits s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for number, done in enumerate(rounds):
        right = sum(one.accuracy >= enough for one in done)
        cells = [
            str(number),
            str(len(done)),
            str(right),
            f"{median(one.strokes for one in done):g}",
            f"{median(one.asks for one in done):g}",
            f"{median(one.accuracy_before for one in done):.4f}",
            f"{median(one.accuracy for one in done):.4f}",
            f"{median(one.waited_s for one in done):.1f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, "", f"Medians of a task. Right: at least {enough:g} of its pixels."])


def _finish(person: Person, task: int, image: SyntheticImage) -> Finished:
    done = person.finish(task, image.label_map)
    model = person.client.predictions(task)
    version = model[-1]["model_version"] if model else ""
    print(LINE.format(done.task, done.strokes, done.asks, done.waited_s, done.accuracy_before,
                      done.accuracy, version), flush=True)  # fmt: skip
    return done


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Simulate a team of annotators.")
    add = parser.add_argument
    add("--folder", type=Path, default=Path("team-data"), help="for all data (team-data)")
    add("--title", default="Simulated team", help="of the project")
    add("--tasks", type=int, default=12, help="how many images (12)")
    add("--train-every", type=int, default=4, help="tasks between two trainings (4)")
    add("--size", type=int, default=512, metavar="PX", help="of the images (512)")
    add("--enough", type=float, default=0.985, help="accuracy at which a task is right (0.985)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
