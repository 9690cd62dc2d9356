"""The cycle in a real Label Studio: people finish tasks, a model is trained, the next go easier."""

from argparse import Namespace

import pytest

from backend.trials.team import Finished, training_status
from scripts.simulate_team import play, summary


def test_summary_compares_the_tasks_before_and_after_a_training():
    """By medians, which one bad task does not move; a task that was given up is not right."""
    before = [Finished(n, strokes, 4, 0.99, 0.0, 8.0) for n, strokes in enumerate((10, 12, 90))]
    after = [Finished(9, 3, 1, 0.95, 0.9, 2.0)]
    rows = [line for line in summary([before, after], 0.98).splitlines() if line[:3] in "| 0| 1"]
    assert [row for row in rows if row] == [
        "| 0 | 3 | 3 | 12 | 4 | 0.0000 | 0.9900 | 8.0 |",
        "| 1 | 1 | 0 | 3 | 1 | 0.9000 | 0.9500 | 2.0 |",
    ]


@pytest.mark.timeout(600)
def test_team_trains_a_model_that_segments_the_next_tasks(workplace, capsys):
    """Before the first stroke, where nothing was shown at first."""
    options = Namespace(title="Team", tasks=4, train_every=3, size=128, enough=0.9)

    first, second = play(workplace.client, workplace.backend, options)

    shown = capsys.readouterr().out
    assert "training: published" in shown
    assert "| 1 | 1 |" in shown
    assert {one.accuracy_before for one in first} == {0}
    assert all(one.strokes > 0 and one.asks > 0 for one in first)
    assert second[0].accuracy_before > 0  # the model is shown, however short its training was
    assert training_status(workplace.backend).state == "published"
