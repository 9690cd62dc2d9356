"""Edge tiers of an image: bodies as labels, probabilities and gray values show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from backend.metrology.bodies import Body, EdgeName, settled
from backend.metrology.contours import Field, label_field, probability_field
from backend.metrology.films import SeedGauge
from backend.metrology.frame import Frame
from backend.metrology.gray_edges import GrayImage, gray_curve
from backend.metrology.gray_films import GrayGauge
from backend.metrology.readings import FilmGauge, Scene
from backend.metrology.recipe import InterfaceBase, Recipe, StructureRule
from backend.metrology.results import Tier
from backend.metrology.seeds import Seeding, seed_body
from backend.metrology.structures import Instance, piece_of
from backend.metrology.subject import Subject

EDGES: tuple[EdgeName, ...] = ("left", "right", "base", "top")


@dataclass(frozen=True)
class Source:
    """What a body is made of, and what its base is."""

    materials: tuple[str, ...]
    base: Literal["plateau", "lowest", "cut"]
    under: str | None = None  # material that the base touches
    bases: tuple[Body, ...] = ()  # whose bases make the cut it stands on

    @classmethod
    def of_rule(cls, rule: StructureRule, bases: tuple[Body, ...] = ()) -> Source:
        """What a recipe says of a structure."""
        if isinstance(rule.base, InterfaceBase):
            return cls(rule.materials, "plateau", rule.base.interface_with, bases)
        return cls(rule.materials, "cut" if rule.base == "cut" else "plateau", None, bases)


@dataclass(frozen=True)
class Tiers:
    """Sees one image by the tiers that a recipe prefers and that the image has."""

    subject: Subject
    recipe: Recipe
    frame: Frame
    classes: Mapping[str, int]  # index of each material
    gray: GrayImage | None = None
    _fields: dict[tuple[str, ...], Field] = field(default_factory=dict, repr=False)

    @property
    def order(self) -> tuple[Tier, ...]:
        """The tiers in use, the best one first."""
        has = {
            "gray": self.gray is not None,
            "prob": self.subject.probabilities is not None,
            "label": True,
        }
        return tuple(tier for tier in self.recipe.edges.prefer if has[tier])

    @property
    def _u_place_px(self) -> float:
        """How well a hand places edges; a model has none, its runs tell how wrong it is."""
        return 0.0 if self.subject.is_inferred else self.recipe.edges.u_place_px

    def field_of(self, materials: Sequence[str], tier: Tier) -> Field:
        """Zero on the outline of some materials. (H, W)."""
        key = (tier, *sorted(materials))
        if key not in self._fields:
            classes = [self.classes[name] for name in materials]
            probabilities = self.subject.probabilities
            self._fields[key] = (
                probability_field(probabilities, classes)
                if tier == "prob" and probabilities is not None
                else label_field(self.subject.label_map, classes)
            )
        return self._fields[key]

    def body(self, instance: Instance, source: Source) -> Body:
        """An instance as all tiers in use show it.

        Raises:
            UnmeasurableError: It has no base or no top.
        """
        tiers: list[Tier] = [tier for tier in self.order if tier != "gray"] or ["label"]
        by_tier: dict[Tier, Body] = {tier: self._seed(instance, source, tier) for tier in tiers}
        seed = by_tier["prob" if "prob" in by_tier else tiers[0]]
        curves = {
            name: tuple(
                gray_curve(self.gray, seed.seed[name], name)
                if tier == "gray" and self.gray is not None
                else by_tier[tier].seed[name]
                for tier in self.order
            )
            for name in EDGES
        }
        return settled(replace(seed, curves=curves, bases=source.bases), source.base)

    def label_body(self, instance: Instance, source: Source) -> Body:
        """An instance as labels alone show it.

        Raises:
            UnmeasurableError: It has no base or no top.
        """
        body = self._seed(instance, source, "label")
        return settled(replace(body, bases=source.bases), source.base)

    def _seed(self, instance: Instance, source: Source, tier: Tier) -> Body:
        seeding = Seeding(
            self.frame,
            "prob" if tier == "prob" else "label",
            self._u_place_px,
            self.subject.label_map,
            self.subject.is_draw,
        )
        under = None if source.under is None else [self.classes[source.under]]
        return seed_body(seeding, instance, self.field_of(source.materials, tier), under)

    def scene(
        self, bodies: Mapping[str, Sequence[Body]], nm_per_px: float | None, *, is_label: bool
    ) -> Scene:
        """All bodies, and what measures their films and pieces."""
        seeds = [tier for tier in self.order if tier != "gray"]
        tier: Tier = "label" if is_label or not seeds else seeds[0]
        seed_gauge = SeedGauge(
            tier,
            lambda materials: self.field_of(materials, tier),
            self.classes,
            self.subject.label_map,
            self._u_place_px,
            self.subject.is_draw,
        )
        gauge: FilmGauge = seed_gauge
        if self.gray is not None and "gray" in self.order and not is_label:
            gauge = GrayGauge(seed_gauge, self.gray, self.classes)
        materials = {name: rule.materials for name, rule in self.recipe.structures.items()}

        def part_of(body: Body, material: str) -> Body:
            piece = piece_of(body.instance, self.subject.label_map, self.classes[material])
            source = Source((material,), "lowest")
            return self.label_body(piece, source) if is_label else self.body(piece, source)

        return Scene(self.frame, nm_per_px, bodies, materials, part_of, gauge, is_label=is_label)
