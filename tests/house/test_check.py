"""`edged check` and `edged run` as an operator runs them: every mistake in one go, and nothing starts."""

import subprocess
import sys
from pathlib import Path

import pytest

MISTAKES = """\
[node]
nam = "one"
data_dir = "{root}/data"

[listen]
address = "here"
admin = "{root}/admin.sock"

[store]
url = "mysql:"

[capacity]
containers = -1

[securty]
insecure = true
"""
LINES = {
    2: "unknown key node.nam (did you mean name?)",
    6: "listen.address: host:port was expected, not 'here'",
    10: "store.url: sqlite:, sqlite:PATH, redis://HOST:PORT/DB or mesh:NODE was expected, not 'mysql:'",
    13: "capacity.containers: a whole number from 0 to 4096 was expected, not -1",
    15: "unknown section [securty] (did you mean security?)",
}


def edged(*args: str) -> subprocess.CompletedProcess[str]:
    """One run of the program, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "edged.cli", *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def both(file: Path) -> list[str]:
    """What `check` and `run` say about a bad file: the same, with exit 1 and nothing on stdout."""
    checked, run = edged("check", str(file)), edged("run", "--config", str(file))
    assert (checked.returncode, checked.stdout) == (1, "")
    assert (run.returncode, run.stdout, run.stderr) == (1, "", checked.stderr)
    return checked.stderr.splitlines()


def test_a_right_file_is_said_to_be_right(tmp_path: Path) -> None:
    """Exit 0 and one line; the file is looked at, nothing is made or started."""
    file = tmp_path / "edged.toml"
    file.write_text(f'[node]\nname = "one"\ndata_dir = "{tmp_path}/data"\n')
    done = edged("check", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{file}: ok\n", "")
    assert list(tmp_path.iterdir()) == [file]


def test_five_mistakes_are_five_lines_and_nothing_starts(tmp_path: Path) -> None:
    """All five are listed with file and line, by `check` and by `run`, and no directory is made."""
    file = tmp_path / "edged.toml"
    file.write_text(MISTAKES.format(root=tmp_path))
    assert both(file) == [f"{file}:{line}: {text}" for line, text in LINES.items()]
    assert list(tmp_path.iterdir()) == [file]


def test_toml_that_is_none_names_its_line(tmp_path: Path) -> None:
    """A syntax error is one line, with the line where it stands."""
    file = tmp_path / "edged.toml"
    file.write_text('[node]\nname = "one\n')
    (line,) = both(file)
    assert line.startswith(f"{file}:2: not TOML: ")


def test_bytes_that_are_no_text_are_said_to_be_none(tmp_path: Path) -> None:
    """A file in another encoding is one line, no traceback."""
    file = tmp_path / "edged.toml"
    file.write_bytes(b'[node]\nlabels = ["Stra\xdfe"]\n')
    (line,) = both(file)
    assert line.startswith(f"{file}:") and "not UTF-8" in line


@pytest.mark.parametrize(
    ("name", "problem"),
    [("missing.toml", "No such file or directory"), (".", "Is a directory")],
    ids=["missing", "directory"],
)
def test_what_is_no_file_is_named(tmp_path: Path, name: str, problem: str) -> None:
    """A file that is not there, or is a directory, is one line with its name."""
    assert both(tmp_path / name) == [f"{tmp_path / name}: {problem}"]
