"""Reads protocol/vectors/*.json: recipes to bytes, and values between JSON and the wire (SPEC "Vectors")."""

import json
from pathlib import Path
from typing import Any

from edged_protocol import messages as m

FOLDER = Path(__file__).parents[2] / "protocol" / "vectors"
MESSAGES = {kind.__name__.upper(): kind for kind in m.TYPE_OF}


def load(name: str) -> list[dict[str, Any]]:
    """The entries of one file."""
    rows: list[dict[str, Any]] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return rows


def data_of(recipe: Any) -> bytes:
    """The bytes of a hex string, or of a list of hex strings and repetitions."""
    if isinstance(recipe, str):
        return bytes.fromhex(recipe)
    if isinstance(recipe, dict):
        return bytes.fromhex(recipe["repeat"]) * int(recipe["times"])
    return b"".join(map(data_of, recipe))


def value_of(shown: Any) -> Any:
    """A value as JSON shows it."""
    if isinstance(shown, list):
        return [value_of(item) for item in shown]
    if not isinstance(shown, dict):
        return shown
    if shown.keys() == {"hex"}:
        return bytes.fromhex(shown["hex"])
    if shown.keys() == {"repeat", "times"}:
        return data_of(shown)
    if shown.keys() == {"text", "times"}:
        return shown["text"] * shown["times"]
    if shown.keys() >= {"items", "times"}:
        return shown["items"] * shown["times"] + shown.get("then", [])
    return {key: value_of(item) for key, item in shown.items()}


def message_of(shown: dict[str, Any]) -> m.Message:
    """The message an entry describes by its fields' names."""
    fields = {name: value_of(item) for name, item in shown.items() if name != "type"}
    message: m.Message = MESSAGES[shown["type"]](**fields)
    return message
