"""Expressions of a recipe's ratios → values with first-order uncertainty.

Numbers, ids of measurements, + - * / ( ) and mean, min, max, abs; nothing else is understood, and
nothing is ever handed to Python to run. An id that stands alone has one value; in mean, min and max
it has as many as were measured.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

FUNCTIONS = ("mean", "min", "max", "abs")
MAX_LENGTH = 500  # of the text: deeper nesting than that fills the parser's stack

Gradient: TypeAlias = dict[tuple[str, int], float]  # by id and number of its value


@dataclass(frozen=True)
class Uncertain:
    """A value and its standard uncertainty; None where that is not known."""

    value: float
    u: float | None = None


@dataclass(frozen=True)
class _Term:
    """A number and how it follows each measured value."""

    value: float
    gradient: Gradient = field(default_factory=dict)

    def scaled(self, factor: float) -> Gradient:
        """The gradient times a number."""
        return {name: factor * slope for name, slope in self.gradient.items()}


@dataclass(frozen=True)
class Expression:
    """A parsed expression."""

    text: str
    ids: tuple[str, ...]  # in the order of the text
    single: frozenset[str]  # those that stand alone, and so need exactly one value
    _body: ast.expr = field(repr=False, compare=False)

    def evaluate(self, values: Mapping[str, Sequence[Uncertain]]) -> Uncertain:
        """Compute value and uncertainty; an id used twice is the same quantity both times.

        Args:
            values: What was measured, by id.

        Raises:
            ValueError: An id has no value, several where it stands alone, or zero divides.

        Example:
            >>> ratio = parse_expression("h / mean(w)")
            >>> ratio.evaluate({"h": [Uncertain(60, 3)], "w": [Uncertain(19), Uncertain(21)]})
            Uncertain(value=3.0, u=None)
        """
        term = _evaluate(self._body, values)
        if not math.isfinite(term.value):
            raise ValueError(f"{self.text} is {term.value}")
        squares = 0.0
        for (name, number), slope in term.gradient.items():
            u = values[name][number].u
            if u is None:
                return Uncertain(term.value)
            squares += (slope * u) ** 2
        return Uncertain(term.value, math.sqrt(squares))

    def check_is_ratio(self, powers: Mapping[str, int]) -> None:
        """Refuse an expression whose value would depend on the unit of length.

        Args:
            powers: Of each id's unit: 1 for lengths, 2 for areas, 0 for angles and ratios.

        Raises:
            ValueError: Lengths are left in the result, or added to something else.

        Example:
            >>> parse_expression("a * a / (b * c)").check_is_ratio({"a": 1, "b": 1, "c": 1})
        """
        power = _power(self._body, powers)
        if power:
            raise ValueError(f"it is in nm^{power}, a ratio has no unit: divide by a length")


def parse_expression(text: str) -> Expression:
    """Read an expression.

    Raises:
        ValueError: It holds anything but numbers, ids, + - * / ( ) and the four functions.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"it has {len(text)} characters, more than {MAX_LENGTH}")
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{text!r} is no expression: write for instance a / mean(b)") from None
    _check(body)
    names = [node for node in ast.walk(body) if isinstance(node, ast.Name)]
    called = {node.func for node in ast.walk(body) if isinstance(node, ast.Call)}
    places = {name.id: name.col_offset for name in reversed(names) if name not in called}
    if not places:
        raise ValueError(f"{text!r} names no measurement")
    ids = tuple(sorted(places, key=places.__getitem__))
    return Expression(text.strip(), ids, frozenset(_singles(body)), body)


