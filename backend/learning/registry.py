"""The registry of shared models: a folder a version, one of them published.

    v0001/weights.safetensors, v0001/model.json, v0001/report/...
    published.json    the versions in the order in which they were published, the last one counts
    rolled_back.json  those that were taken back
    forced.json       those that were published although they were worse

A version is written aside and appears by a rename, so that there is never half of one; it is never
changed afterwards.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from backend.errors import RegistryError
from backend.files import LEFTOVER_S, locked, write_atomically
from backend.learning import networks

_ASIDE = ".aside-"
_WEIGHTS = "weights.safetensors"
_CARD = "model.json"
_PUBLISHED = "published.json"
_LOCK = "published.lock"  # held by who changes it: a script and a training may do so at once
_ROLLED_BACK = "rolled_back.json"
_FORCED = "forced.json"


@dataclass(frozen=True)
class ModelCard:
    """What is known of a shared model, beside its weights."""

    created: str
    """Date and time, ISO 8601."""
    materials: tuple[str, ...]
    """In the order of the classes."""
    parent: int | None
    """The version that was published when it was trained."""
    images: Mapping[str, str]
    """What it was trained on: names and SHA-256 of image and mask together."""
    metrics: Mapping[str, Any]
    """`image_iou`: mean IoU of each image by a network that was not trained on it; and others.

    A little higher than on other new images: each network was taken where it was best on these."""
    encoder: str = networks.ENCODER_NAME
    normalization: str = "percentiles to 0 and 1, then to -1 and 1; BatchNorm by the image's own"
    training: Mapping[str, Any] = field(default_factory=dict)
    """The settings it was trained with."""
    work: str = ""
    """Digest of the data and settings that it came of."""
    parent_iou: Mapping[str, float] = field(default_factory=dict)
    """Mean IoU of the parent on those of the images that are new to it, by name."""
    pictures: tuple[str, ...] = ()
    """`images.pixels_sha256` of the images alone: how a model does on them says little."""
    origins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of the images that an export brought, by name: whose annotation of which task they are."""
    version: int = 0
    """Given by the registry."""

    @property
    def name(self) -> str:
        """How the version is shown, e.g. in Label Studio."""
        return f"v{self.version:04d}"


