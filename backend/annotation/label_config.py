"""Materials to Label Studio's labeling config (XML), and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from lxml import etree  # type: ignore[import-untyped]  # lxml ships no types
from numpy.typing import NDArray
from PIL import ImageColor
from scipy.spatial.distance import cdist
from skimage.color import hsv2rgb, rgb2lab

from backend.arrays import MAX_CLASSES
from backend.errors import InvalidLabelConfigError

IMAGE = "image"
SCRIBBLE = "scribble"  # what the annotator paints: the weak labels
SEG = "seg"  # what the guide paints: the masks to accept, edit or reject
UNCERTAIN = "uncertain"  # the boxes around the spots
ASK = "ask"  # the smart rectangle that calls the backend
STATUS = "status"

UNCERTAIN_LABEL = "Uncertain"
ASK_LABEL = "Update guide"
FINISHED_CHOICE = "Finished GT"
WEAK_CHOICE = "Weak labels only"

MATERIAL_HOTKEYS = "123456789acdfgijlnqstxyz"
"""Free in Label Studio 1.23: its tools own b e h k m o p r v w, the guide's prompt owns u."""

_MIN_MATERIALS = 2
MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 64
"""Of tags in tags; Label Studio's own examples have less than ten."""
_SHOWN = 5  # labels named in a complaint
_TAGS = {
    IMAGE: "Image",
    SCRIBBLE: "BrushLabels",
    SEG: "BrushLabels",
    UNCERTAIN: "RectangleLabels",
    ASK: "RectangleLabels",
    STATUS: "Choices",
}
_FIXED_LABELS = {UNCERTAIN: UNCERTAIN_LABEL, ASK: ASK_LABEL, STATUS: FINISHED_CHOICE}
_ADVICE = "write a config with scripts/make_label_config.py and save it as the labeling interface"

# Saturated, so that none looks like a grey of the image; neighbours in the list differ most.
_FIRST_COLORS = (
    "#e6194b", "#00b050", "#1f6fff", "#ffd500", "#d000ff", "#00d5e6", "#ff7f00", "#8a5a00",
    "#9dff00", "#ff8ad8", "#6a00d4", "#00805e",
)  # fmt: skip


@dataclass(frozen=True)
class LabelConfig:
    """What the guide needs to know of a project's labeling config."""

    materials: tuple[str, ...]  # the index in here is the class
    image_key: str = "image"  # where a task's data holds the image: "image" for value="$image"


def parse_label_config(xml: str) -> LabelConfig:
    """Read the materials and the image key from Label Studio's XML.

    Args:
        xml: The labeling config. A document type declaration, and so every entity, is refused.

    Returns:
        The materials in the order of the `scribble` labels.

    Raises:
        InvalidLabelConfigError: It is no XML, or lacks controls; the message names all of them.
    """
    tags = _named_tags(_parse_xml(xml))
    problems = [*_missing(tags), *_unusable(tags)]
    if problems:
        raise InvalidLabelConfigError(f"the labeling config {', '.join(problems)}: {_ADVICE}")
    materials = _labels(tags[SCRIBBLE])
    _check_materials(materials)
    return LabelConfig(materials, image_key=tags[IMAGE].get("value")[1:])


def parse_material_colors(xml: str) -> tuple[str, ...]:
    """Read the colors of the materials from a labeling config that `parse_label_config` accepts.

    Returns:
        One "#rrggbb" for each material, in their order; one of ours where the config has none.
    """
    scribble = _named_tags(_parse_xml(xml))[SCRIBBLE]
    labels = _label_tags(scribble)
    return tuple(
        _hex_color(label.get("background") or "", ours)
        for label, ours in zip(labels, material_colors(len(labels)), strict=True)
    )


def write_label_config(materials: Sequence[str]) -> str:
    """Write the labeling config for these materials.

    Args:
        materials: Names of the classes, in order; 2 to 254, all different, none empty.

    Returns:
        XML to save as the project's labeling interface.

    Raises:
        InvalidLabelConfigError: A name is empty, repeated or unprintable, or there are too few or
            too many.
    """
    names = tuple(name.strip() for name in materials)
    _check_materials(names)
    view = etree.Element("View", style="display:flex; gap:16px")
    left = etree.SubElement(view, "View", style="flex:1; min-width:0")  # all the width there is
    etree.SubElement(left, "Image", _image_attributes())
    labels = etree.SubElement(view, "View", style="flex:0 0 190px")
    _add_header(labels, "Scribble")
    _add_brush(labels, SCRIBBLE, names)
    _add_header(labels, "Ask the guide")
    _add_ask(labels)
    _add_header(labels, "Finished?")
    _add_status(labels)
    _add_header(labels, "Guide's answer")
    _add_uncertain(labels)
    _add_brush(labels, SEG, names)
    etree.indent(view, space="  ")
    return etree.tostring(view, encoding="unicode") + "\n"


