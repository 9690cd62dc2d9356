"""Image files of every depth become gray values, and bad ones a sentence."""

import io
import struct
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import EpsImagePlugin, GifImagePlugin, Image

from backend.errors import InvalidImageError
from backend.microscope.images import (
    MAX_PIXELS,
    check_size,
    decode_image,
    gray_png,
    palette_image,
    to_gray,
)

RAMP = np.arange(40 * 48, dtype=np.uint16).reshape(40, 48)  # (H, W), no symmetry
RAMP_8 = (RAMP % 251).astype(np.uint8)


def encode(image, kind="PNG", **options):
    """Encode an array or a Pillow image as a file."""
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width_px, height_px):
    """Make a PNG that claims a size and holds no pixel."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        ("PNG", RAMP_8),
        ("PNG", RAMP * 30),
        ("TIFF", RAMP_8),
        ("TIFF", RAMP * 30),
        ("TIFF", RAMP.astype(np.int32) - 500),
    ],
)
def test_gray_image_comes_back_in_its_depth(kind, image):
    """8 and 16 bits in both formats; signed 32 bits as a TIFF."""
    np.testing.assert_array_equal(decode_image(encode(image, kind)), image)


def test_float_tiff_comes_back():
    """As detectors of some microscopes write it."""
    image = RAMP.astype(np.float32) / 7 - 3
    np.testing.assert_array_equal(decode_image(encode(image, "TIFF")), image)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_are_read(order):
    """A 16 bit TIFF made by hand, of either endianness."""
    tags = [(256, 48), (257, 40), (258, 16), (259, 1), (262, 1), (273, 8 + 2 + 9 * 12 + 4),
            (277, 1), (278, 40), (279, RAMP.size * 2)]  # fmt: skip
    content = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    for tag, value in tags:
        content += struct.pack(f"{order}HHII", tag, 4, 1, value)
    content += struct.pack(f"{order}I", 0) + RAMP.astype(f"{order}u2").tobytes()
    assert (decode_image(content) == RAMP).all()


def test_color_becomes_luminance():
    """Red, green and blue by ITU-R BT.601; alpha is dropped."""
    image = np.zeros((32, 32, 4), np.uint8)
    image[0, :3, :3] = np.diag([100, 100, 100])
    for mode in ("RGB", "RGBA"):
        gray = decode_image(encode(Image.fromarray(image).convert(mode)))
        np.testing.assert_allclose(gray[0, :4], [29.9, 58.7, 11.4, 0], rtol=1e-5)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK", "YCbCr"])
def test_gray_stored_as_color_stays_gray(mode):
    """Screenshots and converters do this."""
    kind = "TIFF" if mode in {"CMYK", "YCbCr"} else "PNG"
    gray = decode_image(encode(Image.fromarray(RAMP_8).convert(mode), kind))
    assert gray.shape == RAMP_8.shape
    np.testing.assert_allclose(gray, RAMP_8, atol=2)  # color spaces round


def test_palette_is_looked_up():
    """The index of a color is no gray value."""
    picture = Image.fromarray(np.eye(32, dtype=np.uint8), "P")
    picture.putpalette([200] * 3 + [10] * 3)
    gray = decode_image(encode(picture))
    assert (gray[0, 0], gray[0, 1]) == (pytest.approx(10), pytest.approx(200))


def test_transparent_palette_is_read():
    """Transparency in a palette is dropped too."""
    picture = Image.fromarray(np.eye(32, dtype=np.uint8), "P")
    picture.putpalette([200] * 3 + [10] * 3)
    assert decode_image(encode(picture, transparency=bytes([0, 255]))).shape == (32, 32)


def test_bilevel_image_is_read():
    """One bit a pixel."""
    assert (decode_image(encode(RAMP % 3 == 0)) == (RAMP % 3 == 0)).all()


def test_jpeg_is_read():
    """Nearly as it was."""
    smooth = np.tile(np.arange(0, 240, 5, dtype=np.uint8), (40, 1))
    assert np.abs(decode_image(encode(smooth, "JPEG")).astype(int) - smooth).max() < 8


def test_rotation_of_the_camera_is_applied():
    """The annotator's strokes are on the upright image."""
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is at the right
    upright = decode_image(encode(RAMP_8, "PNG", exif=exif))
    assert (upright == np.rot90(RAMP_8, -1)).all()


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"<svg/>", b"\0" * 1000])
def test_other_bytes_are_refused(content):
    """With their number and what to give."""
    with pytest.raises(InvalidImageError, match=f"the {len(content)} bytes are no readable image"):
        decode_image(content)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "BMP"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated_file_is_refused(kind, share):
    """Half a picture must not pass for one whose rest is black."""
    content = encode(np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8), kind)
    with pytest.raises(InvalidImageError):
        decode_image(content[: int(len(content) * share)])