class Registry:
    """Versions of the shared model below one folder."""

    def __init__(self, folder: Path) -> None:
        """Take a folder, which need not exist."""
        self.folder = folder

    def add(
        self, network: nn.Module, card: ModelCard, report: Mapping[str, bytes] | None = None
    ) -> ModelCard:
        """Keep a network as the next version; it is not published yet.

        Args:
            network: A `networks.SharedNetwork`.
            card: What is known of it; its version is chosen here.
            report: Contents of further files by name.

        Raises:
            OSError: The folder cannot be written; nothing is left behind.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        _forget_killed(self.folder)
        aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=self.folder))
        try:
            for name, content in (report or {}).items():
                write_atomically(aside / "report" / name, content)
            while True:
                card = replace(card, version=max(self.versions(), default=0) + 1)
                networks.save_weights(network, aside / _WEIGHTS, {"card": asdict(card)})
                write_atomically(aside / _CARD, _to_json(asdict(card)))
                if _appear(aside, self.folder / card.name):
                    return card
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def versions(self) -> list[int]:
        """The numbers that are taken, the oldest first, whether they can be read or not."""
        names = (path.name.removeprefix("v") for path in self.folder.glob("v*"))
        return sorted({int(name) for name in names if name.isdecimal()})

    def cards(self) -> list[ModelCard]:
        """All versions, the oldest first; those that cannot be read are left out."""
        cards = []
        for version in self.versions():
            with suppress(RegistryError):
                cards.append(self.card(version))
        return cards

    def card(self, version: int) -> ModelCard:
        """What is known of a version.

        Raises:
            RegistryError: There is none, or it is damaged.
        """
        return _read_card(self.folder / f"v{version:04d}" / _CARD)

    def damage(self, card: ModelCard) -> str:
        """What is wrong with the weights of a version, as far as it shows at once; "" if nothing.

        They are read only when it is to serve.
        """
        try:
            networks.check_size(self.folder / card.name / _WEIGHTS)
        except ValueError as error:
            return str(error)
        return ""

    def history(self) -> list[int]:
        """The versions in the order in which they were published, the present one last."""
        return self._versions_in(_PUBLISHED)

    def rolled_back(self) -> set[int]:
        """The versions that served once, were taken back, and were not published again.

        Raises:
            RegistryError: It is not known.
        """
        return {*self._versions_in(_ROLLED_BACK)} - {*self.history()}

    def since_forced(self) -> list[int]:
        """The end of the history that begins with what was last published by force; else all of it.

        Raises:
            RegistryError: It is not known.
        """
        history, forced = self.history(), self._versions_in(_FORCED)
        steps = [place for place, version in enumerate(history) if version in forced]
        return history[steps[-1] :] if steps else history

    def published(self) -> ModelCard | None:
        """The version that serves; None before the first is published.

        Raises:
            RegistryError: It cannot be read.
        """
        history = self.history()
        try:
            return self.card(history[-1]) if history else None
        except RegistryError as error:
            raise RegistryError(
                f"the published model is damaged, {error}: roll back, or publish another one with "
                "--force (scripts/models.py)"
            ) from None

    def publish(
        self, version: int, gate: Callable[[ModelCard], bool] | None = None, *, force: bool = False
    ) -> ModelCard | None:
        """Let a version serve from now on, once its weights have been read.

        Args:
            version: The version.
            gate: May it serve? Asked while nobody else can publish or roll back; without: yes.
            force: Publish it whatever the gate says; that it was forced is noted.

        Returns:
            What is known of it; None if the gate keeps it out.

        Raises:
            RegistryError: It does not exist or is damaged; the present one stays.
        """
        card = self.card(version)
        self.load(card)
        with locked(self.folder / _LOCK):
            passes = gate is None or gate(card)
            if not passes and not force:
                return None
            if not passes:
                self._note(_FORCED, version)
            history = self.history()
            if history[-1:] != [version]:
                self._write(_PUBLISHED, [*history, version])
        return card

    def roll_back(self) -> ModelCard | None:
        """Let the version serve again that served before; None if there was none.

        Raises:
            RegistryError: Nothing is published, or the one before cannot be read.
        """
        with locked(self.folder / _LOCK):
            history = self.history()
            if not history:
                raise RegistryError("nothing is published: there is nothing to roll back")
            before = self.card(history[-2]) if history[1:] else None
            self._note(_ROLLED_BACK, history[-1])
            self._write(_PUBLISHED, history[:-1])
        return before

    def load(self, card: ModelCard) -> networks.SharedNetwork:
        """Build the network of a version, in evaluation mode.

        Raises:
            RegistryError: Its weights are damaged, or of another network.
        """
        network = networks.SharedNetwork(len(card.materials), "random")
        try:
            networks.load_weights(network, self.folder / card.name / _WEIGHTS)
        except ValueError as error:
            raise RegistryError(str(error)) from error
        return network.eval()

    def weights_sha256(self, card: ModelCard) -> str:
        """What identifies the weights of a version."""
        return hashlib.sha256((self.folder / card.name / _WEIGHTS).read_bytes()).hexdigest()

    def _versions_in(self, name: str) -> list[int]:
        path = self.folder / name
        try:
            versions = json.loads(path.read_text())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise RegistryError(f"{path} cannot be read: {error}") from None
        if not isinstance(versions, list) or not all(isinstance(v, int) for v in versions):
            raise RegistryError(f"{path} holds no list of versions")
        return versions

    def _note(self, name: str, version: int) -> None:
        """Add a version to a list; a damaged one must not keep a bad model in service."""
        noted = {version}
        with suppress(RegistryError):
            noted |= {*self._versions_in(name)}
        self._write(name, sorted(noted))

    def _write(self, name: str, versions: Sequence[int]) -> None:
        write_atomically(self.folder / name, _to_json(versions))


def _forget_killed(folder: Path) -> None:
    """Delete versions that processes had begun to write when they were killed."""
    for aside in folder.glob(f"{_ASIDE}*"):
        if time.time() - aside.stat().st_mtime > LEFTOVER_S:
            shutil.rmtree(aside, ignore_errors=True)


def _appear(aside: Path, place: Path) -> bool:
    """Rename a folder; tell whether the place was free."""
    try:
        aside.rename(place)  # fails if there is a folder that is not empty
    except OSError:
        if place.exists():
            return False
        raise
    return True


def _read_card(path: Path) -> ModelCard:
    try:
        card = ModelCard(**json.loads(path.read_text()))
        return replace(card, materials=tuple(card.materials), pictures=tuple(card.pictures))
    except FileNotFoundError:
        raise RegistryError(f"there is no version {path.parent.name}") from None
    except (OSError, ValueError, TypeError) as error:
        raise RegistryError(f"{path} cannot be read: {error}") from None


def _to_json(value: object) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