def material_colors(count: int) -> tuple[str, ...]:
    """Choose different colors, each saturated enough to stand out from any grey.

    Args:
        count: How many, at most 254.

    Returns:
        Colors such as "#e6194b", the most different ones first.
    """
    return _far_colors()[:count]


def _parse_xml(xml: str) -> etree._Element:
    if len(xml) > MAX_CHARACTERS:
        raise InvalidLabelConfigError(
            f"the labeling config has {len(xml)} characters, at most {MAX_CHARACTERS} are read"
        )
    if "<!doctype" in xml.lower():  # entities, bombs and outside files all need one
        raise InvalidLabelConfigError(f"the labeling config declares a document type: {_ADVICE}")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, encoding="utf-8")
    try:
        root = etree.fromstring(xml.encode("utf-8", errors="replace"), parser)
    except etree.XMLSyntaxError as error:
        raise InvalidLabelConfigError(
            f"the labeling config is not XML ({error}): {_ADVICE}"
        ) from error
    _check_depth(root)
    return root


def _check_depth(root: etree._Element) -> None:
    level = [root]
    for _ in range(MAX_DEPTH):
        level = [child for tag in level for child in tag]
    if level:
        raise InvalidLabelConfigError(
            f"the labeling config has tags nested more than {MAX_DEPTH} deep: {_ADVICE}"
        )


def _named_tags(root: etree._Element) -> dict[str, etree._Element]:
    """Find the tags the guide knows, by name; one of another type does not count."""
    return {
        name: tag
        for tag in root.iter("*")
        if (name := tag.get("name")) in _TAGS and tag.tag.lower() == _TAGS[name].lower()
    }


def _labels(tag: etree._Element) -> tuple[str, ...]:
    """List the labels or choices of a control, by the name that results will carry."""
    return tuple(
        (child.get("alias") or child.get("value") or "").strip() for child in _label_tags(tag)
    )


def _label_tags(tag: etree._Element) -> list[etree._Element]:
    return [child for child in tag.iter("*") if child.tag.lower() in {"label", "choice"}]


def _hex_color(css: str, fallback: str) -> str:
    """Write a color as "#rrggbb", whether it has a name, a number or an opacity."""
    try:
        red, green, blue, *_ = ImageColor.getrgb(css)
    except ValueError:
        return fallback
    return f"#{red:02x}{green:02x}{blue:02x}"


def _missing(tags: Mapping[str, etree._Element]) -> Iterator[str]:
    for name, tag in _TAGS.items():
        if name not in tags:
            yield f'lacks <{tag} name="{name}">'
    for name, label in _FIXED_LABELS.items():
        if name in tags and label not in _labels(tags[name]):
            yield f'lacks "{label}" in <{_TAGS[name]} name="{name}">'


def _unusable(tags: Mapping[str, etree._Element]) -> Iterator[str]:
    if IMAGE in tags and not _is_variable(tags[IMAGE].get("value") or ""):
        yield 'needs value="$image" or another task variable in <Image name="image">'
    if ASK in tags and (tags[ASK].get("smart") or "").lower() != "true":
        yield 'needs smart="true" in <RectangleLabels name="ask">, or nothing calls the guide'
    if SCRIBBLE in tags and SEG in tags:
        yield from _different_materials(_labels(tags[SCRIBBLE]), _labels(tags[SEG]))


def _is_variable(value: str) -> bool:
    return value.startswith("$") and len(value) > 1


def _different_materials(scribble: Sequence[str], seg: Sequence[str]) -> Iterator[str]:
    only_one = sorted(set(scribble) ^ set(seg))
    if only_one:
        shown = ", ".join(map(repr, only_one[:_SHOWN])) + ", ..." * (len(only_one) > _SHOWN)
        yield f"has {shown} in only one of scribble and seg"


def _check_materials(materials: Sequence[str]) -> None:
    if len(materials) < _MIN_MATERIALS:
        raise InvalidLabelConfigError(
            f"the number of materials is {len(materials)}, the guide tells at least "
            f"{_MIN_MATERIALS} apart: add one"
        )
    if len(materials) > MAX_CLASSES:
        raise InvalidLabelConfigError(
            f"there are {len(materials)} materials, at most {MAX_CLASSES} fit: merge some"
        )
    if "" in materials:
        raise InvalidLabelConfigError("a material has an empty name: give it one or remove it")
    for name, count in Counter(materials).items():
        if count > 1:
            raise InvalidLabelConfigError(f"material {name!r} is named {count} times: keep one")
        if not name.isprintable():
            raise InvalidLabelConfigError(f"material {name!r} has an unprintable character in it")


