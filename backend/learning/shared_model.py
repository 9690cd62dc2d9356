"""The published shared model, as a project needs it: its materials, in its order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock

from backend.errors import RegistryError
from backend.learning import networks
from backend.learning.registry import ModelCard, Registry


@dataclass(frozen=True)
class SharedModel:
    """A network trained on finished ground truth; it is only read, so guides may share it."""

    card: ModelCard
    network: networks.SharedNetwork
    """(N, 1, H, W) -> (N, C, H, W), in the order of `card.materials`; in evaluation mode."""

    def for_materials(self, materials: Sequence[str]) -> SharedModel:
        """The same model for some of its materials, in any order; it shares all other weights.

        Raises:
            RegistryError: It has not learned one of them.
        """
        if tuple(materials) == self.card.materials:
            return self
        unknown = [name for name in materials if name not in self.card.materials]
        if unknown:
            raise RegistryError(
                f"shared model {self.card.name} knows {', '.join(self.card.materials)} but not "
                f"{', '.join(unknown)}: guides start without it"
            )
        rows = [self.card.materials.index(name) for name in materials]
        network = networks.SharedNetwork(len(rows), "random")
        weights = dict(self.network.state_dict())
        for name in networks.SHARED_HEAD:
            weights[name] = weights[name][rows]
        network.load_state_dict(weights, assign=True)  # no copies
        return SharedModel(replace(self.card, materials=tuple(materials)), network.eval())


class PublishedModel:
    """Hands out the published model, and reads it again when another is published."""

    def __init__(self, registry: Registry) -> None:
        """Take a registry; nothing is read yet."""
        self._registry = registry
        self._lock = Lock()
        self._models: dict[tuple[str, ...], SharedModel] = {}  # of one version, by materials

    @property
    def version(self) -> int:
        """Of the model that serves now; 0 before the first is published, or if none can be read."""
        try:
            card = self._registry.published()
        except RegistryError:
            return 0
        return card.version if card else 0

    @property
    def is_none(self) -> bool:
        """Whether none serves, as before the first; not if it cannot be read which one does."""
        try:
            return self._registry.published() is None
        except RegistryError:
            return False

    def get(self, materials: Sequence[str]) -> SharedModel | None:
        """The model that serves now, for these materials; None before the first is published.

        Raises:
            RegistryError: It cannot be read, or has not learned one of the materials.
        """
        with self._lock:
            card = self._registry.published()
            if card is None:
                return None
            if any(model.card.version != card.version for model in self._models.values()):
                self._models.clear()
            wanted = tuple(materials)
            if wanted not in self._models:
                self._models[wanted] = self._whole(card).for_materials(wanted)
            return self._models[wanted]

    def _whole(self, card: ModelCard) -> SharedModel:
        """The model with all its materials, read once."""
        if card.materials not in self._models:
            device = networks.fastest_device()
            self._models[card.materials] = SharedModel(card, self._registry.load(card).to(device))
        return self._models[card.materials]
