"""The labeling config that Label Studio shows, and what the guide reads from it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface
from skimage.color import rgb2lab

from backend.annotation.label_config import (
    MATERIAL_HOTKEYS,
    MAX_CHARACTERS,
    MAX_DEPTH,
    LabelConfig,
    material_colors,
    parse_label_config,
    parse_material_colors,
    write_label_config,
)
from backend.errors import InvalidLabelConfigError

GATE = write_label_config(["Si", "Oxide", "Nitride", "Metal"])
LABEL_STUDIO_KEYS = set("behkmoprvwu") | {"shift+1", "shift+2", "shift+r", "[", "]"}
names = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=12).map(
    str.strip
)
material_lists = st.lists(names.filter(str.isprintable).filter(bool), min_size=2, unique=True)


def hotkeys(xml: str, control: str | None = None) -> list[str | None]:
    """List the hotkeys of the labels and choices, in order."""
    root = ElementTree.fromstring(xml)  # noqa: S314  # our own XML
    top = root if control is None else root.find(f".//*[@name='{control}']")
    return [tag.get("hotkey") for tag in top.iter() if tag.tag in {"Label", "Choice"}]


def lab(colors: list[str], *, opacity: float = 1.0, grey: float = 0.0) -> np.ndarray:
    """Lay colors over a grey and see them as the eye does (CIELAB)."""
    rgb = np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in colors])
    return rgb2lab((opacity * rgb + (1 - opacity) * grey)[np.newaxis])[0]


def test_materials_are_read_in_order():
    """The position of a material is its class."""
    assert parse_label_config(GATE) == LabelConfig(("Si", "Oxide", "Nitride", "Metal"), "image")


@given(material_lists)
def test_any_printable_name_survives_the_round_trip(materials):
    """Quotes, ampersands and angle brackets are escaped."""
    assert parse_label_config(write_label_config(materials)).materials == tuple(materials)


def test_label_studio_accepts_the_config():
    """The sdk, which validates as the server does, finds all six controls and the image."""
    interface = LabelInterface(GATE)
    interface.validate()

    assert {control.name for control in interface.controls} == {
        *("scribble", "seg", "uncertain", "ask", "status")
    }
    assert list(interface.get_control("seg").labels) == ["Si", "Oxide", "Nitride", "Metal"]


def test_image_may_have_another_key():
    """The task's data names the image as it likes."""
    assert parse_label_config(GATE.replace("$image", "$tem")).image_key == "tem"


def test_config_may_hold_more_than_the_guide_needs():
    """A text field of the project is none of our business."""
    more = GATE.replace("</View>\n</View>", '<TextArea name="note" toName="image"/></View></View>')

    assert more != GATE
    assert parse_label_config(more) == parse_label_config(GATE)


def test_every_missing_control_is_named():
    """One sentence is enough to repair the config."""
    with pytest.raises(InvalidLabelConfigError) as caught:
        parse_label_config('<View><Image name="image" value="$image"/></View>')

    for control in ("scribble", "seg", "uncertain", "ask", "status"):
        assert f'name="{control}"' in str(caught.value)
    assert "make_label_config.py" in str(caught.value)


@pytest.mark.parametrize(
    ("found", "replaced", "complaint"),
    [
        ('<BrushLabels name="seg"', '<BrushLabels name="masks"', 'name="seg"'),
        ('value="$image"', 'value="image.png"', 'value="\\$image"'),
        ('smart="true"', 'smart="false"', 'smart="true"'),
        ('"Update guide"', '"Go"', '"Update guide"'),
        ('"Finished GT"', '"Done"', '"Finished GT"'),
        ('value="Si" background="#e6194b" hotkey="1"', 'value="Gold"', "'Gold', 'Si' in only one"),
    ],
)
def test_unusable_control_is_named(found, replaced, complaint):
    """What the guide could not work with is refused when the config is read."""
    assert found in GATE

    with pytest.raises(InvalidLabelConfigError, match=complaint):
        parse_label_config(GATE.replace(found, replaced))


@pytest.mark.parametrize("xml", ["", "   ", "<View>", "no xml", "<a></b>", "\x00", "\ud800"])
def test_what_is_no_xml_is_refused(xml):
    """The message says so."""
    with pytest.raises(InvalidLabelConfigError, match="labeling config"):
        parse_label_config(xml)


@pytest.mark.parametrize(
    "dtd",
    [
        '<!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE b SYSTEM "http://127.0.0.1:9/outside.dtd">',
        '<!doctype b [<!ENTITY file SYSTEM "file:///etc/hostname">]>',
    ],
)
def test_document_type_is_refused(dtd):
    """No entity bomb, no file and no address is ever looked at."""
    with pytest.raises(InvalidLabelConfigError, match=r"document type|not XML"):
        parse_label_config(dtd + GATE)


