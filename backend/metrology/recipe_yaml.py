"""A recipe's text → plain data with the line of each piece, and what YAML would have hidden.

YAML keeps the last of two equal keys, reads `on` as true, `12:30` as 750, `010` as 8, and `1e-3` as
text, all without a word. In a recipe each of these is a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

Path: TypeAlias = tuple[str | int, ...]
Data: TypeAlias = "dict[str, Data] | list[Data] | str | int | float | bool | None"

_STR, _INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float"))
_BOOL, _NULL = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"
_PLAIN_NUMBER = re.compile(r"[-+]?(0|[1-9]\d*|\d*\.\d+|[1-9]\d*\.|0\.)([eE][-+]?\d+)?")
_MAX_NUMBER = 1e15
"""Whole numbers are kept to the last digit below; no length is larger."""


@dataclass(frozen=True)
class Mistake:
    """What is wrong, and where."""

    path: Path
    text: str
    line: int | None = None  # None: that of the path


@dataclass(frozen=True)
class Document:
    """What a YAML text holds."""

    data: Data
    lines: dict[Path, int]  # 1 is the first; of a key with its value, or of an item of a list
    mistakes: tuple[Mistake, ...]

    def line(self, path: Path) -> int:
        """Line of a path, or of what should hold it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_document(text: str) -> Document:
    """Read YAML; numbers that are whole become integers, so that 2.0 is 2.

    Example:
        >>> read_document("a: 2.0").data
        {'a': 2}
    """
    try:
        root = yaml.compose(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        return _nothing(f"it cannot be read as YAML: {problem}", mark.line + 1 if mark else 1)
    except RecursionError:
        return _nothing("it is nested too deeply to be a recipe", 1)
    if root is None:
        return _nothing("the file is empty", 1)
    reader = _Reader()
    data = reader.read(root, ())
    return Document(data, reader.lines, tuple(reader.mistakes))


class _Loader(yaml.SafeLoader):
    """Without aliases: they can hold themselves, and grow without bound."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Make a node of what comes next."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call] # PyYAML's
            problem = "an alias (*) hides what is meant, write it out"
            raise yaml.composer.ComposerError(None, None, problem, mark)
        return super().compose_node(parent, index)


def _nothing(text: str, line: int) -> Document:
    return Document(None, {}, (Mistake((), text, line),))


@dataclass
class _Reader:
    lines: dict[Path, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def read(self, node: yaml.Node, path: Path) -> Data:
        """What a node holds."""
        self.lines.setdefault(path, _line(node))
        if isinstance(node, yaml.MappingNode):
            return {key: self.read(value, (*path, key)) for key, value in self._items(node, path)}
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)  # noqa: S101  (there is no other kind)
        return self._scalar(node, path)

    def _items(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, yaml.Node]]:
        """Keys and values, without those that cannot be used."""
        first: dict[str, int] = {}
        for key, value in node.value:
            name, line = key.value, _line(key)
            if key.tag != _STR:
                told = f"{name} is no text to YAML: write '{name}' in quotes"
                text = told if isinstance(key, yaml.ScalarNode) else "a key must be a single word"
                self.mistakes.append(Mistake(path, text, line))
                continue
            place = (*path, name)
            if name in first:
                text = f"the key stands in line {first[name]} already: only one can count"
                self.mistakes.append(Mistake(place, text, line))
            else:
                first[name] = self.lines[place] = line
                yield name, value

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Data:
        text = str(node.value)
        if node.tag in (_INT, _FLOAT):
            return self._number(text, path)
        if node.tag == _STR:
            if node.style is None and _PLAIN_NUMBER.fullmatch(text):
                hint = f"{_with_point(text)}, or '{text}' if it is a name"
                self.mistakes.append(Mistake(path, f"{text} is text to YAML: write {hint}"))
            return text
        if node.tag == _BOOL:
            return text.lower() in ("yes", "true", "on")
        if node.tag != _NULL:
            self.mistakes.append(Mistake(path, f"{text} is no text to YAML: put it in quotes"))
            return text
        return None

    def _number(self, text: str, path: Path) -> Data:
        if not _PLAIN_NUMBER.fullmatch(text):
            problem = f"{text} is read differently by each YAML: write a plain decimal number"
            self.mistakes.append(Mistake(path, problem))
            return 0
        number = float(text)
        if abs(number) > _MAX_NUMBER:
            self.mistakes.append(Mistake(path, f"{text} is too large a number"))
            return 0
        return int(number) if number.is_integer() else number


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _with_point(text: str) -> str:
    """A number as YAML 1.1 reads it: with a point and a signed exponent.

    Example:
        >>> _with_point("1e-3"), _with_point("2.5e3")
        ('1.0e-3', '2.5e+3')
    """
    mantissa, _, exponent = text.lower().partition("e")
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{mantissa}e{exponent if exponent[:1] in ('-', '+') else f'+{exponent}'}"
