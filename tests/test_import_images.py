"""The command that imports images, to disk and to a small Label Studio on loopback."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import tifffile
from label_studio_stand_in import TICK, LabelStudioStandIn, masks, submitted
from loopback import Answer

from backend.microscope.import_record import find_records, load_imported
from scripts.export_ground_truth import main as export
from scripts.import_images import main

IMAGE = np.random.default_rng(0).integers(100, 4000, (64, 64), dtype=np.uint16)
WIDE = np.random.default_rng(0).integers(100, 4000, (64, 80), dtype=np.uint16)


class ImportingStandIn(LabelStudioStandIn):
    """Takes uploads and makes tasks of them, as Label Studio 1.23.2 was seen to do."""

    def __post_init__(self):
        super().__post_init__()
        self.uploads = []
        self.server.routes["POST", "/api/projects/1/import"] = self._upload
        self.server.routes["POST", "/api/tasks/"] = self._create

    def _upload(self, request):
        assert parse_qs(urlsplit(request.path).query) == {"commit_to_project": ["false"]}
        number = len(self.uploads) + 1
        start = request.body.index(b"\x89PNG")
        picture = request.body[start : request.body.rindex(b"\r\n--")]
        self.uploads.append(picture)
        stored = f"upload/1/{number}.png"
        self.server.answer("GET", f"/data/{stored}", Answer(picture))
        self.server.answer("GET", f"/api/import/file-upload/{number}", Answer({"file": stored}))
        return Answer({"file_upload_ids": [number]}, status=201)

    def _create(self, request):
        number = len(self.tasks) + 1
        self.tasks[number] = {"id": number, "project": 1, "data": request.json()["data"]}
        self.server.routes["PATCH", f"/api/tasks/{number}/"] = lambda again: self._patch(
            number, again
        )
        return Answer({**self.tasks[number], "created_at": "2026-11-22T08:40:00Z",
                       "updated_at": "2026-11-22T08:40:00Z"}, status=201)  # fmt: skip

    def _patch(self, number, request):
        self.tasks[number] |= request.json() if request.body else {}
        return Answer(self.tasks[number])


@pytest.fixture
def label_studio(loopback, tmp_path, monkeypatch):
    """An empty project 1; the environment names its Label Studio."""
    monkeypatch.setenv("LABEL_STUDIO_URL", loopback.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "state"))
    return ImportingStandIn(loopback)


@pytest.fixture
def files(tmp_path):
    """A TIFF with a sidecar, one without, and what is none."""
    names = [tmp_path / name for name in ("a.tif", "b.tif", "c.tif")]
    tifffile.imwrite(names[0], IMAGE)
    names[0].with_suffix(".txt").write_text("PixelSize=0.2 nm\nInstructName=HT7700\n")
    tifffile.imwrite(names[1], IMAGE + 7)
    names[2].write_text("no image")
    return [str(name) for name in names]


def run(tmp_path, *arguments):
    """Import into one folder."""
    return main([*arguments, "--out", str(tmp_path / "imported")])


def test_each_file_has_its_line_and_a_bad_one_stops_nothing(tmp_path, files, capsys):
    """The refused one in the middle; exit code 1."""
    assert run(tmp_path, files[0], files[2], files[1]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "a.tif: TIFF, 64 x 64 px uint16; 0.2 nm/px (sidecar: a.txt)" in lines[0]
    assert lines[1].startswith(f"refused {files[2]}: it is in no known format")
    assert "pixel size unknown; flags uncalibrated" in lines[2]
    assert len(list((tmp_path / "imported" / "records").iterdir())) == 2


def test_width_comes_first_as_in_the_pixel_size(tmp_path, capsys):
    """Both lengths of a pixel and of an image are told x before y."""
    tifffile.imwrite(tmp_path / "wide.tif", WIDE)
    assert run(tmp_path, str(tmp_path / "wide.tif"), "--nm-per-px", "0.2,0.3") == 0
    told = capsys.readouterr().out
    assert "80 x 64 px" in told
    assert "0.2 x 0.3 nm/px" in told


def test_a_missing_file_is_refused(tmp_path, files, capsys):
    """With what the system says."""
    assert run(tmp_path, str(tmp_path / "d.tif"), files[0]) == 1
    assert "d.tif: it cannot be read: No such file" in capsys.readouterr().out


def test_images_become_tasks_once(label_studio, tmp_path, files, capsys):
    """A second run makes none, and uploads nothing."""
    assert run(tmp_path, *files[:2], "--project", "1") == 0
    assert run(tmp_path, *files[:2], "--project", "1") == 0
    assert (len(label_studio.tasks), len(label_studio.uploads)) == (2, 2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("; ")[2] for line in lines] == [
        "task 1 new", "task 2 new", "task 1 kept", "task 2 kept"]  # fmt: skip
    data = label_studio.tasks[1]["data"]
    assert (data["pixel_size_nm"], data["equipment"]) == (pytest.approx(0.2), "HT7700")
    assert data["image"] == "/data/upload/1/1.png"
    assert "pixel_size_nm" not in label_studio.tasks[2]["data"]


def test_a_renamed_copy_is_the_same_image(label_studio, tmp_path, files, capsys):
    """In a second folder of imports as well; what was annotated is not asked for twice."""
    project = ("--project", "1")
    assert run(tmp_path, files[1], *project) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "imported").rglob("*.*")}
    copy = str(Path(files[1]).rename(tmp_path / "copy.tif"))
    assert run(tmp_path, copy, *project) == 0
    assert "task 1 kept" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (tmp_path / "imported").rglob("*.*")} == before
    assert main([copy, *project, "--out", str(tmp_path / "elsewhere")]) == 0
    assert len(label_studio.tasks) == 1


def test_a_scale_given_later_reaches_the_task_and_stays(label_studio, tmp_path, files, capsys):
    """Also when the file is imported again without it."""
    assert run(tmp_path, files[1], "--project", "1") == 0
    told = (
        "--nm-per-px",
        "0.31",
        "--calibration-source",
        "lattice",
        "--calibration-note",
        "Si 111",
    )
    assert run(tmp_path, files[1], "--project", "1", *told) == 0
    assert run(tmp_path, files[1], "--project", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("; ")[2] for line in lines] == [
        "task 1 new", "task 1 updated", "task 1 kept"]  # fmt: skip
    assert label_studio.tasks[1]["data"]["pixel_size_source"] == "lattice: Si 111"


@pytest.mark.parametrize("part", ["pictures", "originals", "records"])
def test_importing_again_repairs_what_was_damaged(tmp_path, files, part):
    """As the sentence about a changed file advises."""
    assert run(tmp_path, files[1]) == 0
    (path,) = (tmp_path / "imported" / part).iterdir()
    path.write_text("[]")
    assert run(tmp_path, files[1]) == 0
    (record,) = (tmp_path / "imported" / "records").iterdir()
    assert (load_imported(record).gray == IMAGE + 7).all()


def test_another_picture_of_the_same_image_is_refused(label_studio, tmp_path, files, capsys):
    """Strokes may lie on the first one, which stays on disk; the next file is still imported."""
    assert run(tmp_path, files[0], "--project", "1") == 0
    label_studio.tasks[1]["data"]["picture_sha256"] = "of another stretch"
    (picture,) = (tmp_path / "imported" / "pictures").iterdir()
    picture.write_bytes(b"what was annotated")
    capsys.readouterr()
    assert run(tmp_path, *files[:2], "--project", "1") == 1
    refused, imported = capsys.readouterr().out.splitlines()
    assert "a.tif: task 1 shows another picture" in refused
    assert imported.endswith("task 2 new")
    assert picture.read_bytes() == b"what was annotated"


def test_a_kept_scale_that_is_not_plausible_stops_nothing(tmp_path, files, capsys):
    """Someone insisted on it once, and has to again; the next file is still imported."""
    insisting = ("--nm-per-px", "2100", "--any-pixel-size")
    assert run(tmp_path, files[1], *insisting) == 0
    capsys.readouterr()
    assert run(tmp_path, files[1], files[0]) == 1
    refused, imported = capsys.readouterr().out.splitlines()
    assert refused.startswith(f"refused {files[1]}: its pixel of 2100 nm")
    assert imported.startswith(f"imported {files[0]}")


def test_an_export_leads_back_to_the_original(label_studio, tmp_path, files):
    """By the hash of the picture and by the name of the record."""
    assert run(tmp_path, files[0], "--project", "1") == 0
    halves = np.repeat(np.array([0, 1], np.uint8), 32)[:, None].repeat(64, axis=1)
    label_studio.tasks[1]["total_annotations"] = 1
    answer = Answer([submitted(30, *masks(halves), TICK)])
    label_studio.server.answer("GET", "/api/tasks/1/annotations/", answer)

    assert export(["1", "--out", str(tmp_path / "set")]) == 0

    (entry,) = json.loads((tmp_path / "set" / "manifest.json").read_text())["images"]
    records = find_records(tmp_path / "imported")
    path = records[entry["image_sha256"]]
    assert records[entry["import_record"]] == path
    loaded = load_imported(path)
    assert (loaded.gray == IMAGE).all()
    assert loaded.name == entry["import_record"]
    assert loaded.record["original"]["sha256"] == entry["original_sha256"]
    assert loaded.calibration.nm_per_px == pytest.approx(entry["pixel_size_nm"])


@pytest.mark.parametrize(
    "wrong",
    [("--nm-per-px", "-1"), ("--calibration-note", "mine"), ("--calibration-source", "pitch")],
)
def test_a_users_mistake_is_a_sentence(tmp_path, files, capsys, wrong):
    """Exit code 2, and nothing is written."""
    assert run(tmp_path, files[0], *wrong) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "imported").exists()


def test_a_scale_bar_is_less_certain(tmp_path, files):
    """A pixel in 200 at either end comes on top."""
    told = ("--nm-per-px", "0.3", "--calibration-source", "scale_bar")
    assert run(tmp_path, files[1], *told) == 0
    (path,) = (tmp_path / "imported" / "records").iterdir()
    scale = load_imported(path).calibration
    assert (scale.source, scale.rel_uncertainty) == ("scale_bar", pytest.approx(0.05099, rel=1e-3))


def test_a_project_needs_the_environment(tmp_path, files, monkeypatch, capsys):
    """The sentence names the variable."""
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    assert run(tmp_path, files[0], "--project", "1") == 2
    assert "LABEL_STUDIO_URL" in capsys.readouterr().err
