"""The cycle in a real Label Studio: people finish tasks, a model is trained, the next go easier."""

from argparse import Namespace

import pytest

from backend.team import training_status
from scripts.simulate_team import play

pytestmark = pytest.mark.timeout(600)


def test_team_trains_a_model_that_segments_the_next_tasks(workplace, capsys):
    """Before the first stroke, where nothing was shown at first."""
    options = Namespace(title="Team", tasks=4, train_every=3, size=128, enough=0.9)

    first, second = play(workplace.client, workplace.backend, options)

    shown = capsys.readouterr().out
    assert "training: published" in shown
    assert "strokes a task, from training to training:" in shown
    assert {one.accuracy_before for one in first} == {0}
    assert all(one.strokes > 0 and one.asks > 0 for one in first)
    assert second[0].accuracy_before > 0  # the model is shown, however short its training was
    assert training_status(workplace.backend).state == "published"
