"""Results as text: aligned columns for people, one JSON document for programs (DESIGN §9).

Byte strings are hex in both. What a node sends is never trusted with the terminal.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def to_json(value: Any, indent: int | None = 2) -> str:
    """One JSON document; byte strings as hex, numbers JSON does not have as strings, what may drive a terminal escaped."""
    text = json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def printable(text: str) -> str:
    """`text` with control characters as escapes: a log line must not drive the terminal."""
    return "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in text)


def cell(value: Any) -> str:
    """One value in a table."""
    if value is None or value == {} or value == []:
        return "-"
    if isinstance(value, Mapping):
        if value.keys() == {"used", "total"}:
            return f"{value['used']}/{value['total']}"
        return " ".join(f"{key}={cell(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ",".join(cell(item) for item in value)
    return value if isinstance(value, str) else to_json(value, None)


def table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Aligned columns under their names; never cut, so that they can be copied."""
    lines = [[name.upper() for name in columns]]
    lines += [[printable(cell(row.get(name))) for name in columns] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def listing(row: Row) -> str:
    """One object, a line per field; a list of objects in it has a line for each of them."""
    width = max((len(key) for key in row), default=0)
    lines = []
    for key, value in row.items():
        several = isinstance(value, list) and value and isinstance(value[0], Mapping)
        for index, item in enumerate(value if several else [value]):
            label = "" if index else printable(key)
            lines.append(f"{label.ljust(width)}  {printable(cell(item))}")
    return "\n".join(lines)