_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _check(node: ast.expr) -> None:
    """Refuse what is not understood."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if not math.isfinite(value):
                raise ValueError(f"{ast.unparse(node)} is too large a number")
        case ast.Name():
            if node.id in FUNCTIONS:
                raise ValueError(f"{node.id} is a function: write {node.id}(...)")
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(operand)
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _OPERATORS:
            _check(left)
            _check(right)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            _check_call(name, arguments)
        case _:
            raise ValueError(f"{ast.unparse(node)!r} is not allowed: {_ALLOWED}")


_ALLOWED = "numbers, ids, + - * / ( ) and " + ", ".join(FUNCTIONS) + " are"


def _check_call(name: str, arguments: Sequence[ast.expr]) -> None:
    if name not in FUNCTIONS:
        raise ValueError(f"there is no function {name}: there are {', '.join(FUNCTIONS)}")
    if not arguments or (name == "abs" and len(arguments) > 1):
        raise ValueError(f"{name} of {len(arguments)} things: give it one")
    for argument in arguments:
        _check(argument)


def _singles(node: ast.expr) -> set[str]:
    """Ids that stand outside of mean, min and max, or within a sum or product in there."""
    match node:
        case ast.Name():
            return {node.id}
        case ast.Call(func=ast.Name(id=name), args=arguments):
            pooled = () if name == "abs" else [a for a in arguments if isinstance(a, ast.Name)]
            inner = [argument for argument in arguments if argument not in pooled]
            return set().union(*map(_singles, inner))
        case ast.UnaryOp(operand=operand):
            return _singles(operand)
        case ast.BinOp(left=left, right=right):
            return _singles(left) | _singles(right)
    return set()


def _evaluate(node: ast.expr, values: Mapping[str, Sequence[Uncertain]]) -> _Term:
    match node:
        case ast.Name():
            terms = _terms_of(node.id, values)
            if len(terms) != 1:
                raise ValueError(f"{node.id} has {len(terms)} values here: write mean({node.id})")
            return terms[0]
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _call(name, arguments, values)
        case ast.UnaryOp(op=op, operand=operand):
            term = _evaluate(operand, values)
            return _Term(-term.value, term.scaled(-1)) if isinstance(op, ast.USub) else term
        case ast.BinOp(op=op, left=left, right=right):
            return _combine(op, _evaluate(left, values), _evaluate(right, values))
        case ast.Constant(value=int() | float() as number):
            return _Term(float(number))
    raise AssertionError(ast.dump(node))  # `_check` let it pass


def _terms_of(name: str, values: Mapping[str, Sequence[Uncertain]]) -> list[_Term]:
    measured = values.get(name, ())
    if not measured:
        raise ValueError(f"{name} has no value")
    return [_Term(one.value, {(name, number): 1.0}) for number, one in enumerate(measured)]


def _combine(op: ast.operator, left: _Term, right: _Term) -> _Term:
    """A sum, difference, product or quotient, by the rules of differentiation."""
    if isinstance(op, ast.Div) and right.value == 0:
        raise ValueError("division by zero")
    value = _OPERATORS[type(op)](left.value, right.value)
    match op:
        case ast.Mult():
            slopes = right.value, left.value
        case ast.Div():
            slopes = 1 / right.value, -value / right.value
        case _:
            slopes = 1.0, (1.0 if isinstance(op, ast.Add) else -1.0)
    return _Term(value, _sum(left.scaled(slopes[0]), right.scaled(slopes[1])))


def _call(
    name: str, arguments: Sequence[ast.expr], values: Mapping[str, Sequence[Uncertain]]
) -> _Term:
    if name == "abs":
        term = _evaluate(arguments[0], values)
        return _Term(abs(term.value), term.scaled(math.copysign(1, term.value)))
    terms = [
        term
        for argument in arguments
        for term in (
            _terms_of(argument.id, values)
            if isinstance(argument, ast.Name)
            else [_evaluate(argument, values)]
        )
    ]
    if name == "mean":
        share = 1 / len(terms)
        return _Term(
            math.fsum(term.value for term in terms) * share,
            _sum(*(term.scaled(share) for term in terms)),
        )
    choose = min if name == "min" else max
    return choose(terms, key=lambda term: term.value)


def _sum(*gradients: Gradient) -> Gradient:
    names = {name: None for gradient in gradients for name in gradient}
    return {name: math.fsum(gradient.get(name, 0.0) for gradient in gradients) for name in names}


def _power(node: ast.expr, powers: Mapping[str, int]) -> int:
    """Power of length in the unit of a term.

    Raises:
        ValueError: Different units are added or compared.
    """
    match node:
        case ast.Name():
            return powers.get(node.id, 0)
        case ast.Call(args=arguments):
            return _same([_power(argument, powers) for argument in arguments], node)
        case ast.UnaryOp(operand=operand):
            return _power(operand, powers)
        case ast.BinOp(op=op, left=left, right=right):
            ours, theirs = _power(left, powers), _power(right, powers)
            if isinstance(op, ast.Mult | ast.Div):
                return ours + theirs if isinstance(op, ast.Mult) else ours - theirs
            return _same([ours, theirs], node)
    return 0


def _same(found: Sequence[int], node: ast.expr) -> int:
    if len(set(found)) > 1:
        raise ValueError(f"{ast.unparse(node)} mixes units: lengths, areas and bare numbers")
    return found[0]
