"""Brush RLE: what we write Label Studio reads, and the other way round."""

from __future__ import annotations

import contextlib
import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from label_studio_sdk.converter.brush import decode_rle, encode_rle
from regions import request_body

from backend.annotation.rle import MAX_BYTES, MAX_PIXELS, decode_mask, encode_mask
from backend.errors import InvalidTaskError

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40))
ONE_PIXEL = [0, 0, 0, 4, 57, 27, 252, 127, 224]


def sdk_alpha(rle, shape):
    """Decode with Label Studio's own decoder."""
    return decode_rle(rle).reshape(*shape, 4)[..., 3]


def bits_to_bytes(*fields: tuple[int, int]) -> list[int]:
    """Write (number, bits) fields one after the other."""
    text = "".join(f"{number:0{bits}b}" for number, bits in fields)
    text += "0" * (-len(text) % 8)
    return [int(text[start : start + 8], 2) for start in range(0, len(text), 8)]


def header(values: int) -> list[tuple[int, int]]:
    """Begin a stream as Label Studio does: 8-bit values, runs of 3, 4, 8 or 16 bits."""
    return [(values, 32), (7, 5), (2, 4), (3, 4), (7, 4), (15, 4)]


def noisy_masks(side_px: int) -> list[np.ndarray]:
    """Four exclusive masks in bands, with every fiftieth pixel wrong."""
    generator = np.random.default_rng(0)
    label_map = np.repeat(np.arange(side_px) * 4 // side_px, side_px).reshape(side_px, side_px)
    wrong = generator.random(label_map.shape) < 0.02
    label_map[wrong] = generator.integers(0, 4, np.count_nonzero(wrong))
    return [label_map == index for index in range(4)]


@given(masks)
def test_mask_survives_the_round_trip(mask):
    """Encoding then decoding gives the same mask, fully opaque."""
    alpha = decode_mask(encode_mask(mask), mask.shape)

    assert (alpha == mask * np.uint8(255)).all()


@given(masks)
def test_label_studio_reads_what_we_write(mask):
    """The sdk decodes our bytes to the same mask in all four channels."""
    raster = decode_rle(encode_mask(mask)).reshape(*mask.shape, 4)

    assert (raster == mask[..., np.newaxis] * np.uint8(255)).all()


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_we_read_what_label_studio_writes(alpha):
    """Soft alpha, as the editor paints it, comes back unchanged; single values are literals."""
    raster = np.stack([np.full_like(alpha, 7), alpha, alpha, alpha], axis=-1)

    assert (decode_mask(encode_rle(raster.ravel()), alpha.shape) == alpha).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (257, 255), (129, 1024)])
@pytest.mark.parametrize("set_", [True, False])
def test_uniform_mask_survives(shape, set_):
    """The last shape needs runs of more than 65536 values."""
    mask = np.full(shape, set_)

    assert (sdk_alpha(encode_mask(mask), shape) == mask * 255).all()
    assert (decode_mask(encode_mask(mask), shape) == mask * 255).all()


@pytest.mark.parametrize("pixels", [2**14, 2**14 + 1, 2**15 + 3])
def test_run_at_the_limit_of_a_chunk_survives(pixels):
    """4 * 2**14 is the longest run one chunk can hold."""
    mask = np.arange(2**16)[np.newaxis] < pixels

    assert np.count_nonzero(decode_mask(encode_mask(mask), mask.shape)) == pixels
    assert np.count_nonzero(sdk_alpha(encode_mask(mask), mask.shape)) == pixels


def test_encoding_equals_the_sdks_where_runs_are_short():
    """Bit for bit the same stream, but for the sdk's last byte of padding."""
    mask = np.eye(9, dtype=bool)
    raster = np.repeat(mask.ravel() * np.uint8(255), 4)

    ours = encode_mask(mask)

    assert ours == encode_rle(raster)[: len(ours)]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), min_size=1, max_size=20))