@given(
    st.sampled_from(["PNG", "TIFF", "BMP", "JPEG"]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damaged_file_is_read_or_refused(kind, changes):
    """Whatever byte is wrong: a two-dimensional image or our sentence, nothing else."""
    content = bytearray(encode(RAMP_8, kind))
    for position, value in changes:
        content[position % len(content)] = value
    with warnings.catch_warnings(), suppress(InvalidImageError):
        warnings.simplefilter("ignore")  # Pillow's, about odd tags
        assert decode_image(bytes(content)).ndim == 2


@pytest.mark.parametrize("kind", ["EPS", "GIF", "PDF"])
def test_other_format_never_meets_its_loader(kind, monkeypatch):
    """The loader of EPS runs Ghostscript; PDF has none."""
    content = encode(RAMP_8, kind)
    monkeypatch.setattr(EpsImagePlugin.EpsImageFile, "_open", lambda _: pytest.fail("was loaded"))
    monkeypatch.setattr(GifImagePlugin.GifImageFile, "_open", lambda _: pytest.fail("was loaded"))
    with pytest.raises(InvalidImageError, match="give a PNG, JPEG, TIFF or BMP file"):
        decode_image(content)


def test_png_with_a_broken_chunk_is_refused():
    """Pillow calls this a SyntaxError."""
    content = encode(RAMP_8).replace(b"IDAT", b"\x01\x02\x03\x04")
    with pytest.raises(InvalidImageError, match="no readable image"):
        decode_image(content)


@pytest.mark.parametrize(("width_px", "height_px"), [(30_000, 30_000), (5000, 4001), (7000, 7000)])
def test_huge_image_is_refused_by_its_header(width_px, height_px):
    """Before anything is decompressed: this file holds no pixel at all."""
    with pytest.raises(InvalidImageError, match=r"more than 20000000 px in all: crop"):
        decode_image(png_header(width_px, height_px))


@pytest.mark.parametrize("tag", range(256, 283))
@pytest.mark.parametrize("kind", [0, 2, 5, 12, 13])
def test_tag_of_an_impossible_kind_is_refused_with_a_sentence(tag, kind):
    """A width that is a fraction, a text, or nothing: Pillow stumbles over some of them."""
    content = bytearray(encode(RAMP_8, "TIFF"))
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    for entry in range(first + 2, first + 2 + 12 * count, 12):
        if struct.unpack_from("<H", content, entry) == (tag,):
            struct.pack_into("<H", content, entry + 2, kind)
    with warnings.catch_warnings(), suppress(InvalidImageError):
        warnings.simplefilter("ignore")
        assert decode_image(bytes(content)).shape == RAMP_8.shape


def test_size_in_the_sentence_is_the_size_found():
    """With the limit and what to do."""
    with pytest.raises(InvalidImageError, match=r"4001 x 5000 px, more than 20000000 .* crop"):
        decode_image(png_header(5000, 4001))


@pytest.mark.parametrize("shape", [(1, 1), (31, 64), (64, 31)])
def test_tiny_image_is_refused(shape):
    """32 px a side are needed."""
    with pytest.raises(InvalidImageError, match=f"{shape[0]} x {shape[1]} px: each side needs 32"):
        decode_image(encode(np.zeros(shape, np.uint8)))


def test_limits_themselves_are_allowed():
    """32 px a side, 20 million px in all."""
    check_size(32, 32)
    check_size(MAX_PIXELS // 5000, 5000)


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, np.bool_]),
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=32, max_side=40),
        fill=st.just(0),
    )
)
def test_any_finite_image_becomes_gray(image):
    """Float32 from 0 to 1, for any depth and any range."""
    if image.dtype == np.float32:
        image = np.nan_to_num(image).clip(-1e30, 1e30)
    gray = to_gray(image)
    assert gray.dtype == np.float32
    assert gray.shape == image.shape
    assert (gray >= 0).all()
    assert (gray <= 1).all()


def test_stretch_ignores_a_few_hot_pixels():
    """Between the 0.1 and the 99.9 percentile: one cosmic ray must not darken the image."""
    image = np.linspace(100, 200, 64 * 64).reshape(64, 64)
    image[0, 0], image[5, 5] = 0, 60_000
    gray = to_gray(image)
    assert gray[32, 32] == pytest.approx((image[32, 32] - 100) / 100, abs=0.01)


