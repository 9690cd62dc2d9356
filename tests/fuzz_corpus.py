"""Broken files: real ones, changed at random."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np
import tifffile
from label_studio_stand_in import two_halves
from PIL import Image
from torch import nn

from backend.learning.networks import save_weights

NATIVE = Path(__file__).parents[2] / "shared" / "data" / "native"
_LARGEST = 320_000  # bytes of a file that is changed thousands of times
_NASTY = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_HEADER = 512  # most of what decides lies there, in most formats
Change = Callable[[bytearray, int, Random], None]


def _flip(content: bytearray, place: int, random: Random) -> None:
    content[place] ^= 1 << random.randrange(8)


def _overwrite(content: bytearray, place: int, random: Random) -> None:
    size = random.choice((1, 2, 4))
    number = random.choice(_NASTY) & (256**size - 1)
    order = random.choice(("little", "big"))
    content[place : place + size] = number.to_bytes(size, order)


def _insert(content: bytearray, place: int, random: Random) -> None:
    content[place:place] = random.randbytes(random.randrange(1, 40))


def _delete(content: bytearray, place: int, random: Random) -> None:
    del content[place : place + random.randrange(1, 40)]


def _repeat(content: bytearray, place: int, random: Random) -> None:
    content[place:place] = content[place : place + random.randrange(1, 200)]


def _move(content: bytearray, place: int, random: Random) -> None:
    start = random.randrange(len(content))
    piece = content[start : start + random.randrange(1, 200)]
    content[place : place + len(piece)] = piece


def _cut(content: bytearray, place: int, _: Random) -> None:
    del content[place:]


CHANGES: tuple[Change, ...] = (
    _flip, _flip, _overwrite, _overwrite, _overwrite, _insert, _delete, _repeat, _move, _cut,
)  # fmt: skip


def changed(content: bytes, random: Random) -> bytes:
    """Change a file at one to eight places, half of them in its header."""
    broken = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4, 8))):
        reach = min(len(broken), random.choice((_HEADER, len(broken))))
        if reach:
            random.choice(CHANGES)(broken, random.randrange(reach), random)
    return bytes(broken)


@lru_cache(maxsize=1)
def pictures() -> Mapping[str, bytes]:
    """Small pictures of every format and depth that may be uploaded, by name."""
    gray = two_halves()
    wide = gray.astype(np.uint16) * 200
    color = np.stack([gray] * 3, axis=2)
    made = {}
    for name, image, kind, options in (
        ("gray.png", gray, "PNG", {}),
        ("wide.png", wide, "PNG", {}),
        ("color.png", color, "PNG", {}),
        ("palette.png", Image.fromarray(gray).convert("P"), "PNG", {}),
        ("text.png", gray, "PNG", {"pnginfo": _text()}),
        ("gray.jpg", gray, "JPEG", {}),
        ("color.jpg", color, "JPEG", {"progressive": True}),
        ("turned.jpg", gray, "JPEG", {"exif": _turned()}),
        ("gray.bmp", gray, "BMP", {}),
        ("palette.bmp", Image.fromarray(gray).convert("P"), "BMP", {}),
        ("gray.tif", gray, "TIFF", {}),
        ("packed.tif", wide, "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("lzw.tif", color, "TIFF", {"compression": "tiff_lzw"}),
        ("float.tif", gray.astype(np.float32), "TIFF", {}),
    ):
        buffer = io.BytesIO()
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        picture.save(buffer, kind, **options)
        made[name] = buffer.getvalue()
    return made


def _text():
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "a gate", zip=True)
    info.add_itxt("Title", "a gate", zip=True)
    return info


def _turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@lru_cache(maxsize=1)
def microscope_files() -> Mapping[str, bytes]:
    """Files of real instruments, the small ones, and a TIFF of pages, by name."""
    found = {
        path.name: path.read_bytes()
        for path in sorted(NATIVE.glob("*"))
        if path.suffix in {".dm3", ".dm4", ".ser", ".tif"} and path.stat().st_size < _LARGEST
    }
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.stack([two_halves()] * 2), imagej=True, metadata={"unit": "nm"})
    return {**found, "pages.tif": buffer.getvalue()}


class SmallNetwork(nn.Module):
    """Something with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)


def weights(folder: Path) -> bytes:
    """A checkpoint as they are written."""
    path = folder / "weights.safetensors"
    save_weights(SmallNetwork(), path, {"card": {"materials": ["Si", "Oxide"]}})
    return path.read_bytes()


def card() -> bytes:
    """What stands beside the weights of a shared model."""
    known = {"created": "2026-01-01", "materials": ["Si", "Oxide"], "parent": None,
             "images": {"a": "0"}, "metrics": {"image_iou": {"a": 0.5}}, "version": 1}  # fmt: skip
    return json.dumps(known).encode()
