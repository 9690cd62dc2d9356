"""A process that has imported everything, and forks one that does the work, to be killed.

Starting Python with PyTorch takes seconds, a fork a few milliseconds. Run by itself it reads lines
of JSON: what to do, with what environment and log; it writes the id of the process it forked, and
at the line "reap" how that process ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

WRITERS = ("files.py", "store.py", "state_database.py", "turn_record.py", "waiting_files.py",
           "registry.py", "databases.py", "database.py")  # fmt: skip
"""In a line of these a process can kill itself, to hit moments that the clock would seldom hit."""


class WarmProcess:
    """Talks to the process."""

    def __init__(self) -> None:
        """Start it."""
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(  # noqa: S603 - ours
            [sys.executable, __file__],
            stdin=pipe,
            stdout=pipe,
            text=True,
            cwd=Path(__file__).parent,
        )

    def fork(self, work: str, environ: dict[str, str], log: Path, kill_at: int = 0) -> Forked:
        """Let it fork a process for some work, which kills itself at a line of the writers."""
        order = {"work": work, "environ": environ, "log": str(log), "kill_at": kill_at}
        return Forked(self, int(self.tell(json.dumps(order))))

    def tell(self, line: str) -> str:
        """Write a line, and read the answer."""
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.kill()  # it keeps nothing, and PyTorch takes its time to end
        self._process.wait()
        self._process.stdout.close()


class Forked:
    """A process that does the work."""

    def __init__(self, warm: WarmProcess, pid: int) -> None:
        """Know it by its number."""
        self._warm = warm
        self.pid = pid
        self._ended: int | None = None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; it is not reaped yet, so that the number is still its own."""
        if self._ended is None:
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait until it has ended; return its exit code, or the signal's number below 0."""
        if self._ended is None:
            self._ended = os.waitstatus_to_exitcode(int(self._warm.tell(f"reap {self.pid}")))
        return self._ended

    def kill(self) -> int:
        """End it by `kill -9`; return as `wait`."""
        self.signal(signal.SIGKILL)
        return self.wait()


@contextmanager
def warm_process():
    """Run one for the length of the block."""
    process = WarmProcess()
    try:
        yield process
    finally:
        process.close()


def die_at_line(number: int) -> None:
    """Let this process kill itself before so many lines of the writers have run, in any thread."""
    left = [number]

    def trace(frame, event, _argument):
        if event == "call":
            ours = Path(frame.f_code.co_filename)
            return trace if ours.name in WRITERS and "backend" in ours.parts else None
        if event == "line":
            left[0] -= 1
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)


def heed_modes() -> None:
    """Give up root's right to write what the mode of a file or folder forbids."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, rights) == 0
    rights[0] &= ~(1 << 1)  # CAP_DAC_OVERRIDE among those that are in effect
    assert libc.capset(header, rights) == 0


def _work(order: dict) -> None:
    """Do the work of an order, in the forked process."""
    os.environ.update(order["environ"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    if "HEED_MODES" in order["environ"]:
        heed_modes()
    if order["kill_at"]:
        die_at_line(order["kill_at"])
    if order["work"] == "backend":
        from backend.__main__ import main

        os._exit(main())
    import writers_to_kill

    getattr(writers_to_kill, order["work"])()


def _serve() -> None:
    import torch
    import writers_to_kill

    from backend.learning.prior import load_prior

    torch.set_num_threads(1)  # no threads before the fork
    load_prior()
    writers_to_kill.a_network()
    import kill_runs  # noqa: F401 - so that all is imported before the fork

    for line in sys.stdin:
        if line.startswith("reap"):
            answer = os.waitpid(int(line.split()[1]), 0)[1]
        else:
            answer = os.fork()
            if answer == 0:
                _work(json.loads(line))
                os._exit(0)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