def test_literal_runs_are_read_value_by_value(chunks):
    """A stream of literal and repeated chunks equals the sdk's reading of it."""
    length = sum(run for _, run in chunks)
    padding = -length % 4
    fields, counter = [], itertools.count()
    for repeats, run in [*chunks, *[(True, padding)] * bool(padding)]:
        values = [next(counter) * 37 % 256 for _ in range(1 if repeats else run)]
        fields += [(repeats, 1), (2, 2), (run - 1, 8), *((value, 8) for value in values)]
    rle = bits_to_bytes(*header(length + padding), *fields)
    shape = (1, (length + padding) // 4)

    assert (decode_mask(rle, shape) == sdk_alpha(rle, shape)).all()


def test_mask_of_label_studio_has_the_size_of_its_image():
    """A mask from a submitted annotation: 512 x 512."""
    body = request_body("batch_request_with_ground_truth")
    rle = body["tasks"][0]["annotations"][0]["result"][0]["value"]["rle"]

    alpha = decode_mask(rle, (512, 512))

    assert (alpha == sdk_alpha(rle, (512, 512))).all()
    assert 0 < np.count_nonzero(alpha) < alpha.size


def test_stream_of_another_size_is_refused_before_anything_is_allocated():
    """A header that asks for 4 GB costs nothing."""
    rle = bits_to_bytes(*header(2**32 - 1), (0, 8))

    with pytest.raises(InvalidTaskError, match="4294967295 values, the image needs 1048576"):
        decode_mask(rle, (512, 512))


class Counted(list):
    """A list that counts how much of it is copied."""

    copied = 0

    def __getitem__(self, place):
        found = super().__getitem__(place)
        self.copied += len(found) if isinstance(found, list) else 1
        return found

    def __iter__(self):
        raise AssertionError("all of it was read")


@pytest.mark.parametrize(
    ("rle", "shape"),
    [
        (bits_to_bytes(*header(4)) + [0] * MAX_BYTES, (8000, 8000)),
        (bits_to_bytes(*header(4)) + [0] * 1000, (1, 1)),
        (bits_to_bytes(*header(2**32 - 1)) + [0] * 1_000_000, (512, 512)),
    ],
    ids=["longer than any", "longer than its image needs", "of another size"],
)
def test_long_stream_is_refused_before_it_is_read(rle, shape):
    """Only its header is, seven bytes."""
    stream = Counted(rle)
    with pytest.raises(InvalidTaskError, match=r"needs (at most )?\d+"):
        decode_mask(stream, shape)
    assert stream.copied <= 7


def test_longest_stream_of_an_image_is_read():
    """Each value in a chunk of its own, its run in 16 bits."""
    chunk = [(1, 1), (3, 2), (0, 16), (255, 8)]
    rle = bits_to_bytes(*header(16), *chunk * 16) + [0] * 8
    assert (decode_mask(rle, (2, 2)) == 255).all()


@pytest.mark.parametrize("shape", [(MAX_PIXELS, 2), (0, 5), (-1, -4)])
def test_shape_outside_the_limits_is_refused(shape):
    """No image has that size."""
    with pytest.raises(InvalidTaskError, match="is not decoded"):
        decode_mask(ONE_PIXEL, shape)


@given(masks, st.data())
def test_truncated_stream_is_refused(mask, data):
    """Wherever it is cut, nothing is invented for the rest."""
    rle = encode_mask(mask)
    length = data.draw(st.integers(0, len(rle) - 1))

    with pytest.raises(InvalidTaskError, match="cut short"):
        decode_mask(rle[:length], mask.shape)


def test_chunk_that_runs_over_the_end_is_refused():
    """Five values where the image has four."""
    rle = bits_to_bytes(*header(4), (1, 1), (0, 2), (4, 3), (255, 8))

    with pytest.raises(InvalidTaskError, match="writes 5 values, 4 are expected"):
        decode_mask(rle, (1, 1))


@pytest.mark.parametrize(
    "rle",
    [
        [0.5] * 9,
        ["0"] * 9,
        [None] * 9,
        [True] * 9,
        [[0]] * 9,
        [[0], *[[0, 1]] * 8],
        [2**70] * 9,
        [-1] * 9,
        [256] * 9,
        [],
    ],
)
def test_what_is_no_list_of_bytes_is_refused(rle):
    """Numbers outside 0..255 are not wrapped around, texts not converted."""
    with pytest.raises(InvalidTaskError, match="RLE"):
        decode_mask(rle, (1, 1))


def test_wide_values_are_refused():
    """Label Studio uses 8 bits; anything else is not ours to guess."""
    rle = bits_to_bytes((4, 32), (15, 5), (2, 4), (3, 4), (7, 4), (15, 4), (0, 32))

    with pytest.raises(InvalidTaskError, match="values of 16 bits"):
        decode_mask(rle, (1, 1))


@given(st.lists(st.integers(0, 255), max_size=60))
def test_random_bytes_give_a_mask_or_a_sentence(noise):
    """Behind a valid header, whatever comes is read or refused."""
    rle = bits_to_bytes(*header(64)) + noise

    with contextlib.suppress(InvalidTaskError):
        assert decode_mask(rle, (4, 4)).shape == (4, 4)


def test_empty_mask_is_refused():
    """There is no RLE of no pixels."""
    with pytest.raises(ValueError, match=r"\(0, 3\)"):
        encode_mask(np.zeros((0, 3), dtype=bool))


def test_decoder_is_faster_than_the_sdks():
    """Both read the same noisy mask; ours walks runs, not bits."""
    mask = noisy_masks(512)[0]
    rle = encode_mask(mask)

    started = time.perf_counter()
    decode_mask(rle, mask.shape)
    ours_s = time.perf_counter() - started
    decode_rle(rle)
    sdk_s = time.perf_counter() - started - ours_s

    assert ours_s < sdk_s
