"""Native files made up for what the real ones do not show, and the missing extra."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from backend.errors import InvalidImageError
from backend.microscope.importers import ImportOptions, import_file

NATIVE = Path(__file__).parents[2] / "shared" / "data" / "native"
IMAGE = np.random.default_rng(0).integers(0, 4000, (40, 48), dtype=np.uint16)
ANY = ImportOptions(any_pixel_size=True)


def write(folder, image=IMAGE, scales=(0.3, 0.2), units=("[n_m]", "[n_m]"), names=("y", "x")):
    """Write an EMD file of the Berkeley kind."""
    path = folder / "a.emd"
    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        group = file.create_group("data/a")
        group.attrs["emd_group_type"] = 1
        group["data"] = image
        for index, (scale, unit, name) in enumerate(zip(scales, units, names, strict=True), 1):
            axis = group.create_dataset(
                f"dim{index}", data=np.arange(image.shape[index - 1]) * scale
            )
            axis.attrs["units"], axis.attrs["name"] = unit, name
    return path


@pytest.mark.parametrize("names", [("y", "x"), ("x", "y")])
def test_axes_are_taken_by_their_names(tmp_path, names):
    """Rows are y, however the file is ordered."""
    (image,) = import_file(write(tmp_path, names=names))
    scale = image.scale.calibration
    sizes = (scale.nm_per_px_y, scale.nm_per_px_x)
    upright = names == ("y", "x")
    assert sizes == pytest.approx((0.3, 0.2) if upright else (0.2, 0.3))
    assert (image.pixels == (IMAGE if upright else IMAGE.T)).all()
    assert scale.reader == "rosettasciio"
    assert image.flags == ("anisotropic",)


@pytest.mark.parametrize(("scales", "units"), [((1, 1), ("", "")), ((0.2, 0.2), ("", "")),
                                               ((1, 1), ("[n_m]", "[n_m]"))])  # fmt: skip
def test_an_uncalibrated_file_has_no_scale(tmp_path, scales, units):
    """1 by 1, or without a unit."""
    (image,) = import_file(write(tmp_path, scales=scales, units=units))
    assert image.scale.calibration is None
    assert image.flags == ("uncalibrated",)
    assert len(image.notes) == 1


def test_one_reciprocal_axis_is_enough_to_refuse(tmp_path):
    """It is a diffraction pattern."""
    with pytest.raises(InvalidImageError, match="diffraction"):
        import_file(write(tmp_path, units=("1/nm", "nm")))


def test_a_stack_is_refused(tmp_path):
    """Which image would be measured?"""
    path = write(tmp_path, np.stack([IMAGE] * 3), (1, 0.2, 0.2), ("", "nm", "nm"), ("n", "y", "x"))
    with pytest.raises(InvalidImageError, match=r"stack of shape"):
        import_file(path)


@pytest.mark.parametrize("suffix", [".dm3", ".dm4", ".emd", ".ser", ".emi"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\0\0\0\3" + bytes(200)])
def test_a_damaged_file_is_refused(tmp_path, suffix, content):
    """With a sentence, whatever it holds."""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(InvalidImageError):
        import_file(path)


def test_an_emi_alone_has_no_pixels(tmp_path):
    """It lies beside its .ser."""
    path = tmp_path / "a.emi"
    path.write_bytes(b"JL\0\0<ObjectInfo></ObjectInfo>")
    with pytest.raises(InvalidImageError, match=r"_1\.ser beside it"):
        import_file(path)


@pytest.mark.parametrize("package", ["rsciio", "h5py"])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, package):
    """So that the user can install it."""
    path = write(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "rsciio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InvalidImageError, match=r'pip install "\.\[microscope\]"'):
        import_file(path)


@pytest.mark.parametrize("content", [
    bytes.fromhex("00000003 00012078 00000001 0100 00000001 15 0011") + b"ApplicationBounds"
    + bytes.fromhex("41424344 0000000b 0000000f") + bytes(400),
    bytes.fromhex("00000003 00012078 00000001 0100 00000001 63 0011") + b"ApplicationBounds"
    + bytes(400),
], ids=["delimiter", "kind of tag"])  # fmt: skip
def test_mistakes_of_the_readers_own_are_sentences(tmp_path, content):
    """RosettaSciIO has exceptions of its own for tags that make no sense."""
    path = tmp_path / "a.dm3"
    path.write_bytes(content)
    with pytest.raises(InvalidImageError, match=r"no readable \.dm3 file \(DM3"):
        import_file(path)


@pytest.mark.skipif(not NATIVE.exists(), reason="the native files are not there")
def test_tag_whose_type_nobody_knows_is_refused(tmp_path):
    """RosettaSciIO then uses a name that it has not set."""
    content = bytearray((NATIVE / "ramp_nonsquare.dm3").read_bytes())
    content[46] = 2  # how many numbers tell the type of the first tag
    path = tmp_path / "a.dm3"
    path.write_bytes(content)
    with pytest.raises(InvalidImageError, match=r"no readable \.dm3 file"):
        import_file(path)
