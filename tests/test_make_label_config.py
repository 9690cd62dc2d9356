"""The command that writes a labeling config."""

from __future__ import annotations

from pathlib import Path

from backend.annotation.label_config import parse_label_config
from scripts.make_label_config import main

GATE = Path(__file__).parents[1] / "label_config" / "gate.xml"


def test_config_is_printed(capsys):
    """Without a file it goes to the screen."""
    assert main(["Si", "High-k"]) == 0

    assert parse_label_config(capsys.readouterr().out).materials == ("Si", "High-k")


def test_gate_config_is_what_the_command_writes(tmp_path):
    """The file in the repository is made by the command, never by hand."""
    written = tmp_path / "gate.xml"

    assert main(["Si", "Oxide", "Nitride", "Metal", "--output", str(written)]) == 0

    assert written.read_text(encoding="utf-8") == GATE.read_text(encoding="utf-8")


def test_repeated_material_is_refused_with_one_sentence(capsys):
    """No traceback for a user's mistake."""
    assert main(["Si", "Si"]) == 2

    assert capsys.readouterr().err == "material 'Si' is named 2 times: keep one\n"


def test_folder_that_does_not_exist_is_refused_with_one_sentence(tmp_path, capsys):
    """The sentence names the file."""
    assert main(["Si", "Oxide", "--output", str(tmp_path / "absent" / "gate.xml")]) == 2

    assert "gate.xml" in capsys.readouterr().err
    assert not (tmp_path / "absent").exists()
