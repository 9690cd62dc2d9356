"""What becomes of freed memory: given back at once, or kept for what comes next."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from backend.memory import keep_freed_memory

{first}
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(first):
    """Pages that the system had to give to twenty arrays of 64 MB, one after the other."""
    code = FAULTS.format(first=first)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)  # noqa: S603 - ours
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_freed_memory_is_kept_for_what_comes_next():
    """Only the first array needs pages of the system."""
    assert faults("keep_freed_memory()") < 0.2 * faults("")
