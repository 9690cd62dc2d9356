"""The benchmark of the server: a real backend trains while it is asked."""

import pytest
from measured import read_table

from scripts.benchmark_server import main


def test_latencies_are_measured_while_a_backend_trains(capsys):
    """The whole command, on a tiny image."""
    assert main(["--size", "64", "--seconds", "1"]) == 0

    table = read_table(capsys.readouterr().out)
    for path in ("/health", "/webhook"):
        spread = [table["server, 64 px", f"{path}: {name}"] for name in ("median", "p95", "max")]
        assert 0 < spread[0] <= spread[1] <= spread[2]


def test_no_time_is_refused():
    """Nothing would be asked."""
    with pytest.raises(SystemExit):
        main(["--seconds", "0"])


def test_image_too_small_ends_in_a_sentence(capsys):
    """No traceback for a user's mistake."""
    assert main(["--size", "8"]) == 2

    assert capsys.readouterr().err.startswith("shape is (8, 8): both sides need at least")
