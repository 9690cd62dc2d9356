"""Native microscope files (dm3, dm4, emd, ser with emi) → images with their pixel size.

The one door to RosettaSciIO, which is GPL-3.0-or-later and comes with the extra `microscope` only:
it is imported when such a file is read, and by nobody else.
"""

from __future__ import annotations

import math
import struct
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backend.errors import InvalidImageError
from backend.files import UNREADABLE
from backend.microscope.reading import Acquisition, Axes, Reading, join, mode_of, read_axes

KINDS = {
    ".dm3": "Gatan dm3",
    ".dm4": "Gatan dm4",
    ".emd": "EMD",
    ".ser": "TIA ser",
    ".emi": "TIA emi",
}
"""What is read here, by the ending of the name."""

Json: TypeAlias = Mapping[str, Any]

_BROKEN = (*UNREADABLE, struct.error, IndexError, AttributeError, MemoryError, ArithmeticError,
           AssertionError, NameError)  # fmt: skip
_MISSING = 'RosettaSciIO is not installed, which reads {}: pip install ".[microscope]"'
_ENERGIES = {"ev", "kev"}
_TO_KILOVOLT = {"kv": 1.0, "v": 1e-3}


@dataclass(frozen=True)
class NativeImage:
    """An image of a native file."""

    name: str  # of its detector or of its part of the file
    kind: str
    pixels: NDArray[Any]  # (H, W), as stored
    reading: Reading


def read_native(path: Path) -> tuple[NativeImage, ...]:
    """Read the images of a native file; spectra beside them are passed over.

    Raises:
        InvalidImageError: RosettaSciIO is missing, the file is damaged, or it holds no image with
            lengths as axes.
    """
    signals = _signals(path)
    if not signals:
        lacks = "an .emi has no pixels of its own: put its _1.ser beside it"
        why = lacks if path.suffix.lower() == ".emi" else "it holds no image"
        raise InvalidImageError(why)
    kept, refusals = [], []
    for signal in signals:
        try:
            kept.append(_image(path, signal))
        except InvalidImageError as error:
            refusals.append(str(error))
    if not kept:
        raise InvalidImageError("; ".join(dict.fromkeys(refusals)))
    return tuple(_with_own_names(kept))


def _signals(path: Path) -> list[dict[str, Any]]:
    """All that RosettaSciIO finds in a file."""
    suffix = path.suffix.lower()
    try:
        read = _reader(suffix)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata nobody asks for
            return list(read(str(path)))
    except ImportError as error:
        if find_spec("rsciio") is None:
            raise InvalidImageError(_MISSING.format(suffix)) from None
        raise InvalidImageError(
            f'reading it takes the package {error.name or error}: pip install ".[microscope]"'
        ) from None
    except _what_it_raises(read) as error:
        raise InvalidImageError(
            f"it is no readable {suffix} file ({type(error).__name__})"
        ) from None


def _what_it_raises(read: Callable[[str], object]) -> tuple[type[Exception], ...]:
    """What a reader raises for a broken file; RosettaSciIO moves its own classes about."""
    known = vars(sys.modules[read.__module__]).values()
    own = [one for one in known if isinstance(one, type) and issubclass(one, Exception)]
    return (*_BROKEN, *own)


def _reader(suffix: str) -> Callable[[str], list[dict[str, Any]]]:
    """The reader of a format; imports RosettaSciIO."""
    if suffix in {".dm3", ".dm4"}:
        from rsciio import digitalmicrograph

        return digitalmicrograph.file_reader
    if suffix == ".emd":
        from rsciio import emd

        # a spectrum image beside the images would ask for one more package
        return lambda name: emd.file_reader(name, select_type="images")
    from rsciio import tia

    return tia.file_reader


