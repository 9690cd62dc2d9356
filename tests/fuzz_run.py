"""Runs targets of the fuzzing, each in a process of its own, and counts what comes of it."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from backend.files import write_atomically

SLOW_S = 5.0
"""An input that takes longer is reported; of processor time, of a server by the clock."""
HANG_S = 60.0
"""One that takes longer is given up; of processor time."""
KEEP_EVERY = 1000
"""Inputs after which the report is written: a run that is stopped has told something."""
WARM_UP = 0.25
"""Share of the inputs after which the memory should not grow any more."""


class HangError(BaseException):
    """An input has kept a target busy for too long."""


@dataclass
class Report:
    """What came of the inputs of one target."""

    target: str
    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    slow: int = 0
    slowest_s: float = 0.0
    warm_mb: float = 0.0  # memory after the warm-up
    end_mb: float = 0.0
    seconds: float = 0.0
    crashes: dict[str, str] = field(default_factory=dict)  # where → the first input

    @property
    def is_clean(self) -> bool:
        """Whether nothing crashed, and nothing was slow."""
        return not self.crashes and not self.slow


class Counted:
    """Hands inputs to a target one by one, and writes down what happens."""

    def __init__(self, path: Path, target: str, total: int, memory: Callable[[], float]) -> None:
        self._path = path
        self._report = Report(target)
        self._start_s = time.perf_counter()
        self._warm = max(1, int(total * WARM_UP))
        self.memory = memory
        self.clock: Callable[[], float] = time.process_time  # others use the machine too

    def take(self, value: Any, check: Callable[[Any], object], sentences: tuple[type, ...]) -> None:
        """Try one input."""
        report, start_s = self._report, self.clock()
        signal.setitimer(signal.ITIMER_PROF, HANG_S)
        try:
            check(value)
            report.accepted += 1
        except sentences:
            report.refused += 1
        except (Exception, HangError) as error:  # noqa: BLE001 - whatever it is, it is reported
            report.crashes.setdefault(where(error), f"{str(error)[:200]!r}, of {value!r:.2000}")
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        took_s = self.clock() - start_s
        report.inputs += 1
        report.slow += took_s > SLOW_S
        report.slowest_s = max(report.slowest_s, took_s)
        if report.inputs == self._warm:
            report.warm_mb = self.memory()
        if report.inputs % KEEP_EVERY == 0:
            self.finish()

    def finish(self) -> None:
        """Keep what is known so far, the memory too."""
        self._report.end_mb = self.memory()
        self._report.seconds = time.perf_counter() - self._start_s
        write_atomically(self._path, json.dumps(asdict(self._report)).encode())


def where(error: BaseException) -> str:
    """Name a mistake by its kind and the place in our code: the same one is told once."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/backend/" in frame.filename] or frames
    last = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    return f"{type(error).__name__} at {last}"


def run_targets(counts: Mapping[str, int], seed: int, folder: Path) -> list[Report]:
    """Run targets one after the other.

    Args:
        counts: How many inputs, by target.
        seed: Of all chance.
        folder: For the reports; a process that dies leaves its last one there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [_run_apart(target, count, seed, folder) for target, count in counts.items()]


def _run_apart(target: str, count: int, seed: int, folder: Path) -> Report:
    """Run a target in a process of its own: it may die, and its memory is measured."""
    path = folder / f"{target}.json"
    path.unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_run_here, args=(target, count, seed, path))
    process.start()
    process.join()
    report = Report(**json.loads(path.read_text())) if path.exists() else Report(target)
    if process.exitcode:
        report.crashes[f"the process ended with {process.exitcode}"] = f"seed {seed}"
    return report


def _run_here(target: str, count: int, seed: int, path: Path) -> None:
    from backend.memory import resident_bytes, release_freed_memory  # noqa: I001 - heavy, and not for the parent

    def memory_mb() -> float:
        release_freed_memory()
        return resident_bytes()[0] / 1e6

    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, give_up)
    counted = Counted(path, target, count, memory_mb)
    if target == "api":
        from fuzz_api import play
    else:
        from fuzz_targets import TARGETS

        chosen, random = TARGETS[target], Random(seed)  # noqa: S311 - no secret

        def play(count: int, _seed: int, counted: Counted) -> None:
            for _ in range(count):
                counted.take(chosen.make(random), chosen.check, chosen.sentences)
            counted.finish()

    play(count, seed, counted)


def give_up(_number: int, _frame: FrameType | None) -> None:
    """End an input that takes too long; the handler of a signal."""
    raise HangError(f"it took more than {HANG_S:g} s")


def table(reports: list[Report]) -> str:
    """All reports as Markdown."""
    lines = [
        "| target | inputs | read | refused | crashes | over 5 s | slowest | memory | growth |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in reports:
        lines.append(
            f"| {r.target} | {r.inputs:,} | {r.accepted:,} | {r.refused:,} | {len(r.crashes)} | "
            f"{r.slow} | {r.slowest_s:.2f} s | {r.end_mb:.0f} MB | {r.end_mb - r.warm_mb:+.1f} MB |"
        )
    total = Counter[str]()
    for r in reports:
        total.update(inputs=r.inputs, crashes=len(r.crashes), slow=r.slow)
    lines.append(f"| all | {total['inputs']:,} | | | {total['crashes']} | {total['slow']} | | | |")
    return "\n".join(lines)