def test_depth_makes_no_difference():
    """The same picture in 8 and in 16 bits gives the same gray image."""
    np.testing.assert_allclose(to_gray(RAMP_8.astype(np.uint16) * 257), to_gray(RAMP_8), atol=1e-6)


@pytest.mark.parametrize("value", [0, 7, -1.5, 65_535])
def test_constant_image_becomes_black(value):
    """No structure, no division by zero."""
    assert not to_gray(np.full((32, 32), value)).any()


def test_rare_structure_is_not_lost():
    """Both percentiles equal: the full range is used."""
    image = np.zeros((64, 64), np.uint8)
    image[3, 3] = 9
    assert to_gray(image)[3, 3] == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_none_are_refused(value):
    """NaN would spread through the network."""
    image = np.zeros((32, 32), np.float32)
    image[1, 1] = value
    with pytest.raises(InvalidImageError, match="NaN or infinite"):
        to_gray(image)


@pytest.mark.parametrize("shape", [(32,), (32, 32, 3), (1, 32, 32)])
def test_more_than_one_channel_is_refused(shape):
    """With the shape found."""
    with pytest.raises(InvalidImageError, match="give one channel"):
        to_gray(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("image", [RAMP_8, RAMP * 30])
def test_gray_png_stays_as_it_is(image):
    """Byte for byte, with what else is in the file."""
    content = encode(image)

    assert gray_png(content) == content


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "JPEG"])
def test_other_formats_become_png(kind):
    """With the pixels that were in them."""
    content = encode(RAMP_8, kind)

    written = gray_png(content)

    assert written.startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode_image(written), decode_image(content))


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(np.stack([RAMP_8] * 3, axis=2)),
        Image.fromarray(np.stack([RAMP_8] * 4, axis=2)),
        Image.fromarray(np.stack([RAMP_8] * 2, axis=2)),
        Image.fromarray(RAMP_8).convert("P"),
    ],
    ids=["RGB", "RGBA", "LA", "P"],
)
def test_gray_values_survive_color(picture):
    """Most microscopes write their grey images in color."""
    np.testing.assert_array_equal(decode_image(gray_png(encode(picture))), RAMP_8)


def test_sixteen_bits_of_a_tiff_are_kept():
    """Integers of 32 bits as well, where they fit."""
    for image in (RAMP * 30, (RAMP * 30).astype(np.int32)):
        np.testing.assert_array_equal(decode_image(gray_png(encode(image, "TIFF"))), image)


@pytest.mark.parametrize("image", [RAMP.astype(np.float32) / 7 - 3, RAMP.astype(np.int32) - 500])
def test_other_depths_are_stretched_over_sixteen_bits(image):
    """The order and the proportions of the values stay."""
    pixels = decode_image(gray_png(encode(image, "TIFF")))

    assert (pixels.dtype, pixels.min(), pixels.max()) == (np.uint16, 0, 65_535)
    expected = (image.astype(np.float64) - image.min()) / np.ptp(image) * 65_535
    np.testing.assert_allclose(pixels, expected, atol=0.51)


def test_black_and_white_gets_eight_bits():
    """A file of 1 bit is read by fewer programs."""
    pixels = decode_image(gray_png(encode(RAMP_8 > 100)))

    np.testing.assert_array_equal(pixels, np.where(RAMP_8 > 100, 255, 0))


def test_turned_png_is_written_upright():
    """As the annotator saw it: other programs may not know of the turn."""
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(RAMP_8, exif=exif)

    written = gray_png(content)

    with Image.open(io.BytesIO(written)) as file:
        assert file.size == (40, 48)
        np.testing.assert_array_equal(np.asarray(file), np.rot90(RAMP_8, -1))


def test_what_is_no_finite_image_is_not_converted():
    """With the sentence of the reader."""
    endless = RAMP.astype(np.float32)
    endless[0, 0] = np.inf

    with pytest.raises(InvalidImageError, match="NaN or infinite"):
        gray_png(encode(endless, "TIFF"))
    with pytest.raises(InvalidImageError, match="no readable image"):
        gray_png(b"GIF")


def test_palette_image_keeps_the_classes():
    """White where nothing is known, black where there is no color."""
    label_map = np.array([[0, 1, 2, 255]], np.uint8)

    picture = palette_image(label_map, [(10, 20, 30), (40, 50, 60)])

    assert np.asarray(picture).tolist() == label_map.tolist()
    assert np.asarray(picture.convert("RGB"))[0].tolist() == [
        [10, 20, 30],
        [40, 50, 60],
        [0, 0, 0],
        [255, 255, 255],
    ]
