"""Kill what writes hundreds of times at random moments, and check that nothing is lost.

    python tests/survive_kills.py --kills 300 --of backend state registry cds --seed 0

Each cycle starts a process on what the one before left: a backend that is asked and gets
submissions from a stand-in of Label Studio, its store alone (which writes more often), one that
publishes models, or one that writes CDs. Half
of them are killed by the clock, half kill themselves before a line of the modules that write.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from kill_runs import Backend, backend_cycle, cds_cycle, registry_cycle, state_cycle
from label_studio_stand_in import LabelStudioStandIn
from loopback import loopback_server
from tqdm import trange
from warm_process import warm_process


def say(sentence: str) -> None:
    """Tell how far it is."""
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Kill; 0 if nothing was lost; an assertion tells what was, and the folder stays."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300, help="of each kind")
    parser.add_argument("--of", nargs="+", default=["backend", "state", "registry", "cds"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    say(f"state: {folder}")
    with loopback_server() as server, warm_process() as warm:
        backend = Backend(warm, LabelStudioStandIn(server), folder / "backend" / "state")
        backend.folder.parent.mkdir()
        dice = random.Random(options.seed)  # noqa: S311 - no secret
        cycles = {
            "backend": lambda _: backend_cycle(backend, dice),
            "state": lambda number: state_cycle(warm, folder / "state", dice, 100 * number),
            "registry": lambda _: registry_cycle(warm, folder / "models", dice),
            "cds": lambda number: cds_cycle(warm, folder / "cds", dice, 3 * number),
        }
        checked = {
            "backend": "answers replayed",
            "state": "writes",
            "registry": "publications",
            "cds": "runs written",
        }
        for kind in options.of:
            start, kills, total = time.monotonic(), 0, 0
            with suppress(KeyboardInterrupt):  # tells how far it came
                for number in trange(options.kills, desc=kind):
                    total += cycles[kind](number)
                    kills += 1
            took = time.monotonic() - start
            say(f"{kind}: {kills} kills in {took:.0f} s, {total} {checked[kind]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
