"""Many annotators at once in a real Label Studio: played small; what is counted can be told."""

import csv

import pytest

from backend.trials.load import run_load
from backend.trials.load_records import Answer, Records, Request, Sample
from backend.trials.load_report import holds, report
from backend.trials.load_setup import Load, Pace, Servers
from scripts.load_test import main


@pytest.mark.timeout(300)
def test_two_annotators_at_once_lose_nothing(workplace, demo_folder, tmp_path, capsys):
    """The whole command, for twenty seconds, on servers that run already."""
    arguments = ["--label-studio", workplace.url, "--backend", workplace.backend.url]
    arguments += ["--folder", str(demo_folder), "--out", str(tmp_path), "--annotators", "2"]
    arguments += ["--minutes", "0.33", "--think-s", "1", "3", "--size", "128"]

    assert main(arguments) == 0

    shown = read_column(capsys.readouterr().out)
    assert shown["errors"] == shown["strokes lost"] == shown["answers that say: ask again"] == 0
    assert shown["answers"] >= 4
    assert shown["tasks finished"] >= 2
    assert 0 < shown["answer, median s"] <= shown["answer, p95 s"] <= shown["answer, max s"] < 60
    assert 0 < shown["/health, median ms"] <= shown["/health, max ms"]
    assert shown["backend, MB at the end"] > 100
    assert shown["Label Studio, MB at the end"] > 100
    with (tmp_path / "2-annotators" / "requests.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == shown["requests"]
    assert {row["who"] for row in rows} == {"1", "2", "health"}
    assert {row["status"] for row in rows} <= {"200", "201"}
    assert "/api/ml/N/interactive-annotating" in {row["path"] for row in rows}


@pytest.mark.timeout(300)
def test_lost_strokes_are_noticed(workplace, tmp_path):
    """The state is looked for in a folder where no backend keeps it."""
    elsewhere = Servers(workplace.client, workplace.backend, tmp_path)
    load = Load(1, 0.01, Pace((0.1, 0.2), (1, 1), 0.1), 128, seed=5)

    records = run_load(elsewhere, load)

    answers = records.answers
    assert answers
    assert all(0 < answer.lost == answer.strokes for answer in answers)
    assert records.errors == [
        f"task {answer.task}: the backend lost {answer.lost} strokes" for answer in answers
    ]
    assert not holds(records)


def test_report_tells_what_misses_a_goal():
    """In bold; each run has its column."""
    quick, slow = make_records([2.0, 3.0]), make_records([2.0, 30.0])
    slow.requests.append(Request(9.0, "1", "GET", "/api/tasks/N/", 500, 0.1))
    table = report({1: quick, 2: slow})

    lines = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in table.splitlines()}
    cells = {what: [cell.strip() for cell in row] for what, row in lines.items()}
    assert cells["annotators at once"] == ["goal", "1", "2"]
    assert cells["answer, max s"] == ["", "3.0", "30.0"]
    assert cells["answer, p95 s"] == ["10", "3.0", "**28.6**"]
    assert cells["errors"] == ["0", "0", "**1**"]
    assert cells["/health, max ms"] == ["100", "40", "40"]
    assert (holds(quick), holds(slow)) == (True, False)


def test_report_tells_growth_after_the_warm_up_and_who_waits_longest():
    """Memory that was taken at first is no growth."""
    records = make_records([])
    for who, seconds in (("1", 3.0), ("2", 3.0), ("3", 9.0)):
        records.answers.append(Answer(1.0, who, 7, 1, seconds, 1.0, 5, 0, put_off=False))
    records.samples.clear()
    memory = [100.0] * 30 + [500.0] * 60 + [530.0] * 10
    for second, rss_mb in enumerate(memory):
        records.samples.append(Sample(float(second), "backend", rss_mb, second * 0.5))
    shown = read_column(report({3: records}))

    assert shown["backend, growth after the warm-up, MB"] == 30
    assert shown["slowest annotator's mean / the median one's"] == 4
    assert shown["after its strokes were saved, median s"] == 2


def test_half_of_the_addresses_is_refused():
    """It could only guess the other."""
    with pytest.raises(SystemExit):
        main(["--backend", "http://127.0.0.1:9090"])


def test_think_time_and_the_seed_decide_how_many_images_are_needed():
    """A third more than on average: some people are quick."""
    assert Load(10, 30, Pace(), 512, 1).tasks == 183


def make_records(seconds):
    """A run of one annotator who waited so long for each answer."""
    records = Records()
    for number, waited_s in enumerate(seconds):
        records.answers.append(Answer(number, "1", 7, number, waited_s, 1.0, 5, 0, put_off=False))
    records.requests.append(Request(1.0, "health", "GET", "/health", 200, 0.04))
    records.samples.append(Sample(1.0, "backend", 100.0, 1.0))
    return records


def read_column(text):
    """Read the last column of the last table: the number of each quantity that has one."""
    rows = [line.strip("| \n").split("|") for line in text.splitlines() if line.startswith("| ")]
    cells = {row[0].strip(): row[-1].strip(" *") for row in rows}
    return {what: float(cell) for what, cell in cells.items() if cell.replace(".", "").isdigit()}
