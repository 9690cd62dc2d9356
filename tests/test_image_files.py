"""Files and folders become images, each with a name of its own."""

import pytest

from backend.errors import InvalidDatasetError
from backend.microscope.image_files import PICTURE_SUFFIXES, image_files


@pytest.fixture
def folder(tmp_path):
    """A folder with a picture, a native file of it, another native file, and what is no image."""
    for name in ("a.png", "a.dm3", "b.TIF", "c.emd", "c_1.emi", "notes.txt"):
        (tmp_path / name).touch()
    return tmp_path


def names(paths):
    """Their names, in order."""
    return [path.name for path in paths]


def test_the_native_format_comes_first(folder):
    """The picture of the same name says less."""
    assert names(image_files([folder])) == ["a.dm3", "b.TIF", "c.emd"]


def test_of_two_pictures_none_is_left_out(folder):
    """Which of them is meant only the user knows; where no format is preferred, of any two."""
    (folder / "b.png").touch()
    assert names(image_files([folder])) == ["a.dm3", "b.TIF", "c.emd"]
    with pytest.raises(InvalidDatasetError, match="several images are named b"):
        image_files([folder], PICTURE_SUFFIXES, prefer_native=False)
    (folder / "d.png").touch()
    (folder / "d.jpg").touch()
    with pytest.raises(InvalidDatasetError, match="several images are named d"):
        image_files([folder])


def test_what_a_model_made_of_images_is_none(folder):
    """Else a second run would segment label maps."""
    for name in ("a.labels.png", "a.uncertainty.png"):
        (folder / name).touch()
    assert names(image_files([folder])) == ["a.dm3", "b.TIF", "c.emd"]
    assert names(image_files([folder / "a.labels.png"])) == ["a.labels.png"]


def test_formats_that_cannot_be_read_do_not_count(folder):
    """In a folder; one that is named is tried."""
    assert names(image_files([folder], PICTURE_SUFFIXES)) == ["a.png", "b.TIF"]
    assert names(image_files([folder / "c.emd"], PICTURE_SUFFIXES)) == ["c.emd"]


def test_of_an_import_its_pictures_are_taken(tmp_path):
    """The folder of records marks one."""
    for part in ("pictures", "records"):
        (tmp_path / part).mkdir()
    (tmp_path / "pictures" / "a-1.png").touch()
    (tmp_path / "plot.png").touch()
    assert names(image_files([tmp_path])) == ["a-1.png"]


def test_names_must_differ(folder):
    """Results go by them; nothing at all is a mistake as well."""
    with pytest.raises(InvalidDatasetError, match="several images are named b"):
        image_files([folder, folder / "b.TIF"])
    with pytest.raises(InvalidDatasetError, match=r"there is no image in .*\.png"):
        image_files([])


def test_folder_above_the_images_is_told_where_they_are(tmp_path):
    """As of a dataset, whose images lie in `images`."""
    images = tmp_path / "dataset" / "images"
    images.mkdir(parents=True)
    (images / "a.png").touch()
    with pytest.raises(InvalidDatasetError, match=rf"in {images.parent}: .*; {images} has some$"):
        image_files([images.parent])
