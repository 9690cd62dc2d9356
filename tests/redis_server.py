"""A real Redis on loopback that a test can take away and bring back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from backend.trials.processes import free_port


@dataclass
class RedisServer:
    """One server; its data lie in a folder, so that they outlive a restart."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def url(self):
        """Its address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        """Start it, and wait until it answers."""
        command = [find_redis(), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--appendonly", "yes", "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - ours
        client = Redis.from_url(self.url)
        deadline = time.monotonic() + 30
        while True:
            try:
                client.ping()
            except RedisError:
                assert time.monotonic() < deadline, "Redis does not start"
                time.sleep(0.05)
            else:
                client.close()
                return

    def stop(self):
        """Take it away, as a host that fails does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def running_redis(folder: Path) -> Iterator[RedisServer]:
    """Run a Redis for the length of the block; skip the test where none is installed."""
    redis_or_skip()
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def redis_or_skip() -> None:
    """Skip the test where no Redis is installed; fail it where one is required."""
    if find_redis() is None:
        message = "no redis-server: install Debian's package redis-server"
        if os.environ.get("REQUIRE_REDIS") == "1" or os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


def find_redis():
    """Where the server is installed; None if it is not."""
    return shutil.which("redis-server")
