"""The two servers of the demo, each for the length of a `with` block; the tests run them too."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from backend.annotation.projects import BackendAddress
from backend.trials.processes import Server, ServerError, running

BACKEND_USER = "label-studio"


def say(line: str) -> None:
    """Show a line to the user at once, also when the output is a file."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Keys:
    """What opens the two servers; made at random for each data folder."""

    email: str
    password: str
    token: str  # legacy token, 40 hex digits
    backend_password: str


def load_keys(folder: Path) -> Keys:
    """Read the keys of a data folder; make them when there are none. Only the owner may read."""
    path = folder / "keys.json"
    if path.exists():
        return Keys(**json.loads(path.read_text()))
    keys = Keys(
        email="demo@example.com",
        password=secrets.token_urlsafe(12),
        token=secrets.token_hex(20),
        backend_password=secrets.token_urlsafe(24),
    )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(keys), file, indent=2)
    return keys


@contextmanager
def label_studio(
    folder: Path, port: int, keys: Keys, say: Callable[[str], object] = say
) -> Iterator[str]:
    """Run Label Studio with its data in `folder / "label-studio"`; yield its address.

    Raises:
        ServerError: It is not installed, the port is taken, or it does not start.
    """
    if importlib.util.find_spec("label_studio") is None:
        raise ServerError("label-studio is not installed: run pip install -e '.[demo]'")
    data = (folder / "label-studio").resolve()
    data.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "label_studio.server", "start", "--no-browser"]
    command += ["--internal-host", "127.0.0.1", "--port", str(port), "--data-dir", str(data)]
    environ = _label_studio_environ(data, port, keys)
    log = folder / "label-studio.log"
    with running(Server("Label Studio", command, port, log, environ), say) as url:
        yield url


def _label_studio_environ(data: Path, port: int, keys: Keys) -> dict[str, str]:
    return {
        "LABEL_STUDIO_USERNAME": keys.email,
        "LABEL_STUDIO_PASSWORD": keys.password,
        "LABEL_STUDIO_USER_TOKEN": keys.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",  # read at the first start only
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_HOST": f"http://127.0.0.1:{port}",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "DJANGO_DB": "sqlite",
        # without these two, Label Studio refuses a backend on loopback
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
        # nothing leaves the machine
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "LOG_LEVEL": "INFO",
    }


@contextmanager
def backend_server(
    folder: Path,
    port: int,
    keys: Keys,
    label_studio_url: str,
    extra: Mapping[str, str] | None = None,
    say: Callable[[str], object] = say,
) -> Iterator[BackendAddress]:
    """Run the backend with its state in `folder / "backend"`; yield its address.

    Args:
        folder: The data folder.
        port: Where to listen on 127.0.0.1.
        keys: For Label Studio, and for the backend itself.
        label_studio_url: The Label Studio it works for.
        extra: Further settings of the backend, by environment variable.
        say: Gets lines of progress.

    Raises:
        ServerError: The port is taken, or it does not start.
    """
    environ = {
        "LABEL_STUDIO_URL": label_studio_url,
        "LABEL_STUDIO_API_KEY": keys.token,
        "MODEL_DIR": str((folder / "backend").resolve()),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "LOG_LEVEL": "INFO",
        "BASIC_AUTH_USER": BACKEND_USER,
        "BASIC_AUTH_PASS": keys.backend_password,
        **(extra or {}),
    }
    command = [sys.executable, "-m", "backend"]
    log = folder / "backend.log"
    with running(Server("the backend", command, port, log, environ), say) as url:
        yield BackendAddress(url, BACKEND_USER, keys.backend_password)
