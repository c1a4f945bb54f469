"""Which former lives are certainly over: those of this very directory, never those of a copy of it."""

import json
import shutil
from pathlib import Path

import pytest

from edged.daemon import lives


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with its lock, on a machine that `kernel` and `board` stand for."""
    for name in ("kernel", "board"):
        (tmp_path / name).write_text(f"{name} 1\n")
    (tmp_path / "adapters").mkdir()
    monkeypatch.setattr(lives, "KERNEL", tmp_path / "kernel")
    monkeypatch.setattr(lives, "BOARD", tmp_path / "board")
    monkeypatch.setattr(lives, "ADAPTERS", tmp_path / "adapters")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lock").touch()
    return tmp_path / "data"


def adapter(home: Path, name: str, address: str, kind: str = "0", real: bool = True) -> None:
    where = home.parent / "adapters" / name
    where.mkdir()
    (where / "address").write_text(f"{address}\n")
    (where / "addr_assign_type").write_text(f"{kind}\n")
    if real:
        (where / "device").touch()


def test_what_was_kept_here_is_known_again(home: Path) -> None:
    """In the same directory under the same kernel, and after the machine has started anew; the latest replaces the rest."""
    assert lives.past_of(home) == frozenset()
    lives.keep(home, ["1-a"])
    lives.keep(home, ["1-a", "2-b"])
    assert lives.past_of(home) == {"1-a", "2-b"}
    (home.parent / "kernel").write_text("kernel 2\n")
    assert lives.past_of(home) == {"1-a", "2-b"}


def test_a_copy_on_this_machine_knows_nothing(home: Path) -> None:
    """Another file is its lock; what was only renamed is the same."""
    lives.keep(home, ["1-a"])
    shutil.copytree(home, home.parent / "copy")
    assert lives.past_of(home.parent / "copy") == frozenset()
    home.rename(home.parent / "renamed")
    assert lives.past_of(home.parent / "renamed") == {"1-a"}


def test_the_same_bits_on_another_board_know_nothing(home: Path) -> None:
    """A card that was cloned bit by bit: the file of the lock is the same, kernel and board are others."""
    lives.keep(home, ["1-a"])
    (home.parent / "kernel").write_text("kernel 2\n")
    (home.parent / "board").write_text("board 2\n")
    assert lives.past_of(home) == frozenset()


def test_a_machine_without_a_serial_is_known_by_an_adapter_of_its_own(home: Path) -> None:
    """By an address from its maker: not by one that was set, and not by a bridge's."""
    (home.parent / "board").unlink()
    adapter(home, "eth0", "02:00:00:00:00:01")
    adapter(home, "eth1", "06:00:00:00:00:02", kind="3")
    adapter(home, "br0", "06:00:00:00:00:03", real=False)
    lives.keep(home, ["1-a"])
    (home.parent / "kernel").write_text("kernel 2\n")
    assert lives.past_of(home) == {"1-a"}
    (home.parent / "adapters" / "eth0" / "address").write_text("02:00:00:00:00:09\n")
    assert lives.past_of(home) == frozenset()


@pytest.mark.parametrize("said", [b"", b"\xff", b"[]", b'{"boots": 3, "marks": []}', b'{"boots": ["1-a"]}', json.dumps({"boots": ["1-a"], "marks": []}).encode()])
def test_a_file_that_makes_no_sense_says_nothing(home: Path, said: bytes) -> None:
    """Torn, of something else, or without a mark: the start waits, and does not fail."""
    (home / lives.FILE).write_bytes(said)
    assert lives.past_of(home) == frozenset()
