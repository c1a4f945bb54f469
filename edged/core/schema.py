"""Tables of settings: what a TOML file may say, checked whole, every mistake with its line (DESIGN §9).

Decides whether a file is right; refuses to know what the settings mean. tomllib gives no line numbers, so
a small scan of the text finds where a key stands.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

Parser = Callable[[Any], Any]

_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_TIMES = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SECTION = re.compile(r"\s*\[\s*([A-Za-z0-9_.-]+)\s*\]")
_ASSIGNMENT = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")


class Mistakes(Exception):
    """What is wrong with a file: `rows` of (line, text), `lines` ready to print."""

    def __init__(self, rows: list[tuple[int, str]], name: str = "") -> None:
        self.rows = sorted(rows)
        prefix = f"{name}:" if name else "line "
        self.lines = [f"{prefix}{line}: {text}" for line, text in self.rows]
        super().__init__("; ".join(self.lines))


class Field(NamedTuple):
    """One setting: its parser, which raises ValueError, and its default (REQUIRED for none)."""

    parse: Parser
    default: Any


REQUIRED = object()
Schema = Mapping[str, Mapping[str, Field]]
"""Settings by section. Of a section named `clients.*` there are as many as the file has: [clients.cars], [clients.arms]."""

FAMILY = ".*"


def size(value: Any) -> int:
    """`"128MiB"` or a number of bytes."""
    return int(_quantity(value, _SIZES, "a size such as 128MiB"))


def seconds(value: Any) -> float:
    """`"2s"`, `"250ms"` or a number of seconds."""
    return _quantity(value, _TIMES, "a time such as 2s")


def some(parse: Parser) -> Parser:
    """A size or a time that is not 0."""

    def checked(value: Any) -> Any:
        quantity = parse(value)
        if not quantity:
            raise ValueError(f"more than 0 was expected, not {value!r}")
        return quantity

    return checked


def _quantity(value: Any, units: Mapping[str, float], what: str) -> float:
    if type(value) in (int, float) and value >= 0:
        return float(value)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", value) if type(value) is str else None
    if match is None or match[2] not in units:
        raise ValueError(f"{what} was expected, not {value!r}")
    return float(match[1]) * units[match[2]]


def text(value: Any) -> str:
    """Any string."""
    if type(value) is not str:
        raise ValueError(f"a string was expected, not {value!r}")
    return value


def boolean(value: Any) -> bool:
    """true or false."""
    if type(value) is not bool:
        raise ValueError(f"true or false was expected, not {value!r}")
    return value


def whole(low: int, high: int) -> Parser:
    """An integer between two others."""

    def parse(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high} was expected, not {value!r}")
        return value

    return parse


def real(low: float, high: float) -> Parser:
    """A number between two others."""

    def parse(value: Any) -> float:
        if type(value) not in (int, float) or not low <= value <= high:
            raise ValueError(f"a number from {low} to {high} was expected, not {value!r}")
        return float(value)

    return parse


def choice(*words: str) -> Parser:
    """One of a few words."""

    def parse(value: Any) -> str:
        if value not in words:
            near = _near(value, words)
            raise ValueError(f"one of {', '.join(words)} was expected, not {value!r}{near}")
        return str(value)

    return parse


def many(one: Parser) -> Parser:
    """A list without repetitions."""

    def parse(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise ValueError(f"a list was expected, not {value!r}")
        items = tuple(one(item) for item in value)
        if len(set(items)) != len(items):
            raise ValueError("something stands in the list twice")
        return items

    return parse


def many_or_one(one: Parser) -> Parser:
    """One value for all, or a list of them in which repetitions are welcome."""

    def parse(value: Any) -> tuple[Any, ...]:
        return tuple(one(item) for item in (value if type(value) is list else [value]))

    return parse


def _near(word: Any, words: Any) -> str:
    close = difflib.get_close_matches(str(word), list(words), 1, 0.5)  # short words: one letter is much of them
    return f" (did you mean {close[0]}?)" if close else ""


Values = dict[str, dict[str, Any]]
Contradiction = tuple[str, str, str]
"""Section, key, and what is wrong between it and others."""


def read(
    source: str, schema: Schema, name: str = "", contradictions: Callable[[Values], Iterable[Contradiction]] = lambda _: ()
) -> Values:
    """Every section and setting of `schema` with its value or default. Raises Mistakes, those that `contradictions` finds
    between values included; a value that is wrong itself has its default there, one that is missing None."""
    try:
        data = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"line (\d+)", str(error))
        line = int(at[1]) if at else source.count("\n") + 1
        raise Mistakes([(line, f"not TOML: {error}")], name) from None
    where = _locate(source)
    data, schema = _families(data, schema)
    wrong: list[tuple[int, str]] = []
    result: Values = {}
    for section in data:
        if section not in schema:
            members = [line for (name, _), line in where.items() if name.startswith(f"{section}.")]
            line = where.get((section, ""), where.get(("", section), min(members, default=1)))
            wrong.append((line, f"unknown section [{section}]{_near(section, schema)}"))
    for section, fields in schema.items():
        given = data.get(section, {})
        if type(given) is not dict:
            wrong.append((where.get(("", section), 1), f"{section} is a section: [{section}]"))
            given = {}
        result[section] = _section(section, fields, given, where, wrong)
    for section, key, text_ in contradictions(result):
        wrong.append((where.get((section, key), where.get((section, ""), 1)), f"{section}.{key}: {text_}"))
    if wrong:
        raise Mistakes(wrong, name)
    return result


def _families(data: dict[str, Any], schema: Schema) -> tuple[dict[str, Any], Schema]:
    """Both with each member of a family as a section of its own."""
    flat, sections = dict(data), {name: fields for name, fields in schema.items() if not name.endswith(FAMILY)}
    for name in schema.keys() - sections.keys():
        head = name.removesuffix(FAMILY)
        members = flat.pop(head, {})
        if type(members) is not dict or any(type(member) is not dict for member in members.values()):
            members = {"": members}
        for member, given in members.items():
            flat[f"{head}.{member}"], sections[f"{head}.{member}"] = given, schema[name]
    return flat, sections


def _section(
    section: str,
    fields: Mapping[str, Field],
    given: Mapping[str, Any],
    where: Mapping[tuple[str, str], int],
    wrong: list[tuple[int, str]],
) -> dict[str, Any]:
    head = where.get((section, ""), 1)
    for key in given:
        if key not in fields:
            hint = _near(key, fields)
            wrong.append((where.get((section, key), head), f"unknown key {section}.{key}{hint}"))
    values: dict[str, Any] = {}
    for key, field in fields.items():
        values[key] = None if field.default is REQUIRED else field.default
        if key not in given:
            if field.default is REQUIRED:
                wrong.append((head, f"{section}.{key} is missing"))
            continue
        try:
            values[key] = field.parse(given[key])
        except ValueError as error:
            wrong.append((where.get((section, key), head), f"{section}.{key}: {error}"))
    return values


def locate(source: str) -> Mapping[tuple[str, str], int]:
    """The line of every (section, key), and of every section as (section, "")."""
    return _locate(source)


def _locate(source: str) -> dict[tuple[str, str], int]:
    where: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(source.splitlines(), 1):
        if head := _SECTION.match(line):
            section = head[1]
            where.setdefault((section, ""), number)
        elif assignment := _ASSIGNMENT.match(line):
            where.setdefault((section, assignment[1]), number)
    return where
