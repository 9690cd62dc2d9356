"""Small files that unfold to gigabytes: refused by their header, or read within bounds."""

import io
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

MAX_GROWTH_MB = 700
"""Above a process that has the libraries loaded; the largest image allowed takes 560 MB."""
MAX_S = 20

READ = """
import json, sys, time
from pathlib import Path
from backend.errors import InvalidImageError
from backend.memory import resident_bytes
from backend.microscope.images import decode_image, to_gray
before = resident_bytes()[0]
start_s = time.monotonic()
try:
    told = str(to_gray(decode_image(Path(sys.argv[1]).read_bytes())).shape)
except InvalidImageError as error:
    told = f"refused: {error}"
took_s, grown_mb = time.monotonic() - start_s, (resident_bytes()[1] - before) / 1e6
print(json.dumps([told, took_s, grown_mb]))
"""


def chunk(kind, content):
    """Make a chunk of a PNG."""
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def packed_zeros(gigabytes):
    """Compress zeros, a thousand to one."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(1024 * gigabytes)) + packer.flush()


ZEROS = packed_zeros(1)


def png(*chunks, width_px=64, height_px=64, depth=8, color=0):
    """Make a PNG of chunks."""
    header = struct.pack(">IIBBBBB", width_px, height_px, depth, color, 0, 0, 0)
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *chunks, chunk(b"IEND", b"")])


def pixels(rows=64, row_bytes=64):
    """Make the chunk of all black pixels."""
    return chunk(b"IDAT", zlib.compress(bytes(rows * (row_bytes + 1)), 9))


def tiff(**tags):
    """Make a TIFF of 64 x 64 in one strip, then overwrite tags by name."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((64, 64), np.uint8), compression="zlib")
    content = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        for name, value in tags.items():
            tag = file.pages[0].tags[name]
            size = {3: "<H", 4: "<I", 16: "<Q"}[tag.dtype]
            struct.pack_into(size, content, tag.valueoffset, value)
    return bytes(content)


def tiff_of_packed_zeros():
    """Let the one strip of a small TIFF unfold to a gigabyte."""
    content = bytearray(tiff())
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        tags = file.pages[0].tags
        struct.pack_into("<I", content, tags["StripOffsets"].valueoffset, len(content))
        kind = {3: "<H", 4: "<I"}[tags["StripByteCounts"].dtype]
        struct.pack_into(kind, content, tags["StripByteCounts"].valueoffset,
                         min(len(ZEROS), 65_535 if kind == "<H" else 2**31))  # fmt: skip
    return bytes(content) + ZEROS


def jpeg_of_size(width_px, height_px):
    """Make a JPEG whose header claims another size."""
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, "JPEG")
    content = bytearray(buffer.getvalue())
    place = content.index(b"\xff\xc0") + 5
    struct.pack_into(">HH", content, place, height_px, width_px)
    return bytes(content)


def bmp_of_size(width_px, height_px):
    """Make a BMP whose header claims another size."""
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, "BMP")
    content = bytearray(buffer.getvalue())
    struct.pack_into("<ii", content, 18, width_px, height_px)
    return bytes(content)


BOMBS = {
    "PNG of 4 gigapixels": (lambda: png(pixels(), width_px=65_535, height_px=65_535), "px in all"),
    "PNG with 1 GB of text": (
        lambda: png(chunk(b"zTXt", b"Comment\0\0" + ZEROS), pixels()), "refused"),
    "PNG with 1 GB of international text": (
        lambda: png(chunk(b"iTXt", b"Comment\0\1\0\0\0" + ZEROS), pixels()), "refused"),
    "PNG with 1 GB of color profile": (
        lambda: png(chunk(b"iCCP", b"icc\0\0" + ZEROS), pixels()), ""),
    "PNG with 1 GB of pixels": (lambda: png(chunk(b"IDAT", ZEROS)), ""),
    "PNG with a thousand texts": (
        lambda: png(*[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000)))] * 1000, pixels()),
        "refused"),
    "PNG of the largest size in 16-bit color": (
        lambda: png(pixels(4472, 4472 * 8), width_px=4472, height_px=4472, depth=16, color=6),
        "(4472, 4472)"),
    "TIFF of 4 gigapixels": (lambda: tiff(ImageWidth=65_535, ImageLength=65_535), "px in all"),
    "TIFF with a strip of 1 GB": (tiff_of_packed_zeros, ""),
    "TIFF of 65,535 channels": (lambda: tiff(SamplesPerPixel=65_535), "refused"),
    "TIFF of one strip a billion rows long": (lambda: tiff(RowsPerStrip=2**16 - 1), ""),
    "JPEG of 4 gigapixels": (lambda: jpeg_of_size(65_500, 65_500), "px in all"),
    "JPEG of the largest size, cut short": (lambda: jpeg_of_size(4472, 4472), ""),
    "BMP of 4 exapixels": (lambda: bmp_of_size(2**31 - 1, 2**31 - 1), "refused"),
    "BMP of the largest size, cut short": (lambda: bmp_of_size(4472, 4472), "refused"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_read_within_bounds_or_refused(name, tmp_path):
    """In a process of its own, whose memory is measured."""
    make, wanted = BOMBS[name]
    path = tmp_path / "bomb"
    path.write_bytes(make())
    assert path.stat().st_size < 3_000_000
    command = [sys.executable, "-W", "ignore", "-c", READ, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)  # noqa: S603 - ours
    told, took_s, grown_mb = json.loads(ended.stdout)
    assert wanted in told
    assert told.startswith(("refused", "("))
    assert grown_mb < MAX_GROWTH_MB, told
    assert took_s < MAX_S


def test_bombs_are_as_large_as_they_say():
    """Else they would prove nothing."""
    assert len(ZEROS) < 1_100_000
    unpacker, length, data = zlib.decompressobj(), 0, ZEROS
    while data:
        length += len(unpacker.decompress(data, 2**24))
        data = unpacker.unconsumed_tail
    assert length == 2**30
