"""Reading the JSON of a dataset."""

import json

import pytest

from backend.errors import InvalidDatasetError
from backend.learning.dataset_legend import read_manifest, read_materials


def test_what_does_not_exist_tells_nothing(tmp_path):
    """Legend and manifest may be missing."""
    assert read_materials(tmp_path / "legend.json") == ()
    assert read_manifest(tmp_path / "manifest.json") == {}


def test_materials_and_entries(tmp_path):
    """Entries go by name, with or without the suffix of their file."""
    path = tmp_path / "f.json"
    path.write_text(json.dumps({"materials": ["Si", "Oxide"], "ignore_index": 255}))
    assert read_materials(path) == ("Si", "Oxide")
    path.write_text(json.dumps({"images": [{"name": "a.png", "task": 3}, {"name": "b"}]}))
    assert read_manifest(path) == {"a": {"name": "a.png", "task": 3}, "b": {"name": "b"}}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ("{}", "needs"),
        ('{"materials": ["Si"]}', "give 2 to"),
        ('{"materials": ["Si", "Si"]}', "each once"),
        ('{"materials": ["Si", "Oxide"], "ignore_index": 0}', "must hold 255"),
    ],
)
def test_damage_is_told(tmp_path, content, told):
    """With the name of the file: wrong classes would be measured as if they were right."""
    path = tmp_path / "f.json"
    path.write_text(content)
    with pytest.raises(InvalidDatasetError, match=f"f.json.*{told}"):
        read_materials(path)
    with pytest.raises(InvalidDatasetError, match=r"f\.json"):
        read_manifest(path)
