"""The table of the benchmarks says which goals are met."""

from backend.trials.benchmark_table import Row, format_table, medians, timed


def test_table_says_which_goal_is_met():
    """A value equal to the goal meets it; a row without a goal says nothing."""
    rows = [Row("a", "b", 3, "s", 3), Row("a", "c", 3.5, "s", 3), Row("a", "d", 1, "s")]

    assert format_table(rows).splitlines()[2:] == [
        "| a     | b    | 3.00 s   | 3 s: met      |",
        "| a     | c    | 3.50 s   | 3 s: missed   |",
        "| a     | d    | 1.00 s   |               |",
    ]


def test_median_of_each_value_is_taken():
    """One slow run does not show."""
    assert medians([{"a": 1, "b": 4}, {"a": 9, "b": 5}, {"a": 2, "b": 6}]) == [("a", 2), ("b", 5)]


def test_time_of_a_block_is_kept():
    """Under its name."""
    times = {}
    with timed(times, "nothing"):
        pass
    assert 0 <= times["nothing"] < 1
