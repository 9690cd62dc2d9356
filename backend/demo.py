"""Everything on one machine: `python -m backend.demo [IMAGES...]`, which `scripts/demo` runs.

Starts Label Studio and the backend on loopback, makes a project of the given images (or of
synthetic ones), connects both, and stops all of it at Ctrl-C. The data folder keeps the work.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from backend.annotation.client import LabelStudioClient
from backend.annotation.label_config import write_label_config
from backend.annotation.projects import connect_backend, ensure_project, import_image
from backend.annotation.tabs import ensure_tabs
from backend.command_line import fail
from backend.trials.demo_images import DemoImage, read_images, synthetic_images
from backend.trials.demo_servers import Keys, backend_server, label_studio, load_keys, say
from backend.trials.processes import ServerError, check_port, free_port

TITLE = "TEM guide demo"
MATERIALS_FILE = "materials.json"
_SYNTHETIC_HINT = """
In the synthetic images Si lies at the bottom, below gates of Metal with caps and walls of Nitride,
in Oxide.
"""


@dataclass(frozen=True)
class DemoOptions:
    """What a user of the demo can choose."""

    images: tuple[Path, ...]  # empty: synthetic ones
    materials: tuple[str, ...]  # empty: those of the synthetic images
    folder: Path
    port: int  # of Label Studio, 0 for any free one
    backend_port: int


def prepare_project(
    client: LabelStudioClient,
    materials: Sequence[str],
    images: Iterable[DemoImage],
    folder: Path,
) -> int:
    """Make the demo's project, or find it, and import the images that it does not hold yet.

    Args:
        client: Label Studio.
        materials: Classes to annotate; a project that exists keeps its own.
        images: What to import.
        folder: Remembers in `imported.json` what has been imported, by content, and in
            `materials.json` the classes.

    Returns:
        The project id.
    """
    project_id, is_new = ensure_project(client, TITLE, write_label_config(materials))
    record = folder / "imported.json"
    imported = set() if is_new or not record.exists() else set(json.loads(record.read_text()))
    for image in images:
        digest = hashlib.sha256(image.content).hexdigest()
        if digest not in imported:
            import_image(client, project_id, image.name, image.content)
            imported.add(digest)
            record.write_text(json.dumps(sorted(imported)))
    (folder / MATERIALS_FILE).write_text(json.dumps(materials))
    return project_id


def run_demo(options: DemoOptions, stop: threading.Event) -> None:
    """Run the whole demo until `stop` is set or an exception arrives.

    Raises:
        ServerError: A server cannot be started.
        ValueError: An image cannot be read, or the materials do not fit.
        ConnectionError: Label Studio refuses a step.
    """
    materials, images = _choose_images(options)  # first: a slip here should not cost a boot
    write_label_config(materials)
    options = _with_ports(options)
    first = not (options.folder / "label-studio").exists()
    keys = load_keys(options.folder)
    with ExitStack() as stack:
        say(f"Starting Label Studio{' (the first start takes about a minute)' * first} ...")
        url = stack.enter_context(label_studio(options.folder, options.port, keys))
        say("Starting the backend ...")
        backend = stack.enter_context(
            backend_server(options.folder, options.backend_port, keys, url)
        )
        client = stack.enter_context(LabelStudioClient(url, keys.token, timeout_s=60.0))
        project_id = prepare_project(client, materials, images, options.folder)
        connect_backend(client, project_id, backend)
        ensure_tabs(client, project_id)
        address = f"{url}/projects/{project_id}/data"
        synthetic = first and not options.images
        say(_welcome(address, keys, options.folder, synthetic=synthetic))
        try:
            stop.wait()
        finally:
            say("Stopping, some seconds ...")


def _choose_images(options: DemoOptions) -> tuple[tuple[str, ...], tuple[DemoImage, ...]]:
    """Materials and images of the project; one that exists keeps its materials and images.

    Raises:
        ValueError: Other materials are asked for than those that the data folder has.
    """
    kept = _kept_materials(options.folder)
    if kept and options.materials not in ((), kept):
        raise ValueError(
            f"{options.folder} already holds a project with the materials {', '.join(kept)}: "
            "give another folder with --data"
        )
    if options.images:
        images = read_images(options.images)
        return kept or options.materials or ("Material 1", "Material 2", "Material 3"), images
    if kept:
        return kept, ()
    materials, images = synthetic_images()
    return options.materials or materials, images


def _kept_materials(folder: Path) -> tuple[str, ...]:
    """Materials of the project that the data folder holds; none if it is new."""
    record = folder / MATERIALS_FILE
    return tuple(json.loads(record.read_text())) if record.exists() else ()


def _with_ports(options: DemoOptions) -> DemoOptions:
    """Choose free ports where 0 was given; refuse taken ones before anything is started."""
    port, backend_port = options.port or free_port(), options.backend_port or free_port()
    check_port(port, "Label Studio (--port)")
    check_port(backend_port, "the backend (--backend-port)")
    return replace(options, port=port, backend_port=backend_port)


def _welcome(address: str, keys: Keys, folder: Path, *, synthetic: bool) -> str:
    hint = _SYNTHETIC_HINT if synthetic else ""
    return f"""
Ready: {address}
  e-mail    {keys.email}
  password  {keys.password}

Open an image there, then:
  1. At the bottom of the editor, turn Auto-Annotation on; leave "Auto-Accept" off.
  2. Take the brush, press a material's number and paint a stroke inside each material, with Esc
     after each. Then take the Auto-Detect tool, press u and drag a small box anywhere: five to ten
     seconds later masks and boxes around uncertain spots appear. Paint where they are wrong, and
     ask again.
  3. When all is right, press Esc, accept with the green tick at the bottom, tick "Finished GT",
     Submit.
{hint}

The data is kept in {folder.resolve()}. Stop with Ctrl-C."""


def parse_options(arguments: Sequence[str] | None = None) -> DemoOptions:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Start Label Studio with the guide on this machine, and open a project.",
    )
    parser.add_argument(
        "images",
        nargs="*",
        type=Path,
        metavar="IMAGE",
        help="image file, or folder of them; none: synthetic images",
    )
    parser.add_argument(
        "--materials",
        default="",
        metavar="A,B,...",
        help="names of the materials, of a new data folder",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("demo-data"),
        metavar="FOLDER",
        help="where everything is kept (default: demo-data)",
    )
    parser.add_argument(
        "--port", type=int, default=8080, help="of Label Studio (default: 8080; 0: any free one)"
    )
    parser.add_argument(
        "--backend-port", type=int, default=9090, help="of the backend (default: 9090)"
    )
    chosen = parser.parse_args(arguments)
    materials = tuple(name.strip() for name in chosen.materials.split(",") if name.strip())
    return DemoOptions(
        tuple(chosen.images), materials, chosen.data, chosen.port, chosen.backend_port
    )


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when the user stopped it, 1 if a server fails, 2 after a mistake."""
    options = parse_options(arguments)
    # Ctrl-C as well: a shell that starts us in the background has it ignored
    stopping = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup wants it ignored
        stopping.append(signal.SIGHUP)
    for number in stopping:
        signal.signal(number, _interrupt)
    try:
        run_demo(options, threading.Event())
    except KeyboardInterrupt:
        say("Stopped.")
    except (ServerError, ValueError, OSError) as error:
        return fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
