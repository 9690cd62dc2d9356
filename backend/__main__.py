"""Serve the backend: `python -m backend`, configured by environment variables."""

from __future__ import annotations

import signal
import sys

import uvicorn

from backend.logs import configure_logging
from backend.memory import pass_over_what_is_loaded
from backend.serving.access import check_listening
from backend.serving.server import create_app
from backend.settings import read_settings


def main() -> int:
    """Serve until stopped, which is a success; return 2 after a mistake in the settings."""
    try:
        settings = read_settings()
        check_listening(settings)
        configure_logging(settings)
        app = create_app(settings)
        pass_over_what_is_loaded()
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    signal.signal(signal.SIGTERM, _stop)  # uvicorn shuts down, then hands the signal on to us
    # the event loop that answers /health gets the interpreter sooner (by default after 5 ms) while
    # the training thread handles trees and tensors
    sys.setswitchinterval(0.001)
    # one process: guides and their worker live in it
    level = settings.log_level.lower()  # without a config of its own, it logs in our format
    uvicorn.run(app, host=settings.host, port=settings.port, log_level=level, log_config=None)
    return 0


def _stop(_number: int, _frame: object) -> None:
    """Being told to stop is no failure."""
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
