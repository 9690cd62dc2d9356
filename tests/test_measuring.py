"""Images are read with their labels and pixel size, and measured; one that fails says why."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from native_gate import write_native
from PIL import Image
from synthetic_cds import write_gates, write_recipe

from backend.batch.measurables import bare_measurables, dataset_measurables, masked_measurables
from backend.batch.measuring import (
    Failed,
    Finished,
    Setup,
    iso_time,
    measure,
    measure_all,
    read_image,
)
from backend.metrology.database import open_database, write_run
from backend.metrology.overlay import draw_run
from backend.metrology.recipe_file import load_recipe
from backend.metrology.records import ModelRecord, RowsOfModel
from backend.microscope.calibration import Calibration
from backend.microscope.import_record import prepare_import, save_import
from backend.microscope.importers import ImportOptions, import_file


@pytest.fixture(scope="module")
def gates(tmp_path_factory):
    """A folder of one gate image, the image, and the setup to measure it."""
    folder = tmp_path_factory.mktemp("gates")
    (image,) = write_gates(folder)
    return folder, image, Setup(load_recipe(write_recipe(folder)), folder / "cds.db")


@pytest.fixture(scope="module")
def finished(gates):
    """The image, measured."""
    folder, _, setup = gates
    (measurable,) = dataset_measurables(folder)
    return measure(measurable, setup)


def test_exact_labels_give_true_cds(gates, finished):
    """Drawn lines to half a pixel or so and half a degree; all values within their error bars."""
    _, image, _ = gates
    nm_per_px = finished.run.calibration.nm_per_px
    truth = {(t.measurement, t.instance, t.side): t for t in image.truth if t.quantity == "value"}
    kinds = ("width", "height", "pitch", "space", "sidewall_angle")
    compared = 0
    for cd in finished.measured.cds:
        true = truth.get((cd.measurement, cd.instance, cd.side))
        if true is None or true.kind not in kinds:
            continue
        compared += 1
        wanted = true.value if cd.unit == "deg" else true.value / nm_per_px
        assert cd.value_label == pytest.approx(wanted, abs=0.5 if cd.unit == "deg" else 0.6), cd
        assert cd.value == pytest.approx(wanted, abs=3 * cd.u_value), cd
    assert compared >= 12


def test_pixel_size_comes_from_the_original(gates, finished):
    """The ImageJ TIFF beside the labels has it, and its intensities are linear."""
    folder, image, setup = gates
    calibration = finished.run.calibration
    assert calibration.source == "metadata"
    assert calibration.nm_per_px_x == pytest.approx(image.nm_per_px_x, rel=1e-6)
    (measurable,) = dataset_measurables(folder)
    pixels = read_image(measurable, setup)[0].pixels
    assert np.array_equal(pixels, image.image)
    assert finished.run.image.bit_depth == 16
    assert finished.run.image.path_rel == "originals/gate_A_0.tif"
    assert finished.run.image.label_png_sha256


def test_the_same_again_is_the_same_run(gates, finished):
    """Identical rows under an identical id."""
    folder, _, setup = gates
    again = measure(dataset_measurables(folder)[0], setup)
    assert again.run.id == finished.run.id
    assert again.measured == finished.measured


def test_told_scale_is_weighed_against_the_file(gates):
    """The file's own wins over a manual one, a lattice over the file's; a conflict is reviewed."""
    folder, image, setup = gates
    (measurable,) = dataset_measurables(folder)
    wrong = 1.2 * image.nm_per_px_x
    for source, size in (("manual", image.nm_per_px_x), ("lattice", wrong)):
        told = replace(setup, scale=Calibration(wrong, wrong, source))
        found = measure(measurable, told)
        assert found.run.calibration.nm_per_px_x == pytest.approx(size)
        assert "scale_conflict" in found.measured.flags
        assert found.measured.status == "review"
        assert len(found.run.other_calibrations) == 1


def test_a_recipe_may_allow_oblong_pixels(gates):
    """By default 2 % are reviewed; where the recipe allows 5 %, there is nothing to look at."""
    folder, image, setup = gates
    (measurable,) = dataset_measurables(folder)
    size = image.nm_per_px_x
    told = replace(setup, scale=Calibration(size, 1.02 * size, "lattice"))
    found = measure(measurable, told).measured
    assert {"anisotropic", "scale_conflict"} <= set(found.flags)
    rule = told.recipe.calibration.model_copy(update={"max_anisotropy": 0.05})
    allowed = replace(told, recipe=told.recipe.model_copy(update={"calibration": rule}))
    assert "anisotropic" not in measure(measurable, allowed).measured.flags


def test_without_a_pixel_size_there_is_no_nm(gates):
    """A recipe that requires one refuses; one that does not gives pixels."""
    folder, image, setup = gates
    (measurable,) = dataset_measurables(folder)
    bare = replace(measurable, image=folder / "images" / f"{measurable.name}.png")
    with pytest.raises(ValueError, match=r"no pixel size is known.*--nm-per-px"):
        measure(bare, setup)
    size = image.nm_per_px_x
    told = measure(bare, replace(setup, scale=Calibration(size, size, "manual")))
    assert told.run.calibration.source == "manual"
    assert "unknown_gamma" in told.measured.flags  # a PNG: gray values cannot place edges


def test_gamma_keeps_gray_values_out(tmp_path):
    """Microscope B stores gamma beside its TIFF; edges in such an image lie elsewhere."""
    write_gates(tmp_path, "B", side=256)
    setup = Setup(load_recipe(write_recipe(tmp_path)), tmp_path / "cds.db")
    (measurable,) = dataset_measurables(tmp_path)
    image, scale = read_image(measurable, setup)
    assert (image.no_gray, scale.calibration.source) == ("unknown_gamma", "sidecar")


def test_labels_on_a_data_bar_are_not_measured(gates, tmp_path):
    """Whatever an annotator accepted there: the same labels, the same run."""
    folder, image, setup = gates
    (measurable,) = dataset_measurables(folder)
    native = write_native(image, tmp_path / "gate.tif")
    rows = tifffile.imread(native).shape[0] - image.label_map.shape[0]
    runs = []
    for drawn in (255, 3):
        mask = tmp_path / f"{drawn}.png"
        label_map = np.pad(image.label_map, ((0, rows), (0, 0)), constant_values=drawn)
        Image.fromarray(label_map).save(mask)
        runs.append(measure(replace(measurable, image=native, mask=mask), setup))
    assert runs[0].run.id == runs[1].run.id
    assert runs[0].measured == runs[1].measured
    assert runs[0].run.calibration.detail == "FEI tag, [Scan] PixelWidth"
    assert runs[0].run.image.acquired_at == "2025-11-30T10:22:00"


def test_an_imported_image_brings_its_intensities(gates, tmp_path):
    """An export names the picture by its hash; the record has the rest."""
    folder, image, setup = gates
    (original,) = import_file(folder / "originals" / "gate_A_0.tif")
    prepared = prepare_import(original)
    save_import(prepared, tmp_path / "imported")
    picture = tmp_path / "imported" / prepared.record["picture"]["path"]
    for part, source in (("images", picture), ("masks", folder / "masks" / "gate_A_0.png")):
        (tmp_path / "set" / part).mkdir(parents=True)
        (tmp_path / "set" / part / "task.png").write_bytes(source.read_bytes())
    (tmp_path / "set" / "legend.json").write_text(json.dumps({"materials": image.materials}))
    (exported,) = dataset_measurables(tmp_path / "set", tmp_path / "imported")
    (named,) = masked_measurables([picture], tmp_path / "set" / "masks" / "task.png")
    for measurable in (exported, named):
        intensities, scale = read_image(measurable, setup)
        assert np.array_equal(intensities.pixels, image.image)
        assert scale.calibration.source == "metadata"
        assert intensities.file_sha256 == original.file_sha256
    found = measure(exported, setup)
    assert found.run.image.id == measure(dataset_measurables(folder)[0], setup).run.image.id


def imported(path, folder, options):
    """The picture of an image, imported into a folder, to be measured."""
    prepared = prepare_import(import_file(path, options)[0])
    save_import(prepared, folder)
    return bare_measurables([folder / prepared.record["picture"]["path"]])[0]


def test_an_overlay_shows_the_picture_of_an_imported_image(gates, tmp_path):
    """Its run has the hash of the native file, which lies elsewhere, and that of the picture."""
    folder, image, setup = gates
    original, mask = folder / "originals" / "gate_A_0.tif", tmp_path / "mask.png"
    mask.write_bytes((folder / "masks" / "gate_A_0.png").read_bytes())
    (tmp_path / "legend.json").write_text(json.dumps({"materials": image.materials}))
    bare = imported(original, tmp_path / "imported", ImportOptions())
    (masked,) = masked_measurables([bare.image], mask)
    finished = measure(masked, replace(setup, database=tmp_path / "cds.db"))
    with closing(open_database(tmp_path / "cds.db")) as database:
        run_id = write_run(database, finished.run, finished.measured)
        drawing = draw_run(database, tmp_path / "cds.db", run_id)
    assert masked.picture == bare.picture
    assert drawing.picture.std() > 1
    assert not any("no longer" in word.text for word in drawing.words)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2025-12-30 14:22:01", "2025-12-30T14:22:01"),
        ("2025-12-30T14:22:01+01:00", "2025-12-30T13:22:01+00:00"),
        ("2025-12-30", "2025-12-30"),
        ("30 Dec 2025 14:22:01", "2025-12-30T14:22:01"),
        ("01.02.2024 14:22:01", "2024-02-01T14:22:01"),
        ("2025:12:30 14:22:01", "2025-12-30T14:22:01"),
        ("2025/12/30 14:22:01", "2025-12-30T14:22:01"),
        ("12/30/2025 2:22:01 PM", None),
        ("01/02/2024", None),
        ("14:22:01", None),
        ("", None),
    ],
)
def test_times_are_stored_where_they_are_certain(written, expected):
    """Control charts sort them as text; a month taken for a day would be another order."""
    assert iso_time(written) == expected


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("01/02/2024", (None, {"acquired_at": "01/02/2024"})),
        ("30 Dec 2025 14:22:01", ("2025-12-30T14:22:01", {"acquired_at": "30 Dec 2025 14:22:01"})),
        ("2025-12-30T14:22:01", ("2025-12-30T14:22:01", {})),
    ],
)
def test_a_time_is_kept_as_written_too(gates, tmp_path, written, stored):
    """Where the row of the image says something else."""
    folder, _, setup = gates
    original = tmp_path / "gate_A_0.tif"
    original.write_bytes((folder / "originals" / "gate_A_0.tif").read_bytes())
    original.with_suffix(".txt").write_text(f"Date={written}\n")
    (measurable,) = dataset_measurables(folder)
    record = measure(replace(measurable, image=original), setup).run.image
    assert (record.acquired_at, record.metadata) == stored


def test_an_implausible_pixel_size_told_is_refused(gates):
    """At once, with an advice that whoever measures can follow; 2100 is 2.1 nm in picometres."""
    _, _, setup = gates
    with pytest.raises(ValueError, match="2100 nm is outside") as refused:
        replace(setup, scale=Calibration(2100, 2100, "manual"))
    assert "any-pixel-size" not in str(refused.value)


def test_a_size_refused_at_the_import_stays_refused(gates, tmp_path):
    """A sidecar of 2100 nm and a user of 0.2 nm: the user; alone and insisted on: the sidecar."""
    _, _, setup = gates
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 4000, (64, 64), dtype=np.uint16))
    path.with_suffix(".txt").write_text("PixelSize=2100 nm\n")
    manual = ImportOptions(scale=Calibration(0.2, 0.2, "manual"))
    chosen = imported(path, tmp_path / "manual", manual)
    insisted = imported(path, tmp_path / "insisted", ImportOptions(any_pixel_size=True))
    scale = read_image(chosen, setup)[1]
    assert (scale.calibration.nm_per_px, scale.flags) == (pytest.approx(0.2), ("scale_conflict",))
    assert read_image(insisted, setup)[1].calibration.nm_per_px == pytest.approx(2100)


def test_another_grid_or_legend_is_refused(gates, tmp_path):
    """A resized mask would measure edges where they are not."""
    folder, _, setup = gates
    (measurable,) = dataset_measurables(folder)
    mask = tmp_path / "m.png"
    Image.fromarray(np.zeros((256, 256), np.uint8)).save(mask)
    with pytest.raises(ValueError, match="must be equal"):
        measure(replace(measurable, mask=mask), setup)
    Image.fromarray(np.full((512, 512), 7, np.uint8)).save(mask)
    with pytest.raises(ValueError, match="class 7, and there are 4 materials"):
        measure(replace(measurable, mask=mask), setup)
    with pytest.raises(ValueError, match="not among them"):
        measure(replace(measurable, materials=("Si", "Oxide", "Nitride", "W")), setup)


def test_probabilities_are_measured_as_a_model_s(gates, tmp_path):
    """Certain ones give what the labels gave, and the run names the model."""
    folder, image, setup = gates
    (measurable,) = dataset_measurables(folder)
    path = tmp_path / "p.npy"
    np.save(path, (np.arange(4)[:, None, None] == image.label_map).astype(np.float16))
    model = ModelRecord("shared model", "a" * 64, image.materials, "v0001")
    found = measure(replace(measurable, mask=None, probabilities=path, model=model), setup)
    assert found.run.source.kind == "inference"
    widths = [cd.value for cd in found.measured.cds if cd.measurement == "gate_mcd"]
    drawn = measure(measurable, setup)
    assert widths == pytest.approx(
        [cd.value for cd in drawn.measured.cds if cd.measurement == "gate_mcd"], abs=0.5
    )


@pytest.mark.parametrize("prefer", [("prob", "label"), ("label",)])
def test_what_a_model_showed_counts_where_it_placed_edges(gates, tmp_path, prefer):
    """2 px off on other images: no width of its own is surer, whatever it says of itself."""
    folder, image, setup = gates
    edges = setup.recipe.edges.model_copy(update={"prefer": prefer})
    setup = replace(setup, recipe=setup.recipe.model_copy(update={"edges": edges}))
    (measurable,) = dataset_measurables(folder)
    path = tmp_path / "p.npy"
    np.save(path, (np.arange(4)[:, None, None] == image.label_map).astype(np.float16))
    model = ModelRecord("shared model", "a" * 64, image.materials, "v0001")
    inferred = replace(measurable, mask=None, probabilities=path, model=model)
    alone = measure(inferred, setup)
    key = RowsOfModel(model.id, alone.run.recipe_id, "gate_mcd", "", "", "")
    found = measure(inferred, replace(setup, model_errors={key: 2.0}))

    pairs = list(zip(alone.measured.cds, found.measured.cds, strict=True))
    widths = [pair for pair in pairs if pair[0].measurement == "gate_mcd"]
    assert {cd.method for cd, _ in widths} == {prefer[0]}
    assert all(new.u_value == pytest.approx(math.hypot(old.u_value, 2)) for old, new in widths)
    assert all(new == old for old, new in pairs if old.measurement != "gate_mcd")
    assert found.measured.flags == (*alone.measured.flags, "model_error")
    assert found.run.id != alone.run.id  # other numbers never replace those of before
    others = {key: 2.0, key._replace(recipe_id="another"): 9.0, key._replace(model_id="other"): 9.0}
    again = measure(inferred, replace(setup, model_errors=others))
    assert (again.run.id, again.measured) == (found.run.id, found.measured)
    drawn = measure(measurable, replace(setup, model_errors={key: 2.0}))
    assert "model_error" not in drawn.measured.flags


def test_a_failed_image_never_stops_the_batch(gates, tmp_path):
    """It yields its reason in its place; a damaged file and a missing one are told apart."""
    folder, _, setup = gates
    (good,) = dataset_measurables(folder)
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes(b"II*\0 no more")
    batch = [
        replace(good, name="a", image=damaged),
        replace(good, name="b", image=tmp_path / "missing.tif"),
        good,
        replace(good, name="d", mask=None),
    ]
    with ThreadPoolExecutor(1) as executor:
        outcomes = list(measure_all(iter(batch), setup, executor, 1))
    assert [measurable.name for measurable, _ in outcomes] == ["a", "b", good.name, "d"]
    assert [type(outcome) for _, outcome in outcomes] == [Failed, Failed, Finished, Failed]
    reasons = [outcome.reason for _, outcome in outcomes if isinstance(outcome, Failed)]
    assert "missing.tif" in reasons[1]
    assert "no labels" in reasons[2]


def test_images_are_asked_for_a_few_ahead(gates):
    """Memory does not grow with the batch."""
    folder, _, setup = gates
    (good,) = dataset_measurables(folder)
    asked = []

    def batch():
        for number in range(9):
            asked.append(number)
            yield replace(good, name=str(number), mask=None)

    with ThreadPoolExecutor(1) as executor:
        outcomes = measure_all(batch(), setup, executor, 1)
        next(outcomes)
        assert len(asked) == 2
        assert len(list(outcomes)) == 8


def test_truth_names_the_materials(gates):
    """What the generator writes is enough to measure."""
    folder, image, _ = gates
    truth = json.loads((folder / "truth" / "gate_A_0.json").read_text())
    assert tuple(truth["materials"]) == dataset_measurables(folder)[0].materials == image.materials