def test_huge_config_is_refused():
    """It is not even parsed."""
    with pytest.raises(InvalidLabelConfigError, match="characters"):
        parse_label_config(" " * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize("deep", [MAX_DEPTH, 1000, 50_000])
def test_deep_config_is_refused(deep):
    """Whether the parser gives up or we do."""
    with pytest.raises(InvalidLabelConfigError, match=r"(?i)nested more than 64 deep|depth"):
        parse_label_config("<View>" * deep + GATE + "</View>" * deep)


def test_config_may_be_nested():
    """Far more than anybody does."""
    deep = MAX_DEPTH - 5
    assert parse_label_config("<View>" * deep + GATE + "</View>" * deep) == parse_label_config(GATE)


def test_complaint_about_many_labels_is_short():
    """It goes into logs and answers."""
    many = "".join(f'<Label value="M{number}"/>' for number in range(20_000))
    xml = GATE.replace('<Label value="Si"', f'{many}<Label value="Si"', 1)
    with pytest.raises(InvalidLabelConfigError, match="only one of") as caught:
        parse_label_config(xml)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("materials", "complaint"),
    [
        ([], "number of materials is 0, .* add one"),
        (["Si"], "number of materials is 1, .* add one"),
        (["Si", " "], "empty name"),
        (["Si", "Oxide", "Si "], "'Si' is named 2 times"),
        (["S\ni", "Oxide"], "unprintable"),
        ([f"M{index}" for index in range(255)], "255 materials, at most 254"),
    ],
)
def test_bad_materials_are_refused_with_a_sentence(materials, complaint):
    """The writer refuses what the reader could not read."""
    with pytest.raises(InvalidLabelConfigError, match=complaint):
        write_label_config(materials)


def test_config_with_one_material_is_refused():
    """A guide that knows one material has nothing to decide."""
    labels = re.compile(r'\s*<Label value="(Oxide|Nitride|Metal)".*')

    with pytest.raises(InvalidLabelConfigError, match="number of materials is 1"):
        parse_label_config(labels.sub("", GATE))


def test_config_with_a_repeated_material_is_refused():
    """Label Studio lets one save it; the classes would be ambiguous."""
    with pytest.raises(InvalidLabelConfigError, match="'Si' is named 2 times"):
        parse_label_config(GATE.replace('value="Oxide"', 'value="Si"'))


def test_first_materials_have_the_digits():
    """And the prompt has `u`."""
    assert hotkeys(GATE, "scribble") == ["1", "2", "3", "4"]
    assert hotkeys(GATE, "ask") == ["u"]


@pytest.mark.parametrize("count", [2, 4, 24, 25, 254])
def test_every_label_has_a_hotkey_of_its_own(count):
    """Label Studio gives a label without one a key of its tools, such as `e` for the eraser."""
    keys = hotkeys(write_label_config([f"M{index}" for index in range(count)]))

    assert None not in keys
    assert len(set(keys)) == len(keys)
    assert not (set(keys) - {"u"}) & LABEL_STUDIO_KEYS


def test_material_hotkeys_avoid_label_studios_tools():
    """Pressing a material never switches the tool."""
    assert not set(MATERIAL_HOTKEYS) & LABEL_STUDIO_KEYS


def test_254_materials_fit():
    """As many as a byte holds beside the mark for unlabeled."""
    materials = [f"M{index}" for index in range(254)]

    assert parse_label_config(write_label_config(materials)).materials == tuple(materials)


@pytest.mark.parametrize("grey", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_colors_stand_out_from_any_grey(grey):
    """Laid over the image at Label Studio's opacity of 0.6, none comes near a grey."""
    seen = lab(material_colors(254), opacity=0.6, grey=grey)

    assert np.hypot(seen[:, 1], seen[:, 2]).min() > 15


@pytest.mark.parametrize(("count", "difference"), [(8, 40), (24, 25), (254, 5)])
def test_colors_differ_from_one_another(count, difference):
    """A difference of 2 is just visible; usual projects have far more."""
    seen = lab(material_colors(count))
    differences = np.linalg.norm(seen[:, np.newaxis] - seen, axis=2)

    assert differences[~np.eye(count, dtype=bool)].min() > difference


def test_both_brushes_show_a_material_in_one_color():
    """A mask has the color of the scribbles it was learned from."""
    root = ElementTree.fromstring(GATE)  # noqa: S314  # our own XML
    colors = {
        name: [tag.get("background") for tag in root.findall(f".//*[@name='{name}']/Label")]
        for name in ("scribble", "seg")
    }

    assert colors["scribble"] == colors["seg"] == list(material_colors(4))


def test_colors_of_the_materials_are_read():
    """In the order of the classes."""
    assert parse_material_colors(GATE) == material_colors(4)


@pytest.mark.parametrize(
    ("background", "color"),
    [
        ("red", "#ff0000"),
        ("#0f0", "#00ff00"),
        ("rgba(0, 0, 255, 10)", "#0000ff"),
        ("no color", material_colors(1)[0]),
        ("", material_colors(1)[0]),
    ],
)
def test_color_may_be_written_in_any_way(background, color):
    """Label Studio takes what a browser takes; without one, ours is used."""
    xml = GATE.replace(f'background="{material_colors(1)[0]}"', f'background="{background}"')

    assert parse_material_colors(xml) == (color, *material_colors(4)[1:])
