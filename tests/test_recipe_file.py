"""Recipe files: read, refused with every mistake at once, and told apart by their hash."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from small_recipe import SMALL

from backend.errors import RecipeError
from backend.metrology.recipe_file import (
    load_recipe,
    recipe_definition,
    recipe_hash,
    recipe_schema,
)
from backend.metrology.recipe_yaml import read_document

RECIPES = Path(__file__).parents[1] / "backend" / "metrology" / "recipes"
GATE, ACTIVE = RECIPES / "dram_gate.yaml", RECIPES / "dram_active.yaml"
GATE_LABELS = ("Si", "Oxide", "Metal", "Nitride", "Void")


@pytest.fixture
def written(tmp_path):
    """Write a recipe: SMALL with replacements."""

    def write(*replacements, text=SMALL):
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "r.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path, labels=None):
    """The lines of the error, without the folder."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, labels)
    return [line.removeprefix(f"{path.parent}/") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize("path", [GATE, ACTIVE])
def test_shipped_recipes_are_valid(path):
    """For people, and for editors by their schema."""
    assert load_recipe(path).name == path.stem
    schema = json.loads(recipe_schema())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(read_document(path.read_text("utf-8")).data)


def test_schema_refuses_what_the_loader_refuses(written):
    """An editor underlines a misspelled key, too."""
    validator = Draft202012Validator(json.loads(recipe_schema()))
    document = read_document(written(("fraction", "fractoin")).read_text())
    assert not validator.is_valid(document.data)


def test_labels_of_the_project_are_asked():
    """A material that nobody labels would never be found."""
    assert load_recipe(GATE, GATE_LABELS).version == 3
    (told,) = refusal(GATE, [*GATE_LABELS[:3], "Nitrides"])
    assert told.endswith(
        "materials.sp: the project has no label 'Nitride' (did you mean Nitrides?)"
    )


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("name: small", "nmae: small", "r.yaml:2: nmae: unknown key (did you mean name?)"),
        ("fraction: 0.5", "fraction: 1.5", "measurements[0].at.fraction: it should be less than"),
        (
            "fraction: 0.5",
            "sweep: {from: 0, to: 1, step: 0.1}",
            "from: it should be greater than 0",
        ),
        ("kind: height", "kind: pitch, at: {fraction: 1}", "at.fraction: it should be less than 1"),
        ("fraction: 0.5", "offset: 2", "measurements[0].at.offset: unknown key: it needs its unit"),
        ("fraction: 0.5", "offset: 2", "write offset_nm or offset_px"),
        ("fraction: 0.5", "fraction: yes", "it should be a valid number, not true"),
        ("fraction: 0.5", "fraction: '0.5'", "it should be a valid number, not '0.5'"),
        ("fraction: 0.5", "fraction: 5e-1", "r.yaml:8: measurements[0].at.fraction: 5e-1 is text"),
        ("fraction: 0.5", "fraction: null", "give one of fraction, offset_nm"),
        ("kind: height", "kind: hight", "there is no kind hight (did you mean height?)"),
        ("kind: height, ", "", "r.yaml:9: measurements[1]: kind is missing"),
        ("of: gate}", "of: gaet}", "there is no structure gaet (did you mean gate?)"),
        ("of: gate}", "of: gate, of: gate}", "measurements[1].of: the key stands in line 9"),
        ("interface_with: si", "interface_with: s", "there is no material s (did you mean si?)"),
        ("{interface_with: si}", "cut", "base: cut needs cut"),
        ("materials: [gate]", "materials: [gat]", "there is no material gat (did you mean gate?)"),
        ("id: h", "id: cd", "r.yaml:9: measurements[1].id: the id cd is taken"),
        ("id: h", "id: h-1", "String should match pattern"),
        ("target_nm: 20", "target_deg: 20", "width is in nm: write target_nm"),
        ("target_nm: 20", "target: 20", "width is in nm: write target_nm"),
        ("target_nm: 20", "target_nm: 20, usl_nm: 19", "usl_nm 19 is below target_nm 20"),
        ("target_nm: 20", "stat: max", "stat: max needs a sweep"),
        ("kind: height", "kind: sidewall_angle, usl_nm: 90", "is in deg: write usl_deg"),
        ("kind: height", "kind: area, usl_nm: 90", "area is in nm^2: leave it out"),
        ("kind: height", "kind: sidewall_angle, sides: []", "name left, right or both"),
        ("kind: height, of: gate", "kind: ratio, expr: cd / hh", "no measurement hh"),
        ("kind: height, of: gate", "kind: ratio, expr: cd / h", "h is computed later"),
        ("kind: height, of: gate", "kind: ratio, expr: cd - 1", "mixes units"),
        ("kind: height, of: gate", "kind: ratio, expr: cd.real", "is not allowed"),
        ("version: 1", "version: 1\nroi_fraction: [0, 0.9, 1, 0.1]", "it holds no pixel"),
        ("version: 1", "version: 1\nroi_fraction: [0, 0, 1]", "roi_fraction[3]: it is missing"),
        ("version: 1", "version: 1.5", "it should be a valid integer, not 1.5"),
        ("version: 1", "version: 1\nannotation: {u_max_nm: {cdd: 1}}", "(did you mean cd?)"),
        ("version: 1", "version: 1\nannotation: {u_max_deg: {cd: 1}}", "cd is in nm"),
        ("version: 1", "version: 1\nstructures: 3", "the key stands in line 4 already"),
        ("si: Si", "si: 2024-01-01", "materials.si: 2024-01-01 is no text to YAML"),
    ],
)
def test_mistakes_are_told(written, old, new, told):
    """Each with where it is and what to write instead."""
    assert any(told in line for line in refusal(written((old, new))))


