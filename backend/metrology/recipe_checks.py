"""Checks of a recipe that no single piece can make: names that must exist, units that must fit.

They work on plain data and pass over what has the wrong form, so that one reading tells these
mistakes together with those of form.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any

from backend.metrology.expressions import Expression, parse_expression
from backend.metrology.recipe_yaml import Mistake, Path
from backend.metrology.results import IN_NM, LENGTH_POWERS, unit_of_kind

ANY = "*"

_MATERIALS = (
    ("frame", "between", ANY),
    ("structures", ANY, "materials", ANY),
    ("structures", ANY, "base", "interface_with"),
    ("measurements", ANY, "film"),
    ("measurements", ANY, "between", ANY),
    ("measurements", ANY, "top_of"),
)
_STRUCTURES = (
    ("frame", "axis_of"),
    ("structures", ANY, "cut", "level_of"),
    ("measurements", ANY, "of"),
    ("measurements", ANY, "to"),
    ("measurements", ANY, "against"),
    ("measurements", ANY, "site", "structure"),
)
_SUFFIXES = {"nm": "_nm", "deg": "_deg", "ratio": ""}
_LIMITS = ("target", "lsl", "usl")


def check_recipe(data: Mapping[str, Any], labels: Sequence[str] | None) -> Iterator[Mistake]:
    """All that does not fit together in a recipe.

    Args:
        data: The recipe as it was read.
        labels: Those of the project; None: not known.
    """
    yield from _names(data)
    yield from _labels(data, labels)
    yield from _structures(data)
    yield from _axis(data)
    yield from _stacks(data)
    yield from _region(data)
    yield from _repeated_ids(data)
    for path, rule in _rules(data):
        yield from _limits(path, rule)
        yield from _rule(path, rule)
    yield from _ratios(data)
    yield from _annotation(data)


def hint(name: str, known: Iterable[str]) -> str:
    """The name that was probably meant, in brackets; else all that could be.

    Example:
        >>> hint("gaet", ["gate", "liner"])
        ' (did you mean gate?)'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1)
    if near:
        return f" (did you mean {near[0]}?)"
    return f" (there are {', '.join(names)})" if names else ""


def unit_of(kind: object) -> str:
    """Unit that limits of a kind are given in: nm, nm^2, deg or ratio."""
    return IN_NM[unit_of_kind(kind)]


