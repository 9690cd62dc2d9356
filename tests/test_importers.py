"""Files on disk become images with a pixel size, or a sentence."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from backend.errors import InvalidImageError
from backend.microscope.calibration import Calibration
from backend.microscope.databar import draw_databar
from backend.microscope.importers import ALL, ImportOptions, import_file
from backend.microscope.synthetic import make_image
from backend.microscope.synthetic_files import save_image

IMAGE = np.random.default_rng(0).integers(0, 4000, (40, 48), dtype=np.uint16)
MANUAL = ImportOptions(scale=Calibration(0.3, 0.3, "manual"))


def write(folder, image=IMAGE, **options):
    """Write a plain TIFF."""
    path = folder / "a.tif"
    tifffile.imwrite(path, image, **options)
    return path


@pytest.mark.parametrize(("equipment", "source"), [("A", "metadata"), ("B", "sidecar")])
def test_synthetic_microscopes_are_read(tmp_path, equipment, source):
    """One writes ImageJ files, the other a text beside a plain TIFF, with a data bar."""
    true = make_image("gate", equipment, 0, (128, 128))
    save_image(true, tmp_path, "a")

    (image,) = import_file(tmp_path / "originals" / "a.tif")

    assert (image.pixels == true.image).all()
    assert image.pixels.dtype == true.image.dtype
    assert image.databar_rows == true.image.shape[0] - true.device_rows
    scale = image.scale.calibration
    assert scale.source == source
    assert (scale.nm_per_px_x, scale.nm_per_px_y) == pytest.approx(
        (true.nm_per_px_x, true.nm_per_px_y), rel=1e-6
    )


def test_a_plain_tiff_has_no_scale(tmp_path):
    """Though its resolution tag says 300 dpi."""
    (image,) = import_file(write(tmp_path, resolution=(300, 300), resolutionunit=2))
    assert image.scale.calibration is None
    assert image.flags == ("uncalibrated",)


def test_the_resolution_tag_counts_on_request_and_if_it_can_be(tmp_path):
    """0.2 nm are 5e7 pixels a cm; 300 dpi are refused even then."""
    asked = ImportOptions(use_resolution_tag=True)
    (image,) = import_file(write(tmp_path, resolution=(5e7, 5e7), resolutionunit=3), asked)
    assert image.scale.calibration.nm_per_px == pytest.approx(0.2)
    with pytest.raises(InvalidImageError, match="outside"):
        import_file(write(tmp_path, resolution=(300, 300), resolutionunit=2), asked)


def test_what_the_user_says_counts_after_the_file(tmp_path):
    """And a conflict is flagged."""
    path = write(tmp_path)
    assert import_file(path, MANUAL)[0].scale.calibration.source == "manual"
    path.with_suffix(".txt").write_text("PixelSize=0.2 nm")
    (image,) = import_file(path, MANUAL)
    assert image.scale.calibration.source == "sidecar"
    assert image.flags == ("scale_conflict",)


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp"])
def test_pictures_have_an_unknown_gamma(tmp_path, kind):
    """Edges must not be fitted to them."""
    path = tmp_path / f"a.{kind}"
    Image.fromarray((20 + IMAGE % 200).astype(np.uint8)).save(path)
    (image,) = import_file(path, MANUAL)
    assert (image.no_gray, image.flags) == ("unknown_gamma", ("unknown_gamma",))
    assert image.scale.calibration.nm_per_px == 0.3


@pytest.mark.parametrize(
    ("gamma", "flags"), [("1", ()), ("0.5", ("unknown_gamma", "recorded_gamma"))]
)
def test_a_recorded_gamma_is_told(tmp_path, gamma, flags):
    """One of 1 changes nothing."""
    path = write(tmp_path)
    path.with_suffix(".txt").write_text(f"PixelSize=0.2 nm\nGamma={gamma}\n")
    (image,) = import_file(path)
    assert image.flags == flags
    assert [note for note in image.notes if "records a gamma of 0.5" in note] == list(image.notes)
    assert bool(image.notes) == bool(flags)


def test_the_content_tells_the_format(tmp_path):
    """A TIFF may be called .png."""
    path = write(tmp_path).rename(tmp_path / "a.png")
    assert import_file(path)[0].kind == "TIFF"


def test_several_images_are_the_users_choice(tmp_path):
    """The sentence names them."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for image in (IMAGE, IMAGE // 2):
            file.write(image, contiguous=False)

    with pytest.raises(InvalidImageError, match=r"2 images \(page 0, page 1\).*--dataset"):
        import_file(path)
    with pytest.raises(InvalidImageError, match="no image 'page 7'"):
        import_file(path, ImportOptions(dataset="page 7"))
    (second,) = import_file(path, ImportOptions(dataset="page 1"))
    assert (second.pixels == IMAGE // 2).all()
    first, again = import_file(path, ImportOptions(dataset=ALL))
    assert again.id == second.id != first.id


def test_a_data_bar_is_found_where_nobody_tells_of_it(tmp_path):
    """By its looks."""
    gate = make_image("gate", "C", 0, (128, 160)).image
    (image,) = import_file(write(tmp_path, draw_databar(gate, 16, 0.3)))
    assert image.databar_rows == 16
    assert "databar" in image.flags


def test_clipped_intensities_are_flagged(tmp_path):
    """An edge beside a clipped plateau lies elsewhere."""
    image = IMAGE.copy()
    assert import_file(write(tmp_path, image))[0].flags == ("uncalibrated",)
    image[:2] = 65535
    assert "clipped" in import_file(write(tmp_path, image))[0].flags


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "format"), (b"%PDF-1.4", "format"), (b"II*\0", "TIFF"), (b"\x89PNG\r\n", "no readable")],
)
def test_what_is_no_image_is_refused(tmp_path, content, why):
    """With a sentence."""
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(InvalidImageError, match=why):
        import_file(path)


def test_holes_are_refused(tmp_path):
    """NaN would spread into everything."""
    image = IMAGE.astype(np.float32)
    image[3, 3] = np.nan
    with pytest.raises(InvalidImageError, match="NaN"):
        import_file(write(tmp_path, image))