def _image(path: Path, signal: Json) -> NativeImage:
    """Turn a signal into an image.

    Raises:
        InvalidImageError: It is a spectrum, a stack or a diffraction pattern.
    """
    pixels = np.asarray(signal["data"])
    axes = [dict(axis) for axis in signal["axes"]]
    units = {str(axis.get("units") or "").strip().lower() for axis in axes}
    if units & _ENERGIES or pixels.ndim < 2 or min(pixels.shape) < 2:  # noqa: PLR2004 - rows, columns
        raise InvalidImageError(f"it holds a spectrum of shape {pixels.shape}, which is no image")
    if pixels.ndim > 2:  # noqa: PLR2004 - rows, columns
        raise InvalidImageError(f"it holds a stack of shape {pixels.shape}: save one image alone")
    reciprocal = sorted(unit for unit in units if unit.startswith("1") or "rad" in unit)
    if reciprocal:
        raise InvalidImageError(
            f"it shows a diffraction pattern, its axes are in {reciprocal[0]}: it has no lengths"
        )
    if not np.issubdtype(pixels.dtype, np.number) or np.iscomplexobj(pixels):
        raise InvalidImageError(f"its pixels are {pixels.dtype}, which are no gray values")
    if _is_turned(axes):
        pixels, axes = pixels.T, axes[::-1]
    name = str(signal.get("metadata", {}).get("General", {}).get("title") or "")
    if path.suffix.lower() == ".emi":  # which may have several
        name = str(signal["metadata"]["General"].get("original_filename") or name)
    reading = join([_scale(axes), Reading(acquisition=_acquisition(signal, name))])
    kind = KINDS[path.suffix.lower()]
    return NativeImage(name, kind, np.ascontiguousarray(pixels), reading)


def _is_turned(axes: list[dict[str, Any]]) -> bool:
    """Whether x runs down: some files store their axes as X, Y."""
    return [str(axis.get("name", "")).lower() for axis in axes] == ["x", "y"]


def _scale(axes: list[dict[str, Any]]) -> Reading:
    """The pixel size of two axes, first y, then x; each has its own unit."""
    (y, unit_y), (x, unit_x) = [
        (abs(float(axis.get("scale") or math.nan)), str(axis.get("units") or "")) for axis in axes
    ]
    if not (unit_x or unit_y):
        return Reading(notes=("the file names no unit for its pixels: nobody calibrated it",))
    from rsciio import __version__

    told = Axes(x, y, unit_x, unit_y, "axes of the file", "rosettasciio", str(__version__))
    return read_axes(told, "metadata")


def _acquisition(signal: Json, name: str) -> Acquisition:
    general = signal.get("metadata", {}).get("General", {})
    original = signal.get("original_metadata", {})
    volts = _first(original, ("AccelerationVoltage", "high tension", "Voltage"))
    kilovolts = _first(original, ("High tension_kV",))
    return Acquisition(
        instrument=str(
            _first(original, ("InstrumentModel", "Microscope"))
            or _inner(original, "Microscope Info").get("Name")
            or _inner(original, "microscope").get("name")
            or ""
        ).strip(),
        detector=name if mode_of(name) != "unknown" else "",
        mode=mode_of(name),
        voltage_kv=_number(kilovolts, "kv") or _number(volts, "v"),
        acquired_at=f"{general.get('date', '')} {general.get('time', '')}".strip(),
    )


def _number(value: object, unit: str) -> float | None:
    try:
        number = float(str(value)) * _TO_KILOVOLT[unit]
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _first(tree: Json, names: tuple[str, ...]) -> object:
    """The first plain value of one of these names, anywhere in nested settings."""
    for name in names:
        for inner in _levels(tree):
            value = inner.get(name)
            if value is not None and not isinstance(value, Mapping):
                return value
    return None


def _inner(tree: Json, name: str) -> Json:
    """The settings of this name, anywhere in nested settings."""
    found = (inner[name] for inner in _levels(tree) if isinstance(inner.get(name), Mapping))
    return next(found, {})


def _levels(tree: Json) -> Iterator[Json]:
    """A tree of settings and all trees in it, outer ones first."""
    waiting = [tree]
    while waiting:
        level = waiting.pop(0)
        if isinstance(level, Mapping):
            yield level
            waiting += [inner for inner in level.values() if hasattr(inner, "keys")]
        elif hasattr(level, "as_dictionary"):
            waiting.append(level.as_dictionary())


def _with_own_names(found: list[NativeImage]) -> Iterator[NativeImage]:
    """Number those that share their name; one alone needs none."""
    if len(found) == 1:
        yield replace(found[0], name="")
        return
    shared = Counter(image.name for image in found)
    seen: Counter[str] = Counter()
    for image in found:
        seen[image.name] += 1
        name = image.name or "image"
        yield replace(image, name=f"{name} {seen[image.name]}" if shared[image.name] > 1 else name)