def _names(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """Materials, structures and measurements that are spoken of and do not exist."""
    materials, structures = _mapping(data, "materials"), _mapping(data, "structures")
    for patterns, known, what in (
        (_MATERIALS, set(materials), "material"),
        (_STRUCTURES, set(structures), "structure"),
    ):
        for pattern in patterns:
            for path, name in find(data, pattern):
                if isinstance(name, str) and name not in known:
                    yield Mistake(path, f"there is no {what} {name}{hint(name, known)}")


def _annotation(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """Tolerances are for measurements that exist, in the unit of their value."""
    units = {str(rule.get("id")): unit_of(rule.get("kind")) for _, rule in _rules(data)}
    for key, unit in (("u_max_nm", "nm"), ("u_max_px", "nm"), ("u_max_deg", "deg")):
        for path, _ in find(data, ("annotation", key, ANY)):
            name = str(path[-1])
            if name not in units:
                yield Mistake(path, f"there is no measurement {name}{hint(name, units)}")
            elif units[name] != unit:
                yield Mistake(path, f"{name} is in {units[name]}, this tolerance in {key[6:]}")


def _labels(data: Mapping[str, Any], labels: Sequence[str] | None) -> Iterator[Mistake]:
    if labels is None:
        return
    for path, label in find(data, ("materials", ANY)):
        if isinstance(label, str) and label not in labels:
            yield Mistake(path, f"the project has no label {label!r}{hint(label, labels)}")


def _structures(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """A structure cannot be cut at the level of one that is cut at its own."""
    needs = {
        name: [level] if isinstance(level := _mapping(rule, "cut").get("level_of"), str) else []
        for name, rule in _mapping(data, "structures").items()
        if isinstance(rule, Mapping)
    }
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        circle = [str(name) for name in error.args[1]][::-1]
        text = f"{' -> '.join(circle)} is a circle: each is cut at the level of the next"
        yield Mistake(("structures", circle[0]), text)


def _stacks(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """Gaps are measured along the rows of the frame: in a stack there is no gap to the next."""
    structures = _mapping(data, "structures")
    for path, rule in _rules(data):
        name = str(rule.get("of"))
        order = _mapping(structures, name).get("order")
        if rule.get("kind") in ("pitch", "space") and order == "top_to_bottom":
            text = (
                f"{rule['kind']} goes from left to right, and {name} is ordered top_to_bottom: "
                "measure heights, or thicknesses of films"
            )
            yield Mistake((*path, "of"), text)


def _axis(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """A frame that follows structures has to find them first, and cannot tell how they lean."""
    frame = _mapping(data, "frame")
    if frame.get("align") != "structure_axis":
        return
    name = frame.get("axis_of")
    for path, rule in find(data, ("structures", str(name))):
        if isinstance(rule, Mapping) and rule.get("cut") is not None:
            text = (
                f"{path[-1]} is cut at a level, which needs a frame first: name another structure"
            )
            yield Mistake(("frame", "axis_of"), text)
    for path, rule in _rules(data):
        if rule.get("kind") == "tilt" and rule.get("quantity", "lean") == "lean":
            yield Mistake(path, "this frame leans with the structures: align another way for lean")


def _region(data: Mapping[str, Any]) -> Iterator[Mistake]:
    corners = data.get("roi_fraction")
    if not isinstance(corners, list) or len(corners) != 4:  # noqa: PLR2004  (x0, y0, x1, y1)
        return
    is_form_right = all(isinstance(corner, float | int) for corner in corners)
    if is_form_right and (corners[2] <= corners[0] or corners[3] <= corners[1]):
        text = "it holds no pixel: give x0, y0, x1, y1 with x0 < x1 and y0 < y1"
        yield Mistake(("roi_fraction",), text)


def _repeated_ids(data: Mapping[str, Any]) -> Iterator[Mistake]:
    seen: set[str] = set()
    for path, rule in _rules(data):
        name = rule.get("id")
        if isinstance(name, str) and name in seen:
            yield Mistake((*path, "id"), f"the id {name} is taken by an earlier measurement")
        elif isinstance(name, str):
            seen.add(name)


def _limits(path: Path, rule: Mapping[str, Any]) -> Iterator[Mistake]:
    """Limits must be in the unit of the value, and in order."""
    unit = unit_of(rule.get("kind"))
    suffix = _SUFFIXES.get(unit)
    for name in (f"{limit}{other}" for limit in _LIMITS for other in _SUFFIXES.values()):
        if name not in rule or (suffix is not None and name.partition("_")[2] == suffix[1:]):
            continue
        wanted = f"write {name.partition('_')[0]}{suffix}" if suffix is not None else "leave it out"
        yield Mistake((*path, name), f"{rule.get('kind')} is in {unit}: {wanted}")
    if suffix is None:
        return
    order = [f"lsl{suffix}", f"target{suffix}", f"usl{suffix}"]
    given = [name for name in order if isinstance(rule.get(name), float | int)]
    for lower, upper in pairwise(given):
        if rule[lower] > rule[upper]:
            yield Mistake((*path, upper), f"{upper} {rule[upper]} is below {lower} {rule[lower]}")


def _rule(path: Path, rule: Mapping[str, Any]) -> Iterator[Mistake]:
    """What a measurement says that cannot be meant."""
    if rule.get("stat") in ("min", "max") and "sweep" not in _mapping(rule, "at"):
        yield Mistake((*path, "at"), f"stat: {rule['stat']} needs a sweep of levels")
    sides = rule.get("sides")
    if isinstance(sides, list) and not 0 < len(sides) == len({str(side) for side in sides}):
        yield Mistake((*path, "sides"), "name left, right or both, each once")
    between = rule.get("between")
    if isinstance(between, list) and rule.get("film") in between:
        yield Mistake((*path, "between"), f"the film {rule['film']} cannot be its own neighbour")


def _ratios(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """Expressions, the measurements they name and the units they leave."""
    rules = list(_rules(data))
    powers = {
        str(rule.get("id")): LENGTH_POWERS[unit_of_kind(rule.get("kind"))] for _, rule in rules
    }
    below = {str(rule.get("id")) for _, rule in rules if "expr" in rule}  # not yet computed
    for path, rule in rules:
        text = rule.get("expr")
        if not isinstance(text, str):
            continue
        try:
            expression = parse_expression(text)
            yield from _unknown_ids(expression, powers, (*path, "expr"))
            for name in below & set(expression.ids):
                yield Mistake((*path, "expr"), f"{name} is computed later: move it further up")
            if powers.keys() >= set(expression.ids):
                expression.check_is_ratio(powers)
        except ValueError as error:
            yield Mistake((*path, "expr"), str(error))
        below.discard(str(rule.get("id")))


def _unknown_ids(expression: Expression, known: Mapping[str, int], path: Path) -> Iterator[Mistake]:
    for name in expression.ids:
        if name not in known:
            yield Mistake(path, f"there is no measurement {name}{hint(name, known)}")


def find(data: object, pattern: Sequence[str], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """All that stands where a pattern points, `ANY` for every key or item.

    Example:
        >>> list(find({"a": [{"b": 1}, {}]}, ("a", ANY, "b")))
        [(('a', 0, 'b'), 1)]
    """
    if not pattern:
        yield path, data
        return
    step, *rest = pattern
    if isinstance(data, Mapping):
        for key in data if step == ANY else [step] if step in data else []:
            yield from find(data[key], rest, (*path, key))
    elif isinstance(data, list) and step == ANY:
        for index, item in enumerate(data):
            yield from find(item, rest, (*path, index))


def _rules(data: Mapping[str, Any]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for path, rule in find(data, ("measurements", ANY)):
        if isinstance(rule, Mapping):
            yield path, rule


def _mapping(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}
