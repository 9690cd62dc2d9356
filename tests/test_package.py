"""The package: the guide at hand, and nothing loaded that was not asked for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import backend

ROOT = Path(__file__).parents[1]


def test_measuring_needs_no_pytorch():
    """Its import takes seconds, which a script that measures CDs would pay each time."""
    code = "import sys, backend.metrology.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603 - our own code


@pytest.mark.parametrize("name", backend.__all__)
def test_every_public_name_is_there(name):
    """As the README imports them."""
    assert getattr(backend, name).__name__ == name


def test_a_name_that_is_not_there_is_told():
    """Python's own sentence."""
    with pytest.raises(AttributeError, match="'backend' has no attribute 'Giude'"):
        backend.Giude  # noqa: B018


def test_every_file_is_installed():
    """A page or a recipe that is not named in pyproject.toml is missing where pip puts us."""
    (line,) = re.findall(r"^backend = (\[.*\])$", (ROOT / "pyproject.toml").read_text(), re.M)
    named = {path for glob in re.findall(r'"([^"]+)"', line) for path in backend_files(glob)}
    assert backend_files("**/*") - backend_files("**/*.py") == named


def backend_files(glob):
    """List the files of the package that match."""
    found = (ROOT / "backend").glob(glob)
    return {path for path in found if path.is_file() and "__pycache__" not in path.parts}


def test_entry_without_a_password_serves_nobody(tmp_path):
    """`gunicorn backend._wsgi:app` does not tell where it listens."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("BASIC_AUTH")}
    environ |= {"LABEL_STUDIO_URL": "http://127.0.0.1:9", "LABEL_STUDIO_API_KEY": "k"}
    run = subprocess.run(
        [sys.executable, "-c", "import backend._wsgi"],
        env={**environ, "MODEL_DIR": str(tmp_path)}, cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].endswith("or ALLOW_ANYONE=true if you want that")
