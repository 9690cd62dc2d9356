"""The demo for real: Label Studio and the backend start, are connected, and stop."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_demo_shows_the_address_the_login_and_what_to_do(demo_runs):
    """All a newcomer needs."""
    for words in (
        "Ready: http://127.0.0.1:",
        "e-mail",
        "password",
        "Auto-Annotation",
        "Finished GT",
    ):
        assert words in demo_runs[0].output


def test_second_start_makes_nothing_twice(demo_runs):
    """The same project with the same images."""
    assert [(run.projects, run.tasks) for run in demo_runs] == [(1, 6), (1, 6)]


def test_second_start_connects_the_new_address_of_the_backend(demo_runs):
    """The old connection is gone, else Label Studio would ask a dead port."""
    assert demo_runs[0].backend_url != demo_runs[1].backend_url


def test_backend_is_asked_after_either_start(demo_runs):
    """Replacing the connection must not erase the backend's name in the project."""
    assert [run.predictor for run in demo_runs] == ["TEM guide"] * 2


def test_ctrl_c_and_terminate_stop_everything(demo_runs):
    """Nothing listens any more, and neither way is an error."""
    assert [(run.exit_code, run.ports_freed) for run in demo_runs] == [(0, True), (0, True)]
