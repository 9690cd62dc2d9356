"""Importing into a real Label Studio: tasks that show their pictures, made once."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import tifffile

from backend.annotation.label_config import write_label_config
from backend.annotation.projects import ensure_project
from backend.batch.image_import import import_images, open_tasks
from backend.microscope.calibration import Calibration
from backend.microscope.importers import ImportOptions

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_tasks_carry_their_pixel_size_and_show_their_picture(workplace, tmp_path):
    """New at first, kept at the second run, updated when the scale is."""
    client, path = workplace.client, tmp_path / "cut.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 4000, (64, 64), dtype=np.uint16))
    project, _ = ensure_project(client, "Imported images", write_label_config(["Si", "Oxide"]))
    changes = []
    for scale in (None, None, Calibration(0.3, 0.3, "lattice"), None):
        tasks = open_tasks(client, project)
        options = ImportOptions(scale=scale)
        (outcome,) = import_images([path], options, tmp_path / "imported", tasks)
        changes.append(outcome.task.change)

    assert changes == ["new", "kept", "updated", "kept"]
    (task,) = client.tasks(project)
    assert task["data"]["pixel_size_nm"] == pytest.approx(0.3)
    picture = client.http.get(task["data"]["image"]).content
    assert hashlib.sha256(picture).hexdigest() == outcome.record["picture"]["sha256"]
