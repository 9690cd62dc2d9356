"""A pixel size is told in the same words to every script, and means the same."""

import argparse

import pytest

from backend.batch.scale_options import scale_options, told_scale
from backend.microscope.calibration import Calibration
from scripts import import_images, measure_cds, rescale_cds


def told(*words):
    """What a script makes of the words."""
    parser = argparse.ArgumentParser(parents=[scale_options()])
    return told_scale(parser.parse_args(list(words)), "script.py")


def test_all_that_is_said_is_kept():
    """Size, source, uncertainty, note, and the script it was said to."""
    words = ("--nm-per-px", "0.21", "--calibration-source", "lattice")
    assert told(*words, "--calibration-u", "0.002", "--calibration-note", "Si 111") == Calibration(
        0.21, 0.21, "lattice", 0.002, "Si 111", "0.21 nm", created_by="script.py"
    )


def test_pixels_may_be_oblong():
    """Width first, as x comes before y."""
    scale = told("--nm-per-px", "0.21,0.22")
    assert (scale.nm_per_px_x, scale.nm_per_px_y, scale.raw) == (0.21, 0.22, "0.21 nm x 0.22 nm")


@pytest.mark.parametrize(
    ("source", "u"),
    [("manual", 0.05), ("lattice", 0.05), ("scale_bar", (0.05**2 + 0.01**2) ** 0.5)],
)
def test_a_bar_is_read_less_certainly(source, u):
    """1 % comes on top, in each script alike; who gives the uncertainty has counted it."""
    words = ("--nm-per-px", "0.3", "--calibration-source", source)
    assert told(*words).rel_uncertainty == pytest.approx(u)
    assert told(*words, "--calibration-u", "0.03").rel_uncertainty == 0.03


def test_nothing_said_is_no_scale():
    """And something said of no size is a mistake."""
    assert told() is None
    for words in (("--calibration-note", "mine"), ("--calibration-u", "0")):
        with pytest.raises(ValueError, match="of --nm-per-px, which is missing"):
            told(*words)


@pytest.mark.parametrize("size", ["0.2,0.2,0.2", "0.2 nm", "", "0.2,"])
def test_what_is_no_size_is_refused(size, capsys):
    """By the parser, with an example; the third number of three is not dropped."""
    with pytest.raises(SystemExit):
        told("--nm-per-px", size)
    assert "as 0.21, or 0.21,0.22 for x and y" in capsys.readouterr().err


@pytest.mark.parametrize("script", [import_images, measure_cds, rescale_cds])
def test_every_script_speaks_so(script):
    """The words stand in the help of all three."""
    words = script._parser().format_help()
    for word in ("--nm-per-px", "--calibration-source", "--calibration-note", "--calibration-u"):
        assert word in words
