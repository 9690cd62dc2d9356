"""Watches the servers of a load test: how quickly `/health` answers, what they hold and burn."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from http import HTTPStatus
from multiprocessing import get_context
from urllib.parse import urlsplit

import httpx
import psutil

from backend.trials.load_records import Records, Request, Sample

EVERY_S = 1.0
PROBE = "health"


@contextmanager
def watching(records: Records, urls: Mapping[str, str], probed: str) -> Iterator[None]:
    """Watch for the length of the block, each second.

    Args:
        records: Where it is taken down.
        urls: Addresses of servers by name. The processes of those on other machines are not seen.
        probed: The server whose `/health` is asked.
    """
    processes = {name: found for name, url in urls.items() if (found := listener(url))}
    stop = threading.Event()

    def watch(prober: ProcessPoolExecutor) -> None:
        while not stop.is_set():
            status, seconds = prober.submit(probe, urls[probed]).result()
            records.requests.append(Request(records.at_s, PROBE, "GET", "/health", status, seconds))
            if status != HTTPStatus.OK:
                records.errors.append(f"/health does not answer: status {status}")
            _sample(records, processes)
            stop.wait(EVERY_S)

    # a process of its own: here the players' threads would be part of what it measures
    with ProcessPoolExecutor(1, get_context("spawn")) as prober:
        prober.submit(probe, urls[probed]).result()  # has started by then
        thread = threading.Thread(target=watch, args=[prober], name="watch")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def listener(url: str) -> psutil.Process | None:
    """Find the process of ours that listens on the port of an address; None on other machines."""
    port = urlsplit(url).port
    for connection in psutil.net_connections("tcp"):
        listens = connection.status == psutil.CONN_LISTEN
        if listens and getattr(connection.laddr, "port", None) == port:
            return psutil.Process(connection.pid) if connection.pid else None
    return None


def probe(url: str) -> tuple[int, float]:
    """Ask a backend for its health; returns the status, 0 for no answer, and the seconds."""
    begun_s = time.perf_counter()
    try:
        status = _client().get(f"{url}/health").status_code
    except httpx.HTTPError:
        status = 0
    return status, time.perf_counter() - begun_s


@cache
def _client() -> httpx.Client:
    return httpx.Client(trust_env=False, timeout=30)


def _sample(records: Records, processes: Mapping[str, psutil.Process]) -> None:
    for name, process in {**processes, "players": psutil.Process()}.items():
        rss = cpu_s = 0.0
        for one in _family(process):
            try:
                rss += one.memory_info().rss
                times = one.cpu_times()
            except psutil.NoSuchProcess:
                continue
            cpu_s += times.user + times.system + times.children_user + times.children_system
        records.samples.append(Sample(records.at_s, name, rss / 1e6, cpu_s))
    busy = psutil.cpu_times()
    everything = sum(busy) - busy.idle - busy.iowait - busy.guest - busy.guest_nice
    records.samples.append(Sample(records.at_s, "machine", 0, everything))


def _family(process: psutil.Process) -> list[psutil.Process]:
    """A server and its children, if it is no part of this program's."""
    if process.pid == psutil.Process().pid:
        return [process]
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
