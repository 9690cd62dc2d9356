"""Runs a server as a child process for the length of a `with` block."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

HOST = "127.0.0.1"
STOP_TIMEOUT_S = 10.0
POLL_S = 0.2
PROGRESS_S = 5.0
LOG_LINES_SHOWN = 12


class ServerError(RuntimeError):
    """A server could not be started; the message says why and what to do."""


@dataclass(frozen=True)
class Server:
    """How to start one server, and how to see that it is ready."""

    name: str  # for messages
    command: Sequence[str]
    port: int  # on 127.0.0.1
    log: Path  # gets what the server prints
    environ: Mapping[str, str] = field(default_factory=dict)  # on top of our own environment
    start_timeout_s: float = 300.0

    @property
    def url(self) -> str:
        """Address of the server, without a slash at the end."""
        return f"http://{HOST}:{self.port}"


@contextmanager
def running(server: Server, say: Callable[[str], object]) -> Iterator[str]:
    """Start a server, wait until its `/health` answers, stop it and its children at the end.

    Args:
        server: What to start.
        say: Gets a line of progress now and then.

    Yields:
        The server's address.

    Raises:
        ServerError: The port is taken, or the server stopped or did not get ready.
    """
    check_port(server.port, server.name)
    server.log.parent.mkdir(parents=True, exist_ok=True)
    with server.log.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - the command is ours, no shell is involved
            server.command,
            env=_child_environ(server),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches only us, and we stop the whole group
        )
        try:
            _wait_until_ready(server, process, say)
            yield server.url
        finally:
            _stop(process)


def _child_environ(server: Server) -> dict[str, str]:
    """Pass on PATH, HOME, proxies and locale; but no proxy leads to the servers on loopback."""
    environ = {**os.environ, **server.environ}
    direct = environ.get("no_proxy") or environ.get("NO_PROXY") or ""  # the former wins elsewhere
    if direct != "*":  # which already means every host, but only when it stands alone
        direct = ",".join(filter(None, [direct, HOST, "localhost"]))
    return {**environ, "no_proxy": direct, "NO_PROXY": direct}


def check_port(port: int, name: str) -> None:
    """Raise a `ServerError` when something listens on the port of 127.0.0.1 already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers bind
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ServerError(
                f"port {port}, meant for {name}, cannot be used ({error.strerror}): stop the "
                "program that listens there, or choose another port"
            ) from None


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(
    server: Server, process: subprocess.Popen[bytes], say: Callable[[str], object]
) -> None:
    start_s = time.monotonic()
    next_progress_s = PROGRESS_S
    while not _is_ready(server):
        elapsed_s = time.monotonic() - start_s
        if process.poll() is not None:
            raise ServerError(f"{server.name} stopped at once. {_end_of_log(server.log)}")
        if elapsed_s > server.start_timeout_s:
            raise ServerError(
                f"{server.name} is not ready after {elapsed_s:.0f} s. {_end_of_log(server.log)}"
            )
        if elapsed_s > next_progress_s:
            say(f"  {server.name} is starting, {elapsed_s:.0f} s so far")
            next_progress_s += PROGRESS_S
        time.sleep(POLL_S)


def _is_ready(server: Server) -> bool:
    try:
        answer = httpx.get(f"{server.url}/health", timeout=5.0, trust_env=False)  # no proxy
    except httpx.TransportError:
        return False
    return answer.status_code in {httpx.codes.OK, httpx.codes.UNAUTHORIZED}


def _end_of_log(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    return "\n".join([f"Its log {log} ends with:", *(f"  {line}" for line in lines)])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process group to stop; kill what is left, also when we are interrupted again."""
    try:
        _signal_group(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    finally:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # nobody of the group is left
        os.killpg(process.pid, number)
