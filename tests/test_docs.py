"""What the README promises exists: every script, setting, file and picture in it."""

import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest

from backend.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_is_in_the_readme(script):
    """A script nobody hears of is never used; `install` is called by the others."""
    assert f"scripts/{script.name}" in README or script.name == "install"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"scripts/\w+(?:\.py)?", README))))
def test_every_script_named_exists(path):
    """No command of the README is made up."""
    assert (ROOT / path).is_file()


def test_every_setting_is_in_the_readme():
    """And no other: the table lists the settings there are."""
    table = README.split("| setting |")[1].split("\n\n")[0]
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", table)) - {"DEBUG", "INFO", "WARNING", "ERROR"}
    assert named == {name.upper() for name in Settings.model_fields}


def test_defaults_in_the_readme_are_those_of_the_settings():
    """A number in a table is easily forgotten."""
    for name, default in re.findall(r"\| `([A-Z_]+)` \|.*\| `([^`]*)` \|", README):
        assert str(Settings.model_fields[name.lower()].default) == default


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http|#)([^)]+)\)", README))))
def test_every_link_leads_somewhere(link):
    """Pictures and files."""
    assert (ROOT / link).exists()


@pytest.mark.parametrize("path", re.findall(r"│ (\w+/\w+\.py) ", README))
def test_every_file_of_the_picture_exists(path):
    """The picture of the data flow names real files."""
    assert (ROOT / "backend" / path).is_file()


def test_the_library_example_runs(tmp_path):
    """The lines about `Guide`, as they stand."""
    example = next(code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    setting = (
        "import numpy as np\nimage = np.zeros((64, 64), np.uint8)\nimage[32:] = 200\n"
        "scribbles = np.full(image.shape, 255, np.uint8)\nscribbles[5:9], scribbles[55:59] = 0, 1\n"
    )
    command = [sys.executable, "-c", setting + example]
    subprocess.run(command, check=True, cwd=tmp_path)  # noqa: S603 - our own code


@pytest.mark.parametrize("script", [path for path in SCRIPTS if path.suffix == ".py"],
                         ids=lambda path: path.name)  # fmt: skip
def test_every_script_tells_how_it_is_used(script):
    """`--help` works from anywhere the package is installed."""
    command = [sys.executable, str(script), "--help"]
    usage = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    assert usage.stdout.startswith("usage:")


def test_the_table_of_commands_names_extras_that_exist():
    """Nobody is asked to install what there is not."""
    table = README.split("| to | command |")[1].split("\n\n")[0]
    cells = [row.split("|")[3] for row in table.splitlines()[2:]]
    extras = set(metadata("tem-guide").get_all("Provides-Extra"))

    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}

    assert {"train", "report"} <= named <= extras


@pytest.mark.parametrize("section", sorted(set(re.findall(r"\]\(#([^)]+)\)", README))))
def test_links_within_the_page_lead_somewhere(section):
    """Addresses of sections are their titles in small letters, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", README, re.MULTILINE)

    assert section in [title.lower().replace(" ", "-") for title in titles]
