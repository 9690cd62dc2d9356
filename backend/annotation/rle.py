"""Masks to Label Studio's brush run-length encoding, and back.

A bit stream: `number of values:32 | word size - 1:5 | four run sizes - 1:4 each`, then chunks of
`flag:1 | index of run size:2 | run - 1 | value`. Flag 1 repeats one value, flag 0 is followed by
`run` values. The values are an RGBA raster, row by row; the mask is its alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.arrays import Mask
from backend.errors import InvalidTaskError

MAX_PIXELS = 2**26
"""8192 x 8192: a larger mask is refused before anything is allocated."""
MAX_BYTES = 2_000_000
"""A longer stream is refused unread. A noisy mask of 2048 x 2048 takes 80,000, one of this length
and a decoder that works on it 200 MB."""

_CHANNELS = 4
_VALUE_BITS = 8
_HEADER_BITS = 32 + 5 + 4 * 4
_HEADER_BYTES = 7
_RUN_SIZES = np.array([3, 4, 8, 16])  # bits of a run, shortest that fits
_MAX_RUN = 2**16
_MOST_BITS_A_VALUE = 3 + 16 + _VALUE_BITS  # a chunk of one value, its run written in 16 bits
_PADDING_BYTES = 16  # more than any encoder leaves behind its last chunk


def encode_mask(mask: Mask) -> list[int]:
    """Encode a mask as Label Studio's brush RLE, 255 where it is set.

    Args:
        mask: True where the brush painted. Shape (H, W), at least one pixel.

    Returns:
        Bytes, 0..255.

    Example:
        >>> encode_mask(np.ones((1, 1), dtype=bool))
        [0, 0, 0, 4, 57, 27, 252, 127, 224]
    """
    if mask.ndim != 2 or not 0 < mask.size <= MAX_PIXELS:  # noqa: PLR2004  # rows and columns
        raise ValueError(f"a mask of shape {mask.shape} cannot be encoded: (H, W) is needed")
    runs, values = _split_long_runs(*_alpha_runs(mask))
    size_index = np.searchsorted([2**3, 2**4, 2**8], runs)
    run_bits = _RUN_SIZES[size_index]
    # every chunk is one number of at most 27 bits
    chunks = ((4 | size_index) << run_bits | (runs - 1)) << _VALUE_BITS | values
    return _pack(chunks, 3 + run_bits + _VALUE_BITS, values=mask.size * _CHANNELS)


def decode_mask(rle: Sequence[int], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode Label Studio's brush RLE.

    Args:
        rle: Bytes, 0..255.
        shape: Height and width the mask must have, in pixels.

    Returns:
        Alpha, 0 to 255: the editor's strokes have soft rims. Shape (H, W).

    Raises:
        InvalidTaskError: The stream is malformed, cut short, or of another size.

    Example:
        >>> decode_mask([0, 0, 0, 4, 57, 27, 252, 127, 224], shape=(1, 1)).tolist()
        [[255]]
    """
    height, width = shape
    if min(shape) < 1 or height * width > MAX_PIXELS:
        raise InvalidTaskError(f"a mask of {height} x {width} pixels is not decoded")
    _check_length(rle, height * width * _CHANNELS)
    run_sizes = _check_header(_check_bytes(rle[:_HEADER_BYTES]), height * width * _CHANNELS)
    stream = _check_bytes(rle)
    windows = _windows(stream)
    chunks = _walk(windows, run_sizes, height * width * _CHANNELS)
    return _alpha(windows, chunks).reshape(shape)


