"""What is fuzzed: each target takes bad input and may answer with a sentence, and nothing else."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz_corpus import SmallNetwork, card, changed, microscope_files, pictures, weights
from label_studio_stand_in import LABEL_CONFIG, draft, prompt, stroke
from small_recipe import SMALL

from backend.annotation.label_config import parse_label_config, parse_material_colors
from backend.annotation.rle import decode_mask, encode_mask
from backend.annotation.scribbles import rasterize, weak_labels
from backend.annotation.tasks import parse_task
from backend.errors import (
    InvalidImageError,
    InvalidLabelConfigError,
    InvalidTaskError,
    RecipeError,
    RegistryError,
)
from backend.learning.networks import load_weights
from backend.learning.registry import Registry
from backend.learning.spots import Spot
from backend.metrology.recipe_file import load_recipe
from backend.microscope.images import decode_image, gray_png, to_gray
from backend.microscope.importers import ImportOptions, import_file
from backend.state.store import GuideStore, StoredPrediction

RECIPES = Path(__file__).parents[1] / "backend" / "metrology" / "recipes"
_MAX_PX = 2**18  # of a mask that is painted here: more is time, not another case

_WORDS = ("", "0", "-1", "1e999", "nan", ".inf", "null", "true", "on", "010", "12:30", "[]", "{}",
          "[[[[", "{a: {a: {", "*a", "&a x", "!!python/object:os.system x", "'", '"', "\t", "|",
          "- -", "? ", "%", "@", "`", "\u2028", "\ufeff", "\x85", "9" * 400, "a" * 3000,
          "x/0", "mean()", "((((", "__import__('os')", "Si", "gate", "width")  # fmt: skip
_TAGS = ("<", ">", "/>", "</View>", "<View>", "<!--", "<![CDATA[", "<!DOCTYPE a>", "&lt;", "&#0;",
         "&x;", '"', "'", "=", "$image", 'name="scribble"', 'value="Si"', 'smart="true"', "\x00",
         "\ud800", "\ufffe", "<?xml?>", "xmlns:a='b'", "a:b=''", "<Label/>", "é", "")  # fmt: skip
_JUNK = (None, True, False, 0, -1, 1, 2**31, 2**63, 10**40, 1.5, 1e300, float("inf"), float("nan"),
         "", "0", "\ud800", "\0", "Si", "scribble", "a" * 5000, [], {}, [[]], [{}], {"a": [1]},
         [None, "", 3], {"\ud800": 1}, [0] * 300, {"rle": [1, 2]}, "add", "eraser")  # fmt: skip
Maker = Callable[[Random], Any]
"""Makes an input by chance: Python's own, or Hypothesis's, which then can simplify it."""


@dataclass(frozen=True)
class Target:
    """Something that reads input from outside."""

    make: Maker
    check: Callable[[Any], object]
    sentences: tuple[type[Exception], ...]  # how it may refuse


def by_change(files: Callable[[], Sequence[tuple[str, bytes]]]) -> Maker:
    """Change one of some files; an input is a name and the bytes."""
    originals: list[tuple[str, bytes]] = []

    def make(random: Random) -> tuple[str, bytes]:
        if not originals:
            originals.extend(files())
        name, content = random.choice(originals)
        return name, changed(content, random)

    return make


def by_editing(texts: Sequence[str], words: Sequence[str]) -> Maker:
    """Take a few pieces of a text out, double, replace or multiply them."""

    def make(random: Random) -> str:
        text = random.choice(texts)
        for _ in range(random.choice((1, 1, 1, 2, 3, 5))):
            start = random.randrange(len(text) + 1)
            piece = text[start : start + random.choice((0, 1, 2, 5, 20, 100))]
            put = random.choice(("", piece * 2, piece * 50, random.choice(words)))
            text = text[:start] + put + text[start + len(piece) :]
        return text

    return make


@lru_cache(maxsize=1)
def _streams() -> list[tuple[bytes, tuple[int, int]]]:
    """Real masks as RLE: stripes, noise, one pixel, all, none."""
    numbers = np.random.default_rng(0)
    masks = [np.eye(40) > 0, numbers.random((17, 33)) > 0.5, np.ones((1, 1)) > 0]
    masks += [np.full((64, 64), value) for value in (True, False)]
    masks += [np.arange(60 * 50).reshape(60, 50) % 7 < 3]
    return [(bytes(encode_mask(mask)), mask.shape) for mask in masks]  # type: ignore[misc]


def make_stream(random: Random) -> tuple[Any, tuple[int, int]]:
    """A brush RLE: a real one that was changed, the header of one with noise behind it, or junk."""
    content, shape = random.choice(_streams())
    kind = random.randrange(20)
    if kind == 0:
        return random.choice(_JUNK), shape
    if kind <= 5:
        return [*content[:7], *random.randbytes(random.randrange(120))], shape
    if kind == 6:
        return [*content[:9], random.choice(_JUNK), *content[9:]], shape
    if kind == 7:
        return list(content), (random.randrange(100), random.choice((0, 1, 40, 10**6)))
    return list(changed(content, random)), shape


def _decode(stream: tuple[Any, tuple[int, int]]) -> None:
    rle, shape = stream
    assert decode_mask(rle if isinstance(rle, list) else [rle], shape).shape == shape


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value)
    for step, inner in steps:
        yield (*at, step)
        if isinstance(inner, dict | list):
            yield from _places(inner, (*at, step))


@lru_cache(maxsize=1)
def _task() -> dict[str, Any]:
    mask = stroke("m", "Si", 5)
    mask["value"] = {"format": "rle", "brushlabels": ["Si"], "rle": encode_mask(np.eye(64) > 0)}
    drawn = draft(stroke("a", "Si", 20), stroke("b", "Oxide", 80), mask, prompt())
    submitted = {"id": 3, "completed_by": 1, "result": [stroke("c", "Si", 30)], "updated_at": ""}
    return {"id": 7, "project": 1, "data": {"image": "/data/upload/1/a.png"}, "drafts": [drawn],
            "annotations": [submitted], "predictions": []}  # fmt: skip


def make_task(random: Random) -> dict[str, Any]:
    """A task with a few of its values replaced, doubled or taken out."""
    task = copy.deepcopy(_task())
    for _ in range(random.choice((1, 1, 2, 3))):
        path = random.choice(list(_places(task)))
        place: Any = task
        for step in path[:-1]:
            place = place[step]
        kind = random.randrange(8)
        if kind == 0 and isinstance(place, dict):
            del place[path[-1]]
        elif kind == 1 and isinstance(place, list):
            place.append(copy.deepcopy(place[path[-1]]))
        elif kind <= 4:
            place[path[-1]] = copy.deepcopy(random.choice(_JUNK))
        else:
            place[path[-1]] = _number(random)
    return task


def _number(random: Random) -> Any:
    """Coordinates, widths and sizes, mostly possible ones."""
    return random.choice((
        random.uniform(-200, 300), random.uniform(-1e6, 1e6), random.randrange(-10, 70_000),
        random.randrange(200), [random.uniform(-100, 200) for _ in range(random.randrange(12))],
    ))  # fmt: skip


def _draw_strokes(body: dict[str, Any]) -> None:
    config = parse_label_config(LABEL_CONFIG)
    task = parse_task(body, config.image_key)
    annotation = task.newest_scribbled({"prompt1"})
    if annotation is None:
        return
    regions, _ = weak_labels(annotation.regions, config, {})
    shapes = {region.shape for region in regions if region.shape}
    if len(shapes) == 1 and np.prod(shape := shapes.pop()) <= _MAX_PX:
        assert rasterize(regions, config.materials, shape).shape == shape


def _configure(xml: str) -> None:
    parse_label_config(xml)
    parse_material_colors(xml)


@lru_cache(maxsize=1)
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def _read_recipe(text: str) -> None:
    path = _folder() / "recipe.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    load_recipe(path)


SMALL_RECIPE = SMALL + "  - {id: r, kind: ratio, expression: h / mean(cd)}\n"


def _recipe_texts() -> list[str]:
    """A small recipe, far oftener than the long one that is shipped."""
    return [*[SMALL_RECIPE] * 20, (RECIPES / "dram_gate.yaml").read_text("utf-8")]


def _look(file: tuple[str, bytes]) -> None:
    to_gray(decode_image(file[1]))
    gray_png(file[1])


def _import(file: tuple[str, bytes]) -> None:
    name, content = file
    path = _folder() / f"broken{Path(name).suffix}"
    path.write_bytes(content)
    import_file(path, ImportOptions(dataset="all"))


@lru_cache(maxsize=1)
def _state() -> tuple[Path, GuideStore, Registry]:
    folder = _folder()
    return folder, GuideStore(folder / "state"), Registry(folder / "models")


def _checkpoints() -> list[tuple[str, bytes]]:
    folder, store, _ = _state()
    label_map = (np.arange(64 * 64).reshape(64, 64) // 2048).astype(np.uint8)
    spots = (Spot(1, 2, 3, 4, 0.5, "Si or Oxide"),)
    store.save_prediction("7-a", StoredPrediction(label_map, np.ones((64, 64), np.float32), spots))
    prediction = folder / "state" / "tasks" / "7-a" / "prediction.npz"
    return [("weights", weights(folder)), ("card", card()), ("published", b"[1]"),
            ("prediction", prediction.read_bytes())]  # fmt: skip


def _restore(file: tuple[str, bytes]) -> None:
    (kind, content), (folder, store, registry) = file, _state()
    places = {
        "weights": folder / "broken.safetensors",
        "card": folder / "models" / "v0001" / "model.json",
        "published": folder / "models" / "published.json",
        "prediction": folder / "state" / "tasks" / "7-a" / "prediction.npz",
    }
    places[kind].parent.mkdir(parents=True, exist_ok=True)
    places[kind].write_bytes(content)
    if kind == "weights":
        load_weights(SmallNetwork(), places[kind])
    elif kind == "prediction":
        store.load_prediction("7-a")
    else:
        registry.cards()
        registry.published()


TARGETS = {
    "rle": Target(make_stream, _decode, (InvalidTaskError,)),
    "strokes": Target(make_task, _draw_strokes, (InvalidTaskError, InvalidImageError)),
    "configs": Target(by_editing([LABEL_CONFIG], _TAGS), _configure, (InvalidLabelConfigError,)),
    "recipes": Target(by_editing(_recipe_texts(), _WORDS), _read_recipe, (RecipeError,)),
    "pictures": Target(by_change(lambda: list(pictures().items())), _look, (InvalidImageError,)),
    "microscope": Target(
        by_change(lambda: list(microscope_files().items())), _import, (InvalidImageError, OSError)
    ),
    "checkpoints": Target(by_change(_checkpoints), _restore, (ValueError, RegistryError)),
}


def body_of(task: dict[str, Any], *, asks: bool) -> bytes:
    """The body of a `/predict`, whatever is in the task."""
    context = {"result": [prompt()]} if asks else None
    body = {"tasks": [task], "label_config": LABEL_CONFIG, "params": {"context": context}}
    return json.dumps(body).encode()
