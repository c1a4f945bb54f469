"""The Makefile: its help is true, and its set-up works on a machine that has nothing yet."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FAKE_PYTHON = """\
#!/bin/sh
# Stands for Python: makes an environment whose pip takes notes and ends as it is told.
case "$*" in *ensurepip*) exit "$NO_ENSUREPIP" ;; esac
mkdir -p .venv/bin
printf '#!/bin/sh\\necho pip >> ran\\nexit %s\\n' "$PIP_EXIT" > .venv/bin/pip
chmod +x .venv/bin/pip
"""
FAKE_SETUP = '#!/bin/sh\necho "debian $*" >> ran\n'


def make(folder: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """One run of make, away from the one that may have started the tests."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        ["make", "--no-print-directory", *args],
        cwd=folder,
        env={**env, "NO_ENSUREPIP": "0", "PIP_EXIT": "0", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A checkout where nothing is installed, with stand-ins for Python and for apt."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    for name, text in (("python", FAKE_PYTHON), ("tools/setup/debian.sh", FAKE_SETUP)):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    return tmp_path


def ran(folder: Path) -> list[str]:
    """What the stand-ins noted."""
    notes = folder / "ran"
    return notes.read_text().splitlines() if notes.exists() else []


def test_help_names_every_target() -> None:
    """What `make help` lists is what there is."""
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    listed = re.findall(r"^make ([\w-]+)(?: |$)", make(ROOT, "help").stdout, re.MULTILINE)
    assert set(listed) == set(targets[1].split()) - {"help"}


@pytest.mark.parametrize(("args", "kept"), [((), False), (("KEEP=1",), True)])
def test_keep_reaches_the_demo(args: tuple[str, ...], kept: bool) -> None:
    """`make demo KEEP=1` leaves the mesh up, `make demo` does not; the program it starts is there."""
    shown = make(ROOT, "--dry-run", "demo", "PYTHON=python3", *args)
    assert shown.returncode == 0
    (program,) = (line for line in shown.stdout.splitlines() if "tools/demo/run.py" in line)
    assert ("--keep" in program) is kept
    assert (ROOT / "tools/demo/run.py").exists()


def test_set_up_happens_once_and_again_when_the_project_changed(fresh: Path) -> None:
    """pip runs on a fresh machine and after pyproject.toml has changed, and not in between."""
    target = (".venv/bin/.stamp", "PYTHON=./python")
    for _ in range(2):
        assert make(fresh, *target).returncode == 0
    assert ran(fresh) == ["pip"]
    stamp = (fresh / ".venv/bin/.stamp").stat()
    os.utime(fresh / "pyproject.toml", (stamp.st_atime, stamp.st_mtime + 10))
    assert make(fresh, *target).returncode == 0
    assert ran(fresh) == ["pip", "pip"]


def test_a_failed_pip_is_said_and_tried_again(fresh: Path) -> None:
    """Without a network the message says what is missing, and the next run starts over."""
    target = (".venv/bin/.stamp", "PYTHON=./python")
    failed = make(fresh, *target, PIP_EXIT="1")
    assert failed.returncode != 0
    assert "pip could not install what edged needs" in failed.stderr
    assert make(fresh, *target).returncode == 0
    assert ran(fresh) == ["pip", "pip"]


def test_the_package_with_ensurepip_is_installed_where_it_is_missing(fresh: Path) -> None:
    """A plain Debian Python cannot make environments: its package comes first."""
    assert make(fresh, ".venv/bin/.stamp", "PYTHON=./python", NO_ENSUREPIP="1").returncode == 0
    assert ran(fresh) == ["debian ensurepip:python3-venv", "pip"]


def test_an_old_python_is_said(fresh: Path) -> None:
    """With no Python that is new enough, one line says which one is needed."""
    failed = make(fresh, ".venv/bin/.stamp", "PYTHON=")
    assert failed.returncode != 0
    assert "edged needs Python 3.11 or newer" in failed.stderr
    assert ran(fresh) == []


def test_tests_need_the_packages_first(fresh: Path) -> None:
    """`make test` looks for the programs of the tests before anything else."""
    shown = make(fresh, "--dry-run", "test", "PYTHON=./python").stdout.splitlines()
    assert "node:nodejs" in shown[0]
    assert shown[-1] == ".venv/bin/python -m pytest -q"
