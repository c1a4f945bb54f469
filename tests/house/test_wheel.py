"""The distribution: three import names and no other, its licence, its types and its programs."""

import configparser
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = {"edged", "edged_protocol", "edgectl"}
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the licence's text as Debian ships it."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The wheel, built with what is installed: nothing is fetched."""
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (file,) = target.iterdir()
    return zipfile.Path(file)


@pytest.fixture(scope="module")
def dist_info(wheel: zipfile.Path) -> zipfile.Path:
    """The directory that says what the wheel is."""
    (found,) = (entry for entry in wheel.iterdir() if entry.name.endswith(".dist-info"))
    return found


def sources(folder: Path) -> set[str]:
    """Every source file of a package, by its import path."""
    return {str(file.relative_to(folder.parent)) for file in folder.rglob("*.py")}


def test_the_licence_is_apache_2() -> None:
    """LICENSE is the whole text, to the byte."""
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2


def test_the_wheel_holds_three_import_names(wheel: zipfile.Path, dist_info: zipfile.Path) -> None:
    """An installed edged puts nothing beside itself that could shadow other people's packages."""
    assert {entry.name for entry in wheel.iterdir()} == NAMES | {dist_info.name}


def test_the_wheel_holds_every_module_and_nothing_else(wheel: zipfile.Path) -> None:
    """Each source file is in, with the marks that its types count; no test and no cache is."""
    files = {name for name in wheel.root.namelist() if not name.endswith("/")}
    packed = {name for name in files if ".dist-info/" not in name}
    expected = set[str]()
    for folder in (ROOT / "edged", ROOT / "protocol/edged_protocol", ROOT / "tools/edgectl"):
        expected |= sources(folder)
    assert packed == expected | {"edged/py.typed", "edged_protocol/py.typed"}


def test_the_wheel_holds_its_licence(dist_info: zipfile.Path) -> None:
    """Whoever has the wheel has the licence, and the metadata names it."""
    text = (dist_info / "licenses" / "LICENSE").read_bytes()
    assert hashlib.sha256(text).hexdigest() == APACHE_2
    metadata = (dist_info / "METADATA").read_text().splitlines()
    assert "License-Expression: Apache-2.0" in metadata
    assert "License-File: LICENSE" in metadata


def test_the_wheel_declares_its_programs(dist_info: zipfile.Path) -> None:
    """`edged` and `edgectl`, and no third program."""
    points = configparser.ConfigParser()
    points.read_string((dist_info / "entry_points.txt").read_text())
    assert dict(points["console_scripts"]) == {
        "edged": "edged.cli:main",
        "edgectl": "edgectl.cli:main",
    }


def test_an_unpacked_wheel_imports_by_itself(wheel: zipfile.Path, tmp_path: Path) -> None:
    """What is installed is complete: all three names come out of the wheel, away from the sources."""
    assert wheel.root.filename is not None
    with zipfile.ZipFile(wheel.root.filename) as archive:  # in 3.11.2 the path's own root lists folders that are not in it
        archive.extractall(tmp_path)
    program = (
        "import edged.cli, edged.daemon.main, edged.sdk, edged_protocol.connection, edgectl.cli\n"
        "for module in (edged, edged_protocol, edgectl): print(module.__file__)\n"
    )
    # PYTHONPATH stands before site-packages, where the editable install's paths come from.
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == [
        str(tmp_path / name / "__init__.py") for name in ("edged", "edged_protocol", "edgectl")
    ]


def test_the_editable_install_imports_the_sources() -> None:
    """In the checkout the three names are the files that are edited."""
    program = (
        "import edged, edged_protocol, edgectl\n"
        "for module in (edged, edged_protocol, edgectl): print(module.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd="/",
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == [
        str(ROOT / folder / "__init__.py")
        for folder in ("edged", "protocol/edged_protocol", "tools/edgectl")
    ]
