"""Pages of TIFF files: which one is measured, and which files are none."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from backend.errors import InvalidImageError
from backend.microscope.tiff_files import read_tiff
from backend.microscope.tiff_tags import FEI_XML, read_tags

IMAGE = np.random.default_rng(0).integers(0, 4000, (40, 48), dtype=np.uint16)
RENDERING = np.zeros((40, 48, 3), np.uint8)
XML = (FEI_XML, "s", 0, "<a><PixelSize><X unit='m'>2e-10</X></PixelSize></a>", True)


def write(folder, *pages):
    """Write a TIFF of several pages, each an array or an array with options."""
    path = folder / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for page in pages:
            image, options = page if isinstance(page, tuple) else (page, {})
            file.write(image, contiguous=False, **options)
    return path


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "i4", "f4", "f8"])
def test_intensities_come_back_in_their_depth(tmp_path, dtype):
    """Not one changes."""
    image = (IMAGE % 200).astype(dtype)
    (read,) = read_tiff(write(tmp_path, image))
    assert read.pixels.dtype == image.dtype
    assert (read.pixels == image).all()


def test_the_page_with_a_makers_scale_is_chosen(tmp_path):
    """Not the rendering before it, nor a gray copy without a scale."""
    scaled = (IMAGE, {"extratags": [XML]})
    (read,) = read_tiff(write(tmp_path, (RENDERING, {"photometric": "rgb"}), IMAGE // 2, scaled))
    assert (read.pixels == IMAGE).all()
    assert (read.kind, read.name) == ("FEI/Thermo TIFF", "")


def test_a_gray_page_is_chosen_before_a_colored_one(tmp_path):
    """Color is a rendering."""
    (read,) = read_tiff(write(tmp_path, (RENDERING, {"photometric": "rgb"}), IMAGE))
    assert (read.pixels == IMAGE).all()
    assert not read.is_color


def test_several_images_are_named(tmp_path):
    """By the number of their page."""
    assert [read.name for read in read_tiff(write(tmp_path, IMAGE, IMAGE))] == ["page 0", "page 1"]


def test_a_thumbnail_is_no_image(tmp_path):
    """Marked as reduced."""
    (read,) = read_tiff(write(tmp_path, IMAGE, (IMAGE[::2, ::2], {"subfiletype": 1})))
    assert read.pixels.shape == IMAGE.shape


def test_color_becomes_luminance_and_is_told(tmp_path):
    """Nobody knows what made it."""
    (read,) = read_tiff(write(tmp_path, (RENDERING + 7, {"photometric": "rgb"})))
    assert read.is_color
    np.testing.assert_allclose(read.pixels, 7, rtol=1e-5)


def test_white_is_large_in_the_end(tmp_path):
    """Where the file counts from white to black."""
    (read,) = read_tiff(write(tmp_path, (IMAGE, {"photometric": "miniswhite"})))
    assert (read.pixels == 65535 - IMAGE).all()


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate"])
def test_usual_compressions_are_read(tmp_path, compression):
    """LZW too, which tifffile does not know without a further package."""
    path = tmp_path / "a.tif"
    Image.fromarray(IMAGE).save(path, compression=compression)
    assert (read_tiff(path)[0].pixels == IMAGE).all()


def test_a_palette_of_colors_is_refused(tmp_path):
    """Its indices are no gray values; those of a gray ramp are."""
    image = (IMAGE % 256).astype(np.uint8)
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    ramp[:, ::9] = 40_000  # what is drawn over it
    options = {"photometric": "palette", "colormap": ramp}
    assert (read_tiff(write(tmp_path, (image, options)))[0].pixels == image).all()
    options["colormap"] = ramp[:, ::-1].copy()
    with pytest.raises(InvalidImageError, match="palette"):
        read_tiff(write(tmp_path, (image, options)))


def test_a_stack_of_imagej_is_refused(tmp_path):
    """Which slice would be measured?"""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([IMAGE] * 3), imagej=True)
    with pytest.raises(InvalidImageError, match="stack of 3"):
        read_tiff(path)


def test_a_tiny_image_is_refused(tmp_path):
    """It holds no structure."""
    with pytest.raises(InvalidImageError, match="8 x 8 px"):
        read_tiff(write(tmp_path, IMAGE[:8, :8]))


@pytest.mark.parametrize("size", [4, 9, 60, 200, 2000])
def test_half_a_file_is_refused(tmp_path, size):
    """With a sentence, wherever it ends."""
    path = write(tmp_path, IMAGE)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InvalidImageError):
        read_tiff(path)


ZEISS_TEXT = """AP_WIDTH\r\nWidth = 9.6 nm\r\nAP_HEIGHT\r\nHeight = 8.0 nm\r\n
AP_PIXEL_SIZE\r\nPixel Size = 99.0 nm\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 200.0 pm\r\n"""
FEI_TEXT = "[Beam]\r\nBeam=EBeam\r\n[Scan]\r\nPixelWidth=2e-10\r\nPixelHeight=2e-10\r\n"
TESCAN_TEXT = "[MAIN]\r\nPixelSizeX=2.0E-10\r\nPixelSizeY=2.0E-10\r\n"


@pytest.mark.parametrize(
    ("code", "text"),
    [(34118, ZEISS_TEXT), (34680, FEI_TEXT), (34682, FEI_TEXT), (50431, TESCAN_TEXT),
     (34683, "<M><BinaryResult><PixelSize><X unit='m'>2e-10</X></PixelSize></BinaryResult></M>")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["s", "B"])
def test_tags_of_makers_are_read_as_they_lie_in_the_file(tmp_path, code, text, kind):
    """As text or as bytes, through tifffile's parser: 0.2 nm each."""
    content = text if kind == "s" else text.encode("latin-1")
    tag = (code, kind, 0 if kind == "s" else len(content), content, True)
    (read,) = read_tiff(write(tmp_path, (IMAGE, {"extratags": [tag]})))
    reading = read_tags(read.tags)
    assert reading.scales
    for scale in reading.scales:
        assert (scale.nm_per_px_x, scale.nm_per_px_y) == pytest.approx((0.2, 0.2))