def test_all_mistakes_are_told_in_one_pass(written):
    """Of form and of meaning, in the order of their lines, each once."""
    told = refusal(
        written(
            ("version: 1", "version: 1\non: true"),
            ("{materials: [gate]", "{materials: [gate], min_area: 3"),
            ("fraction: 0.5", "fraction: 2"),
            ("of: gate}", "of: gat}"),
        ),
        ["Si", "metal"],
    )
    assert [line.partition(": ")[0] for line in told] == [f"r.yaml:{n}" for n in (4, 5, 7, 9, 10)]


@pytest.mark.parametrize("kind", ["pitch", "space"])
def test_stacks_have_no_gaps_from_left_to_right(written, kind):
    """Each row of such a recipe would fail, on every image."""
    told = refusal(
        written(
            ("{materials: [gate]", "{order: top_to_bottom, materials: [gate]"),
            ("kind: height, of: gate", f"kind: {kind}, of: gate, at: {{fraction: 0.5}}"),
        )
    )
    assert f"measurements[1].of: {kind} goes from left to right" in told[0]


def test_structures_cannot_be_cut_in_a_circle(written):
    """Neither level would ever be known."""
    cut = "cut: {{level_of: {}, part: base, keep: above}}"
    gate, fin = cut.format("fin"), cut.format("gate")
    circle = f"gate: {{materials: [gate], {gate}}}\n  fin: {{materials: [si], {fin}}}"
    (told,) = refusal(written(("gate: {materials: [gate], base: {interface_with: si}}", circle)))
    assert "is a circle: each is cut at the level of the next" in told


def test_ratios_are_computed_in_order(written):
    """One may use another that stands above it."""
    text = "{{id: {}, kind: ratio, expr: {}}}"
    first, second = text.format("r", "cd / h"), text.format("s", "r * 100")
    both = "{id: h, kind: height, of: gate}\n  - "
    load_recipe(written(("{id: h, kind: height, of: gate}", f"{both}{first}\n  - {second}")))
    (told,) = refusal(written(("{id: h, kind: height, of: gate}", f"{both}{second}\n  - {first}")))
    assert "measurements[2].expr: r is computed later: move it further up" in told


def test_a_frame_that_is_not_measured_is_refused(written):
    """The words that there are stand in the sentence."""
    (told,) = refusal(written(("version: 1", "version: 1\nframe: {align: axis}")))
    assert "frame.align" in told
    assert "'interface', 'structure_axis', 'angle' or 'none'" in told


@pytest.mark.parametrize(
    "text", ["", "3", "[1]", "a: [", "measurements: 3\nstructures: [1]\nmaterials: []\nframe: 1"]
)
def test_what_is_no_recipe_is_refused(written, text):
    """With sentences, not a crash."""
    assert refusal(written(text=text))


def places(data, path=()):
    """All paths of plain data."""
    yield path
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from places(value, (*path, key))


ACTIVE_DATA = read_document(ACTIVE.read_text("utf-8")).data
JUNK = [
    None,
    True,
    0,
    -1.5,
    "",
    "si",
    "ratio",
    [],
    ["si", 3, None],
    [[]],
    {},
    {"from": {"kind": []}},
]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(st.sampled_from(list(places(ACTIVE_DATA))), st.sampled_from(JUNK))
def test_whatever_stands_anywhere_is_read_or_told(written, place, junk):
    """No form of mistake gets past the checks as a crash."""
    data = {"recipe": json.loads(json.dumps(ACTIVE_DATA))}
    *above, last = ("recipe", *place)
    holder = data
    for step in above:
        holder = holder[step]
    holder[last] = junk
    path = written(text=json.dumps(data["recipe"]))
    try:
        load_recipe(path)
    except RecipeError as error:
        told = str(error)
    else:
        return
    assert told.startswith(f"{path}:1: ")


def test_other_bytes_are_refused(tmp_path):
    """An image or another encoding given by mistake."""
    path = tmp_path / "r.yaml"
    path.write_bytes(b"name: a\nversion: \xff\xfe")
    assert refusal(path) == ["r.yaml:2: it is not in UTF-8: save it so"]
    path.write_bytes(b"a" * 1_100_000)
    assert "1100000 bytes" in refusal(path)[0]


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("target_nm: 20", "target_nm: 20.0", True),
        ("version: 1", "version: 1.0   # people's number", True),
        ("{id: h, kind: height, of: gate}", "{kind: height, of: gate, id: h}", True),
        ("name: small", "name: small\ndescription: what it is", True),
        ("name: small", "name: small\nannotation: {u_max_nm: {cd: 1}}", True),
        ("target_nm: 20", "target_nm: 21", False),
        ("fraction: 0.5", "fraction: 0.5, band: 0.04", False),  # the default, written out
        ("version: 1", "version: 2", False),
    ],
)
def test_hash_tells_what_steers_measuring(written, old, new, is_same):
    """Layout, prose and labeling tolerances do not fork results; all else does."""
    digits = recipe_hash(load_recipe(written()))
    assert len(digits) == 16
    assert (recipe_hash(load_recipe(written((old, new)))) == digits) is is_same


def test_hash_is_kept_over_releases(written):
    """Results stay joined to their recipe: a change of this number forks every database."""
    assert recipe_hash(load_recipe(written())) == "c86e08dcfe1369f6"


def test_definition_is_what_the_file_says(written, tmp_path):
    """Without defaults, and enough to read the same recipe again."""
    recipe = load_recipe(written())
    definition = recipe_definition(recipe)
    assert "window_px" not in definition
    again = tmp_path / "again.yaml"
    again.write_text(definition)  # JSON is YAML
    assert load_recipe(again) == recipe
    assert recipe_hash(load_recipe(again)) == recipe_hash(recipe)
