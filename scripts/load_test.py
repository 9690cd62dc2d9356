"""Let many annotators work at once in a real Label Studio, and see whether everything holds.

    python scripts/load_test.py --annotators 1 2 5 10 --minutes 5 --out load

Starts Label Studio and the backend on free ports; for each number of annotators the backend starts
anew. With --label-studio and --backend it goes to servers that run on this machine already, with
the keys and the state of --folder: scripts/demo --data FOLDER prints their addresses. Each
annotator thinks and draws for 15 to 45 s before an ask, evenly distributed, asks 3 to 6 times for
each of its images and finishes it; the same --seed draws the same. Exit code 0: no request failed
and no stroke was lost.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from backend.annotation.client import LabelStudioClient
from backend.annotation.projects import BackendAddress
from backend.command_line import fail
from backend.trials.demo_servers import BACKEND_USER, backend_server, label_studio, load_keys
from backend.trials.load import run_load
from backend.trials.load_records import Records
from backend.trials.load_report import holds, report
from backend.trials.load_setup import Load, Pace, Servers
from backend.trials.processes import ServerError, free_port


def main(arguments: Sequence[str] | None = None) -> int:
    """Play; 0 if everything held, 1 if something failed or was lost, 2 after a mistake."""
    options = _parser().parse_args(arguments)
    if bool(options.label_studio) != bool(options.backend):
        _parser().error("give both addresses, --label-studio and --backend, or none")
    runs: dict[int, Records] = {}
    try:
        for number, annotators in enumerate(options.annotators):
            pace = Pace(think_s=tuple(options.think_s))
            load = Load(annotators, options.minutes, pace, options.size, options.seed + number)
            with ExitStack() as stack:
                records = runs[annotators] = run_load(_servers(stack, options), load)
            if options.out:
                records.write(options.out / f"{annotators}-annotators")
            print("\n".join(["", *records.errors, "", report(runs)]), flush=True)
    except (ServerError, OSError, ValueError) as error:
        return fail(error)
    return 0 if all(holds(records) for records in runs.values()) else 1


def _servers(stack: ExitStack, options: argparse.Namespace) -> Servers:
    keys, url, backend = load_keys(options.folder), options.label_studio, None
    if options.backend:
        backend = BackendAddress(options.backend, BACKEND_USER, keys.backend_password)
    else:
        url = stack.enter_context(label_studio(options.folder, free_port(), keys))
        backend = stack.enter_context(backend_server(options.folder, free_port(), keys, url))
    client = stack.enter_context(LabelStudioClient(url, keys.token, timeout_s=120.0))
    return Servers(client, backend, options.folder / "backend")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Let many annotators work at once.")
    add = parser.add_argument
    add("--annotators", type=int, nargs="+", default=[10], metavar="N", help="one run each (10)")
    add("--minutes", type=float, default=5, help="of each run (5)")
    add("--think-s", type=float, nargs=2, default=[15, 45], metavar="S", help="from to (15 45)")
    add("--size", type=int, default=512, metavar="PX", help="of the images (512)")
    add("--seed", type=int, default=1, help="of all that is drawn by chance (1)")
    add("--folder", type=Path, default=Path("load-data"), help="for all data (load-data)")
    add("--label-studio", metavar="URL", help="one that runs with the data of --folder")
    add("--backend", metavar="URL", help="one that runs with the data of --folder")
    add("--out", type=Path, help="folder for CSV files of every request, answer and second")
    return parser


if __name__ == "__main__":
    sys.exit(main())
