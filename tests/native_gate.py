"""A synthetic gate as a microscope of FEI would store it: 16 bits, tags in metres, a data bar."""

from __future__ import annotations

from pathlib import Path

import tifffile

from backend.microscope.databar import DATABAR_SHARE, draw_databar
from backend.microscope.synthetic import SyntheticImage
from backend.microscope.tiff_tags import FEI_HELIOS

TEXT = """\
[User]
Date=11/30/2025
[System]
SystemType=Talos F200X
[Beam]
HV=200000
Beam=EBeam
[Scan]
PixelWidth={x_m:.9e}
PixelHeight={y_m:.9e}
[Image]
DigitalGamma=1
ResolutionX={columns}
ResolutionY={rows}
[Detectors]
Name=HAADF
Mode=HAADF
[PrivateFei]
TimeOfCreation=30.11.2025 10:22:{seconds:02}
"""


def write_native(image: SyntheticImage, path: Path, seconds: int = 0) -> Path:
    """Write an image without a data bar, and one below it, that was taken at this second."""
    rows, columns = image.image.shape
    bar_rows = round(rows * DATABAR_SHARE)
    text = TEXT.format(
        x_m=1e-9 * image.nm_per_px_x,
        y_m=1e-9 * image.nm_per_px_y,
        columns=columns,
        rows=rows,
        seconds=seconds,
    ).replace("\n", "\r\n")
    pixels = draw_databar(image.image, bar_rows, image.nm_per_px_x)
    tifffile.imwrite(path, pixels, extratags=[(FEI_HELIOS, "s", 0, text, True)])
    return path
