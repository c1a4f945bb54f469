"""Bundles: one directory, one byte string; nothing in it is trusted."""

import os
from pathlib import Path

import msgpack  # type: ignore[import-untyped]
import pytest

from edged_protocol.bundle import bundle_files, pack_directory, unpack_bundle


def test_a_directory_comes_back_as_it_was(tmp_path: Path) -> None:
    """Content and the executable bit survive; caches and repositories stay behind."""
    source, dest = tmp_path / "source", tmp_path / "dest"
    for name in ("b.py", "a/tool", "__pycache__/b.pyc", ".git/config", "c.pyc"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(name.encode())
    (source / "a/tool").chmod(0o755)
    data = pack_directory(source)
    assert bundle_files(data) == [("a/tool", True, b"a/tool"), ("b.py", False, b"b.py")]
    unpack_bundle(data, dest)
    assert pack_directory(dest) == data
    assert os.access(dest / "a/tool", os.X_OK)
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".new")] == []


def test_links_are_refused(tmp_path: Path) -> None:
    """Neither a link to a file nor one to a directory is silently left out."""
    (tmp_path / "real").mkdir()
    for target in ("/etc/hostname", "real"):
        link = tmp_path / "link"
        link.symlink_to(target)
        with pytest.raises(ValueError, match="link"):
            pack_directory(tmp_path)
        link.unlink()


@pytest.mark.parametrize(
    "rows",
    [
        *(
            [[path, False, b""]]
            for path in ("/a", "../a", "a/../b", "a//b", "./a", "", ".", "a\\b")
        ),
        [["a\0", False, b""]],
        [["a", False, b""], ["a", False, b""]],
        [["a", False, b""], ["a/b/c", False, b""]],
        [["a/b/c", False, b""], ["a/b", False, b""]],
        [["a", False, 2**40]],
        [["a", 1, b""]],
        [["a", False, "text"]],
        [[1, False, b""]],
        [["a", False]],
        [7],
        None,
    ],
)
def test_what_is_not_a_clean_file_is_refused(tmp_path: Path, rows: object) -> None:
    """Paths that leave the directory, doubles and values of other types never reach the disk."""
    with pytest.raises(ValueError, match="bundle"):
        unpack_bundle(msgpack.packb([1, rows]), tmp_path / "dest")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x02\x90", b"\x92\x01\xdd\xff\xff\xff\xff"])
def test_bytes_that_are_no_bundle_are_refused(data: bytes) -> None:
    """Empty, damaged, of another format, or claiming four billion files."""
    with pytest.raises(ValueError, match="bundle"):
        bundle_files(data)


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """A name that the file system does not take, or no room: what was written before it is gone again."""
    data = msgpack.packb([1, [["a", False, b"x"], ["b" * 300, False, b""]]])
    with pytest.raises(OSError, match="too long"):
        unpack_bundle(data, tmp_path / "dest")
    assert list(tmp_path.iterdir()) == []
