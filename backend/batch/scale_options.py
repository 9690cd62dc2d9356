"""What a user says of a pixel size on a command line: the same words in every script."""

from __future__ import annotations

import argparse
import math

from backend.microscope.calibration import REL_UNCERTAINTY, TOLD_BY_USERS, Calibration, Source

READING_OF_BAR = 0.01
"""1 sigma of reading a scale bar, on top of the scale's own: a pixel or two of 200."""


def scale_options() -> argparse.ArgumentParser:
    """A parent for the parser of a script: `--nm-per-px` and where it is known from."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("pixel size")
    add = group.add_argument
    sizes = "side of a pixel, or its width and height, as 0.21,0.22"
    add("--nm-per-px", type=_sizes, metavar="X[,Y]", help=sizes)
    source = "how you know it (default: manual); lattice and pitch overrule the file"
    add("--calibration-source", choices=TOLD_BY_USERS, help=source)
    add("--calibration-note", metavar="TEXT", help="certificate, date, name")
    u = f"1 sigma of it, 0.02 is 2 %% (default: {REL_UNCERTAINTY:g}; of a scale bar a little more)"
    add("--calibration-u", type=float, metavar="SHARE", help=u)
    return parser


def told_scale(options: argparse.Namespace, script: str) -> Calibration | None:
    """What the user says of the pixel size, or None.

    Raises:
        ValueError: It is no positive number, or something is said of a size that is not given.
    """
    if options.nm_per_px is not None:
        return calibration(options, options.nm_per_px, script)
    said = (options.calibration_source, options.calibration_note, options.calibration_u)
    if any(word is not None for word in said):
        raise ValueError("--calibration-... says something of --nm-per-px, which is missing")
    return None


def calibration(
    options: argparse.Namespace, sizes_nm: tuple[float, float], script: str
) -> Calibration:
    """The scale of pixels of this width and height, with all else that the user says.

    Raises:
        ValueError: The size or the uncertainty is none.
    """
    source: Source = options.calibration_source or "manual"
    reading = READING_OF_BAR if source == "scale_bar" else 0.0
    u = options.calibration_u
    return Calibration(
        *sizes_nm,
        source,
        math.hypot(REL_UNCERTAINTY, reading) if u is None else u,
        options.calibration_note or "as the user says",
        raw=" x ".join(f"{size!r} nm" for size in dict.fromkeys(sizes_nm)),
        created_by=script,
    )


def _sizes(text: str) -> tuple[float, float]:
    """Width and height of a pixel.

    Example:
        >>> _sizes("0.21"), _sizes("0.21,0.22")
        ((0.21, 0.21), (0.21, 0.22))
    """
    try:
        width, *rest = map(float, text.split(","))
        (height,) = rest or [width]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size of a pixel: give nanometres, as 0.21, or 0.21,0.22 for x and y"
        ) from None
    return width, height