def _image_attributes() -> dict[str, str]:
    # no smoothing: the annotator should see the pixels that are labeled
    return {
        "name": IMAGE,
        "value": "$image",
        "zoom": "true",
        "zoomControl": "true",
        "brightnessControl": "true",
        "contrastControl": "true",
        "smoothing": "false",
        # else the editor zooms a wide image by the width of its toolbar, and cuts its borders off
        "maxWidth": "calc(100% - 42px)",
    }


def _add_brush(view: etree._Element, control: str, materials: Sequence[str]) -> None:
    # smart="false": Label Studio otherwise shows an Auto-Detect brush that does nothing
    brush = etree.SubElement(view, "BrushLabels", name=control, toName=IMAGE, smart="false")
    brush.set("showInline", "false")
    for index, name in enumerate(materials):
        color, hotkey = _far_colors()[index], _hotkey(index, control)
        etree.SubElement(brush, "Label", value=name, background=color, hotkey=hotkey)


def _add_header(view: etree._Element, text: str) -> None:
    etree.SubElement(view, "Header", value=text, size="5")


def _add_ask(view: etree._Element) -> None:
    ask = etree.SubElement(view, "RectangleLabels", name=ASK, toName=IMAGE, smart="true")
    ask.attrib.update({"smartOnly": "true", "fillOpacity": "0.0", "strokeWidth": "1"})
    etree.SubElement(ask, "Label", value=ASK_LABEL, background="#000000", hotkey="u")


def _add_uncertain(view: etree._Element) -> None:
    boxes = etree.SubElement(view, "RectangleLabels", name=UNCERTAIN, toName=IMAGE, smart="false")
    etree.SubElement(
        boxes, "Label", value=UNCERTAIN_LABEL, background="#ff00ff", hotkey="alt+shift+u"
    )


def _add_status(view: etree._Element) -> None:
    status = etree.SubElement(
        view, "Choices", name=STATUS, toName=IMAGE, choice="single", showInLine="true"
    )
    etree.SubElement(status, "Choice", value=FINISHED_CHOICE, hotkey="alt+shift+e")
    etree.SubElement(status, "Choice", value=WEAK_CHOICE, hotkey="alt+shift+w")


def _hotkey(index: int, control: str) -> str:
    """Name a key for a material; every label needs one.

    Label Studio gives a label without a hotkey a free one of its choice, which may be `e` or `w`,
    the keys of its own eraser and magic wand. Beyond the keyboard the "key" is a number that no
    keyboard sends: it shows beside the label and keeps Label Studio from choosing.
    """
    if index < len(MATERIAL_HOTKEYS):
        key = MATERIAL_HOTKEYS[index]
        return key if control == SCRIBBLE else f"alt+shift+{key}"
    return f"№{index + 1}" if control == SCRIBBLE else f"№{index + 1}s"


@lru_cache
def _far_colors() -> tuple[str, ...]:
    """All colors there are, each the farthest to the eye from those before it."""
    first = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in _FIRST_COLORS])
    candidates = _saturated_colors()
    places = _lab(candidates)
    distances = cdist(places, _lab(first)).min(axis=1)
    colors = list(_FIRST_COLORS)
    while len(colors) < MAX_CLASSES:
        farthest = int(distances.argmax())
        colors.append("#{:02x}{:02x}{:02x}".format(*candidates[farthest]))
        distances = np.minimum(distances, np.linalg.norm(places - places[farthest], axis=1))
    return tuple(colors)


def _saturated_colors() -> NDArray[np.uint8]:
    """Colors of all hues, none near a grey, as red, green and blue. (N, 3)."""
    hues, saturations, values = np.linspace(0, 1, 90, endpoint=False), (0.65, 0.8, 1), (0.6, 0.8, 1)
    hsv = np.stack(np.meshgrid(hues, saturations, values), axis=-1).reshape(1, -1, 3)
    return np.rint(hsv2rgb(hsv)[0] * 255).astype(np.uint8)


def _lab(rgb: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """CIELAB, where distances are differences to the eye. (N, 3) -> (N, 3)."""
    return rgb2lab(rgb[np.newaxis] / 255)[0]
