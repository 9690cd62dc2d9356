"""Lengths along v: heights and recesses, each end a level fitted to part of its plateau."""

from __future__ import annotations

from backend.metrology.bodies import Body, Level, UnmeasurableError
from backend.metrology.readings import Reading, Scene, Variant, hypot, worst
from backend.metrology.recipe import Height, Recess

_NEAR = 0.5  # of a width: how far beyond a wall the neighbour's wall may be


def measure_height(_: Scene, body: Body, rule: Height, __: Variant) -> dict[str, Reading]:
    """Top minus base."""
    base, top = body.plateau("base", rule.plateau), body.plateau("top", rule.plateau)
    u = sum(body.span("top", rule.plateau)) / 2
    return {"": _upward(body, [base, top], (base.v, top.v), u)}


def measure_recess(scene: Scene, body: Body, rule: Recess, _: Variant) -> dict[str, Reading]:
    """Level of one material within an instance minus the mean level of its neighbours."""
    part = scene.part_of(body, rule.top_of)
    left, right = body.span("top", rule.plateau)
    mean = part.mean("top", left, right)
    level = Level(mean.across, mean.u, mean.method, mean.quality, mean.flags)
    tops = [one.plateau("top", rule.plateau) for one in _neighbours(scene, body, rule.against)]
    if not tops:
        raise UnmeasurableError("no_neighbour")
    against = sum(top.v for top in tops) / len(tops)
    u_against = hypot(*(top.u for top in tops)) / len(tops)
    reading = _upward(body, [level, *tops], (against, level.v), (left + right) / 2)
    # a tilted frame lifts one neighbour and lowers the other: only two of them cancel that
    flags = reading.flags if len(tops) > 1 else (*reading.flags, "one_neighbour")
    return {"": Reading(**{**vars(reading), "u": hypot(level.u, u_against), "flags": flags})}


def _upward(body: Body, ends: list[Level], v: tuple[float, float], at_u: float) -> Reading:
    method, quality, flags = worst(ends)
    line = (body.frame.point(at_u, v[0]), body.frame.point(at_u, v[1]))
    u = hypot(*(end.u for end in ends))
    return Reading(v[1] - v[0], u, method=method, quality=quality, flags=flags, line=line)


def _neighbours(scene: Scene, body: Body, structure: str) -> list[Body]:
    """The instances right beside both walls of a body at its half height."""
    v = body.level(0.5)
    walls = body.walls_at(v)
    room = _NEAR * (walls[1] - walls[0])
    found = []
    for other in scene.bodies[structure]:
        try:
            left, right = other.walls_at(v)
        except UnmeasurableError:
            continue
        if min(abs(right - walls[0]), abs(left - walls[1])) < room:
            found.append(other)
    return found
