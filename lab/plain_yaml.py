"""Reads YAML as plain data, exactly as it is written, or raises an error of one sentence.

YAML 1.1 can build objects and refer back to itself a billion times, and it reads 010 as 8 and 1:30
as 90. Parameter files need none of this. Events are checked one by one before any value is built,
so nothing hostile or misread is ever constructed.
"""

import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

import yaml

from lab.arguments import called, is_text, shorten

LONGEST = 100_000  # characters; parameters fit on a page, and pyyaml takes a second for this many
DEEPEST = 8  # levels of nested lists and maps

TAG = "tag:yaml.org,2002:"
PLAIN_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
PLAIN_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
MOST_DIGITS = 400  # Python reads no more than 4,300; a float ends at 309


class PlainError(ValueError):
    """A text is not plain YAML; the message is one sentence with the place and the remedy."""


class EmptyError(PlainError):
    """A text is empty or holds only comments."""


class _Loader(yaml.SafeLoader):
    """pyyaml's safe loader, except that dates are text, as in papermill."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (that of the class above, less one entry)
        first: [each for each in resolvers if each[0] != f"{TAG}timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def load(text: str, label: str) -> Any:
    """The value of a YAML text: maps with text as keys, lists, text, finite numbers, bools, None.

    Args:
        text: one document.
        label: name of the text in errors, such as the name of its file.

    Raises:
        EmptyError: the text is empty.
        PlainError: the text is too long, is not YAML, holds more than one document, or is not
            plain. The latter means an anchor, an alias, a merge or a tag; a repeated key, or a key
            that is not text; a number that is not written in decimal; or nan or infinity.
    """
    if len(text) > LONGEST:
        raise PlainError(f"{label} holds more than {LONGEST} characters: it should fit on a page")
    try:
        return _Reader(text, label).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{label}, line {mark.line + 1}" if mark else label
        raise PlainError(f"{where}: {_problem(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise PlainError(
            f"{label}, line {line}: the character U+{int(error.character):04X} is not allowed in "
            "YAML: remove it, or save the file as UTF-8"
        ) from None


def load_map(text: str, label: str) -> dict[str, Any]:
    """`load` for a text that must be a map.

    Raises:
        PlainError: as in `load`, or the text is something else.
    """
    value = load(text, label)
    if not isinstance(value, dict):
        raise PlainError(
            f"{label} holds {shorten(value)} ({type(value).__name__}), and must be a map, of lines "
            "that read NAME: VALUE"
        )
    return value


class _Reader:
    """Builds one document from pyyaml's lazy events, and raises at the first that is not plain."""

    def __init__(self, text: str, label: str) -> None:
        self.loader = _Loader(text)
        self.label = label

    def document(self) -> Any:
        self.loader.get_event()
        if self.loader.check_event(yaml.StreamEndEvent):
            raise EmptyError(f"{self.label} is empty: write NAME: VALUE, or leave it out")
        self.loader.get_event()
        value = self.value(self.loader.get_event(), depth=0)
        self.loader.get_event()
        if not self.loader.check_event(yaml.StreamEndEvent):
            self.refuse(self.loader.peek_event(), "a second document begins: keep one")
        return value

    def value(self, event: yaml.Event, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            self.refuse(event, f"{sign}{event.anchor} refers to another place: write the value out")
        if event.tag is not None:
            self.refuse(event, f"the tag {shorten(event.tag)} is not allowed: write a plain value")
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event)
        if depth == DEEPEST:
            self.refuse(event, f"more than {DEEPEST} lists or maps inside one another")
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(depth)
        return self.mapping(depth)

    def sequence(self, depth: int) -> list[Any]:
        values = []
        while not isinstance(event := self.loader.get_event(), yaml.SequenceEndEvent):
            values.append(self.value(event, depth + 1))
        return values

    def mapping(self, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := self.loader.get_event(), yaml.MappingEndEvent):
            key = self.key(event, depth)
            if key in lines:
                self.refuse(
                    event, f"{called(key)} was given before, on line {lines[key]}: keep one"
                )
            lines[key] = event.start_mark.line + 1
            values[key] = self.value(self.loader.get_event(), depth + 1)
        return values

    def key(self, event: yaml.Event, depth: int) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self.value(event, depth + 1)  # errors inside the key are reported first
            self.refuse(event, "a key must be a name")
        key = self.value(event, depth)
        if not isinstance(key, str):
            kind = type(key).__name__
            self.refuse(event, f"the key {event.value} is read as {key} ({kind}): put it in quotes")
        return key

    def scalar(self, event: yaml.ScalarEvent) -> Any:
        tag = self.loader.resolve(yaml.ScalarNode, event.value, event.implicit).removeprefix(TAG)
        if tag in ("int", "float") and len(event.value) > MOST_DIGITS:
            self.refuse(event, f"a number of {len(event.value)} digits is too long")
        if tag == "int":
            return self.integer(event)
        if tag == "float":
            return self.number(event)
        if tag == "bool":
            return yaml.SafeLoader.bool_values[event.value.lower()]
        if tag == "null":
            return None
        if tag != "str":  # << and =
            self.refuse(event, f"{event.value} has a meaning of its own in YAML: put it in quotes")
        if not is_text(event.value):
            self.refuse(event, "half a character (a surrogate) stands here: write it whole")
        return event.value

    def integer(self, event: yaml.ScalarEvent) -> int:
        if not PLAIN_INT.fullmatch(event.value):
            self.misread(event, self.loader.construct_yaml_int)
        return int(event.value)

    def number(self, event: yaml.ScalarEvent) -> float:
        if not PLAIN_FLOAT.fullmatch(event.value) or not math.isfinite(float(event.value)):
            self.misread(event, self.loader.construct_yaml_float)
        return float(event.value)

    def misread(self, event: yaml.ScalarEvent, construct: Callable[[yaml.Node], float]) -> NoReturn:
        try:
            read = shorten(construct(yaml.ScalarNode("", event.value)))
        except ValueError:  # 0x_ is read as a number and has no digit
            read = "a number"
        self.refuse(event, f"YAML 1.1 reads {event.value[:80]} as {read}: {DECIMAL}")

    def refuse(self, event: yaml.Event, problem: str) -> NoReturn:
        raise PlainError(f"{self.label}, line {event.start_mark.line + 1}: {problem}")


DECIMAL = "write a finite decimal number, or put it in quotes if it is text"


def _problem(error: yaml.MarkedYAMLError) -> str:
    if "'\\t'" in str(error.problem):
        return "a tab stands where YAML wants spaces: replace it"
    context = f"{error.context}, " if error.context and error.problem else ""
    return " ".join(f"{context}{error.problem or error.context}: this is not YAML".split())
