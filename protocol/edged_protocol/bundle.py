"""A function as one byte string: deterministic, hashed, opened without trust (SPEC "Bundles").

msgpack `[1, [[path, executable, content], …]]`, sorted by path. An archive format with links, owners and
times would need them all refused again.
"""

import hashlib
import os
import shutil
from pathlib import Path, PurePosixPath

import msgpack  # type: ignore[import-untyped]

MAX_FILES = 10_000
MAX_BYTES = 64 * 1024 * 1024
_SKIPPED = frozenset({"__pycache__", ".git", ".venv"})


def pack_directory(directory: Path) -> bytes:
    """The bundle of a directory. Raises ValueError for what a bundle cannot hold, OSError."""
    rows = []
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        if _SKIPPED.intersection(relative.parts) or path.suffix == ".pyc":
            continue
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or not path.is_file():
            raise ValueError(f"{relative}: only regular files can be deployed")
        rows.append([relative.as_posix(), os.access(path, os.X_OK), path.read_bytes()])
    rows.sort()
    data: bytes = msgpack.packb([1, rows], use_bin_type=True)
    bundle_files(data)
    return data


def bundle_hash(data: bytes) -> str:
    """A bundle's identity: SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def bundle_files(data: bytes) -> list[tuple[str, bool, bytes]]:
    """The files of a bundle: path, executable, content. Raises ValueError."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"a bundle has at most {MAX_BYTES} bytes")
    try:
        version, rows = msgpack.unpackb(data, max_ext_len=0, max_array_len=MAX_FILES)
        files = [_file(*row) for row in rows]
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise ValueError(f"not a bundle: {error or 'no msgpack'}") from error
    if version != 1:
        raise ValueError(f"a bundle of format {version!r}")
    seen: set[str] = set()
    above: set[str] = set()
    for path, _, _ in files:
        parts = PurePosixPath(path).parts
        unclean = "\\" in path or "\0" in path or str(PurePosixPath(path)) != path
        if not parts or parts[0] == "/" or ".." in parts or unclean or path in seen:
            raise ValueError(f"a bundle cannot hold {path!r:.80}")
        seen.add(path)
        above.update(map(str, PurePosixPath(path).parents))
    if both := seen & above:
        raise ValueError(f"a bundle cannot hold {min(both)!r:.80} as a file and as a directory")
    return files


def _file(path: object, executable: object, content: object) -> tuple[str, bool, bytes]:
    # Nothing is converted: bytes(n) of a number would be n zeros.
    if type(path) is not str or type(executable) is not bool or type(content) is not bytes:
        raise ValueError("a file is a path, a flag and its bytes")
    return path, executable, content


def unpack_bundle(data: bytes, dest: Path) -> None:
    """Write the files to `dest`, which appears whole or not at all. Raises ValueError, OSError."""
    files = bundle_files(data)
    fresh = dest.with_name(dest.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        for path, executable, content in files:
            target = fresh / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o755 if executable else 0o644)
        fresh.rename(dest)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)  # on a disk that is full others need the room
        raise
