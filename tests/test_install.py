"""`scripts/install` recovers from a half-made `.venv`; pip and venv are stand-ins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

INSTALL = Path(__file__).parents[1] / "scripts" / "install"
PIP = "#!/bin/sh\nexit 0\n"
PYTHON3 = f"""#!/bin/sh
case "$1 $2" in
    "-m venv") mkdir -p .venv/bin && {{venv}} ;;
    *) exec {sys.executable} "$@" ;;
esac
"""
MAKES = "cp bin/pip-python .venv/bin/python"
FAILS = "touch .venv/half && exit 1"


@pytest.fixture
def project(tmp_path):
    """Copy the script into a project of its own."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(INSTALL, tmp_path / "scripts")
    (tmp_path / "pyproject.toml").write_text("[project]")
    return tmp_path


def write_program(path, text):
    """Write an executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def install(project, venv):
    """Run the script with a `python3 -m venv` that does this."""
    write_program(project / "bin" / "pip-python", PIP)
    write_program(project / "bin" / "python3", PYTHON3.format(venv=venv))
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(  # noqa: S603 - ours
        [project / "scripts" / "install"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_half_made_environment_is_made_again(project):
    """After Ctrl-C there is a python, but no pip."""
    write_program(project / ".venv/bin/python", "#!/bin/sh\nexit 1\n")
    (project / ".venv/installed-demo").write_text("[project]")

    ended = install(project, MAKES)

    assert ended.returncode == 0, ended.stderr
    assert "Making .venv" in ended.stdout
    assert "Installed." in ended.stdout


def test_environment_that_could_not_be_made_leaves_nothing(project):
    """Without python3-venv; the next run begins anew."""
    ended = install(project, FAILS)

    assert ended.returncode == 1
    assert "python3-venv" in ended.stderr
    assert not (project / ".venv").exists()


def test_good_environment_is_kept(project):
    """The second run does nothing."""
    install(project, MAKES)

    assert install(project, FAILS).stdout == ""
