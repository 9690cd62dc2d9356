"""The demo's options and mistakes; `test_demo_run.py` runs it for real."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from backend import demo
from backend.demo import DemoOptions, main, parse_options


def test_options_have_the_usual_ports_and_folder():
    """Label Studio's own port, and that of its backends."""
    expected = DemoOptions((), (), Path("demo-data"), port=8080, backend_port=9090)

    assert parse_options([]) == expected


def test_images_and_materials_are_taken_from_the_command_line():
    """Spaces around the names do not matter."""
    options = parse_options(["a.png", "b.tif", "--materials", "Si, Oxide,"])

    assert options.images == (Path("a.png"), Path("b.tif"))
    assert options.materials == ("Si", "Oxide")


def test_taken_port_ends_in_a_sentence(tmp_path, capsys):
    """Before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        arguments = ["--data", str(tmp_path), "--backend-port", port, "--port", "0"]

        assert main(arguments) == 1
    assert (
        f"port {port}, meant for the backend (--backend-port), cannot be used"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "label-studio").exists()


def test_missing_image_ends_in_a_sentence(tmp_path, capsys):
    """Before anything is started."""
    assert main([str(tmp_path / "gone.png"), "--data", str(tmp_path / "data")]) == 2
    assert "gone.png cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_other_materials_than_those_kept_are_refused(tmp_path, capsys):
    """A project keeps its materials: new ones would be ignored in silence."""
    (tmp_path / "materials.json").write_text('["Si", "Oxide"]')

    assert main(["--materials", "TiN,W", "--data", str(tmp_path)]) == 2
    assert "already holds a project with the materials Si, Oxide" in capsys.readouterr().err
    assert not (tmp_path / "label-studio").exists()


def test_restart_adds_no_synthetic_images(tmp_path):
    """Somebody's own project stays their own."""
    (tmp_path / "materials.json").write_text('["TiN", "W"]')

    assert demo._choose_images(parse_options(["--data", str(tmp_path)])) == (("TiN", "W"), ())


def test_help_fits_the_options():
    """It runs as a module, as `scripts/demo` runs it."""
    command = [sys.executable, "-m", "backend.demo", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - ours

    assert "usage: scripts/demo" in shown.stdout
    assert all(
        option in shown.stdout for option in ("--port", "--backend-port", "--data", "--materials")
    )


def test_interruption_ends_the_demo_without_an_error(monkeypatch, capsys):
    """Ctrl-C is the way to stop it."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_demo", interrupted)

    assert main([]) == 0
    assert "Stopped." in capsys.readouterr().out
