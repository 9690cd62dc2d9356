"""The package: the guide at hand, and nothing loaded that was not asked for."""

import subprocess
import sys

import pytest

import backend


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
