"""The keys of the demo's servers; `test_demo_run.py` starts them for real."""

from __future__ import annotations

import stat

import pytest

from backend.trials import demo_servers
from backend.trials.demo_servers import label_studio, load_keys
from backend.trials.processes import ServerError, free_port


def test_keys_are_random_and_kept(tmp_path):
    """A second start opens the same Label Studio; another folder has other keys."""
    keys = load_keys(tmp_path / "one")

    assert load_keys(tmp_path / "one") == keys
    assert load_keys(tmp_path / "two").password != keys.password


def test_only_the_owner_reads_the_keys(tmp_path):
    """They open the annotator's data."""
    load_keys(tmp_path)

    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600


def test_missing_label_studio_ends_in_a_sentence(tmp_path, monkeypatch):
    """The sentence holds the command that installs it."""
    monkeypatch.setattr(demo_servers.importlib.util, "find_spec", lambda _: None)

    with (
        pytest.raises(ServerError, match=r"pip install -e '\.\[demo\]'"),
        label_studio(tmp_path, free_port(), load_keys(tmp_path)),
    ):
        pass