def _alpha_runs(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lengths of the runs over all four channels, and their values."""
    flat = np.asarray(mask, dtype=np.bool_).ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(starts, append=flat.size)
    # runs alternate, so the first pixel says all values
    values = (np.arange(starts.size) + flat[0]) % 2 * 255
    return lengths * _CHANNELS, values


def _split_long_runs(
    lengths: NDArray[np.int64], values: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut runs that do not fit 16 bits into full ones and a rest."""
    pieces = -(-lengths // _MAX_RUN)
    if pieces.max() == 1:
        return lengths, values
    runs = np.full(pieces.sum(), _MAX_RUN)
    runs[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * _MAX_RUN
    return runs, np.repeat(values, pieces)


def _pack(chunks: NDArray[np.int64], bits: NDArray[np.int64], values: int) -> list[int]:
    """Write numbers of `bits` bits one after the other behind the header."""
    ends = _HEADER_BITS + np.cumsum(bits)
    out = np.zeros(ends[-1] // 8 + 6, dtype=np.uint8)
    sizes = [size - 1 for size in _RUN_SIZES.tolist()]
    header = values << 21 | (_VALUE_BITS - 1) << 16
    header |= sizes[0] << 12 | sizes[1] << 8 | sizes[2] << 4 | sizes[3]
    out[:7] = list((header << 3).to_bytes(7, "big"))
    first_byte, used_bits = np.divmod(ends - bits, 8)
    aligned = chunks << (40 - bits - used_bits)
    # Chunks have 14 bits or more, so no two begin in the same byte: plain |= is safe.
    for place in range(5):
        out[first_byte + place] |= (aligned >> (32 - 8 * place) & 255).astype(np.uint8)
    return out[: -(-ends[-1] // 8)].tolist()


def _check_length(rle: Sequence[int], expected: int) -> None:
    """Refuse what cannot be the stream of so many values, before it is copied."""
    if len(rle) < _HEADER_BYTES:
        raise InvalidTaskError(f"a brush RLE of {len(rle)} bytes is cut short in its header")
    needed = (_HEADER_BITS + expected * _MOST_BITS_A_VALUE) // 8 + _PADDING_BYTES
    if len(rle) > min(needed, MAX_BYTES):
        raise InvalidTaskError(
            f"a brush RLE has {len(rle)} bytes, its image needs at most {min(needed, MAX_BYTES)}"
        )


def _check_bytes(rle: Sequence[int]) -> NDArray[np.uint8]:
    try:
        stream = np.asarray(rle)
    except (ValueError, OverflowError) as error:
        raise InvalidTaskError("a brush RLE must be a flat list of bytes") from error
    if stream.ndim != 1 or stream.dtype.kind not in "iu":
        raise InvalidTaskError("a brush RLE must be a flat list of integers from 0 to 255")
    if stream.min() < 0 or stream.max() > 255:  # noqa: PLR2004  # a byte
        raise InvalidTaskError("a brush RLE holds a number outside 0..255")
    return stream.astype(np.uint8)


def _check_header(stream: NDArray[np.uint8], expected: int) -> list[int]:
    """Compare the header with the size that is expected; give the four run sizes in bits."""
    header = int.from_bytes(stream.tobytes(), "big") >> 3
    values, value_bits = header >> 21, (header >> 16 & 31) + 1
    if values != expected:
        raise InvalidTaskError(
            f"a brush RLE holds {values} values, the image needs {expected} (4 a pixel)"
        )
    if value_bits != _VALUE_BITS:
        raise InvalidTaskError(f"a brush RLE has values of {value_bits} bits, 8 are expected")
    return [(header >> shift & 15) + 1 for shift in (12, 8, 4, 0)]


def _windows(stream: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Five bytes as one number from every byte on, so that 33 bits can be read at any offset."""
    padded = np.concatenate([stream, np.zeros(5, dtype=np.uint8)]).astype(np.int64)
    count = stream.size + 1
    windows: NDArray[np.int64] = np.zeros(count, dtype=np.int64)
    for place in range(5):
        windows = windows << 8 | padded[place : place + count]
    return windows


@dataclass(frozen=True)
class _Chunks:
    """Where the chunks lie in the stream and in the raster, all of shape (N,)."""

    value_offsets: NDArray[np.int64]  # bits to the (first) value
    ends: NDArray[np.int64]  # values written so far
    literal: NDArray[np.bool_]  # a value for each place, or one for all


def _walk(windows: NDArray[np.int64], run_sizes: list[int], expected: int) -> _Chunks:
    """Hop from chunk to chunk; the values are left for numpy."""
    window_at = windows.tolist()  # plain integers: numpy scalars would be three times slower
    end_of_stream = 8 * (len(window_at) - 1)
    run_masks = [(1 << size) - 1 for size in run_sizes]
    offsets, ends, literals = [], [], []
    offset, written = _HEADER_BITS, 0
    while written < expected and offset <= end_of_stream:
        window = window_at[offset >> 3] >> (7 - (offset & 7))  # its low 33 bits start at offset
        size_index = window >> 30 & 3
        size = run_sizes[size_index]
        run = (window >> (30 - size) & run_masks[size_index]) + 1
        literal = not window >> 32 & 1
        offsets.append(offset + 3 + size)
        offset += 3 + size + (run << 3 if literal else _VALUE_BITS)
        written += run
        ends.append(written)
        literals.append(literal)
    if offset > end_of_stream:
        raise InvalidTaskError(f"a brush RLE is cut short after {len(window_at) - 1} bytes")
    if written != expected:
        raise InvalidTaskError(f"a brush RLE writes {written} values, {expected} are expected")
    return _Chunks(np.array(offsets), np.array(ends), np.array(literals))


def _alpha(windows: NDArray[np.int64], chunks: _Chunks) -> NDArray[np.uint8]:
    """Fill every fourth value, shape (pixels,)."""
    starts = np.concatenate([[0], chunks.ends[:-1]])
    pixels = chunks.ends // _CHANNELS - starts // _CHANNELS  # alpha is the last of four
    alpha = np.repeat(_values_at(windows, chunks.value_offsets), pixels)
    literal = chunks.literal & (pixels > 0)
    counts = pixels[literal]
    if counts.size:
        first_pixels = starts[literal] // _CHANNELS
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        places = np.repeat(first_pixels, counts) + within
        skipped = places * _CHANNELS + _CHANNELS - 1 - np.repeat(starts[literal], counts)
        offsets = np.repeat(chunks.value_offsets[literal], counts) + skipped * _VALUE_BITS
        alpha[places] = _values_at(windows, offsets)
    return alpha


def _values_at(windows: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Read a byte at each bit offset."""
    return (windows[offsets >> 3] >> (32 - (offsets & 7)) & 255).astype(np.uint8)
