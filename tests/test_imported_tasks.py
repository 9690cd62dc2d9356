"""What the task of an imported image says, and that nothing false is in it."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from backend.annotation.imported_tasks import task_columns
from backend.microscope.calibration import Calibration


def record(scale=None, **acquisition):
    """A record as far as a task needs it."""
    return {
        "name": "cut-12345678",
        "file": {"name": "cut.dm3", "dataset": ""},
        "picture": {"sha256": "aa"},
        "original": {"sha256": "bb"},
        "acquisition": {"detector": "", "instrument": "", **acquisition},
        "calibration": asdict(scale) if scale else None,
        "flags": ["databar", "clipped"],
        "databar_rows": 34,
    }


def test_a_task_tells_where_its_image_comes_from():
    """So that its original is found, and its pixel size is used."""
    scale = Calibration(0.2, 0.2, "metadata", detail="axes")
    columns = task_columns(record(scale, instrument="Titan", detector="HAADF"))
    assert columns == {
        "import_record": "cut-12345678",
        "picture_sha256": "aa",
        "original_sha256": "bb",
        "file": "cut.dm3",
        "detector": "HAADF",
        "equipment": "Titan",
        "import_flags": "databar clipped",
        "databar_rows": 34,
        "pixel_size_nm": pytest.approx(0.2),
        "pixel_size_x_nm": 0.2,
        "pixel_size_y_nm": 0.2,
        "pixel_size_source": "metadata: axes",
    }


def test_what_is_unknown_is_left_out():
    """No scale, no nanometre."""
    assert not {"pixel_size_nm", "equipment", "detector"} & task_columns(record()).keys()


def test_pixels_that_are_not_square_have_no_single_size():
    """A width taken with the mean would be wrong, and look right."""
    columns = task_columns(record(Calibration(1.0, 0.2, "metadata")))
    assert "pixel_size_nm" not in columns
    assert (columns["pixel_size_x_nm"], columns["pixel_size_y_nm"]) == (1.0, 0.2)
