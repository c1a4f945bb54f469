"""The documents: what they name is there, what they show can be run, and the map stays one page."""

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edged.core.manifest import SCHEMA, parse_manifest

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "configs/functions/README.md",
    "protocol/SPEC.md",
    "tools/bench/README.md",
)
PAGE = 60
"""Lines of ARCHITECTURE.md beside its diagram, which is made."""

LINK = re.compile(r"\]\(([\w./-]*)(?:#([\w-]+))?\)")
PATH = re.compile(r"`((?:configs|edged|protocol|systemd|tests|tools)/[\w./-]+)`")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of a document in that language."""
    return [text for kind, text in FENCE.findall((ROOT / document).read_text()) if kind == language]


def anchors(document: Path) -> set[str]:
    """What a link into a document can name: its headings, as renderers name them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_a_document_names_is_there(document: str) -> None:
    """Links lead to files and headings that exist, and paths from the top do."""
    file = ROOT / document
    text = FENCE.sub("", file.read_text())
    missing = [path for path in PATH.findall(text) if not (ROOT / path).exists()]
    for link, anchor in LINK.findall(text):
        target = file.parent / link if link else file
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(f"{link}#{anchor}")
    assert missing == []


def in_the_map() -> Iterator[tuple[str, str]]:
    """(folder, file) of the map of ARCHITECTURE.md: where to start reading."""
    for line in (ROOT / "ARCHITECTURE.md").read_text().split("\n\n")[1].splitlines()[2:]:
        _, where, _, start, _ = line.split("|")
        (folder,) = re.findall(r"`([\w/]+)`", where)
        yield from ((folder, file) for file in re.findall(r"`([\w./]+\.\w+)`", start))


@pytest.mark.parametrize(("folder", "file"), [*in_the_map()])
def test_reading_can_start_where_the_map_says(folder: str, file: str) -> None:
    """Each file in the map is in its folder, or at that path from the top."""
    assert (ROOT / folder / file).is_file() or (ROOT / file).is_file()


def test_the_map_is_one_page() -> None:
    """ARCHITECTURE.md stays what can be read at once: reference stands elsewhere."""
    text = FENCE.sub("", (ROOT / "ARCHITECTURE.md").read_text())
    assert len(text.splitlines()) <= PAGE


def test_make_targets_in_the_readmes_exist() -> None:
    """Every `make TARGET` of the documents is one of the Makefile."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for document in DOCUMENTS
        for target in re.findall(
            r"(?:`|^    )make ([\w-]+)", (ROOT / document).read_text(), re.MULTILINE
        )
    }
    assert named
    assert named <= targets


def test_the_figures_of_the_readme_are_those_that_were_measured() -> None:
    """Every number in its tables of costs stands in the benches' own, so that no new measurement leaves an old claim."""
    _, costs = (ROOT / "README.md").read_text().split("## What it costs\n")
    rows = "".join(re.findall(r"^\|.*\n", costs.split("\n## ")[0], re.MULTILINE))
    told = set(NUMBER.findall(rows))
    measured = set(NUMBER.findall((ROOT / "tools/bench/README.md").read_text()))
    assert told
    assert told - measured == set()


def test_the_examples_of_function_toml_are_the_defaults() -> None:
    """The reference of function.toml has every key, and says what a file of two lines gives."""
    (source,) = blocks("configs/functions/README.md", "toml")
    shown = tomllib.loads(source)
    assert {s: set(keys) for s, keys in shown.items()} == {
        s: set(keys) for s, keys in SCHEMA.items()
    }
    function = shown["function"]
    assert parse_manifest(source) == parse_manifest(
        f'[function]\nname = "{function["name"]}"\nentry = "{function["entry"]}"\n'
    )


def test_the_shown_code_is_python() -> None:
    """Python in the documents compiles, and the functions among it have handlers."""
    sources = [text for document in DOCUMENTS for text in blocks(document, "python")]
    functions: list[Any] = []
    for source in sources:
        code = compile(source, "document", "exec")
        if "edged.sdk" in source:
            scope: dict[str, object] = {}
            exec(code, scope)
            functions.append(scope["fn"])
    assert [fn.default for fn in functions] == ["sample", "incr"]


def commands() -> list[str]:
    """The commands of the README that need no mesh and no time; scenarios are played in tests/lab."""
    text = (ROOT / "README.md").read_text()
    return re.findall(r"^    \.venv/bin/(edged plan .*?)(?:\s+#.*)?$", text, re.MULTILINE)


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_runs(command: str) -> None:
    """What the README tells a stranger to type ends well and prints something."""
    done = subprocess.run(
        [sys.executable, "-m", "edged.cli", *shlex.split(command)[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
