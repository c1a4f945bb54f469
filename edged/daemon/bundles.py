"""Function bundles and the catalogue on this node's disk (DESIGN §6).

Files are written whole and renamed; all of it runs in threads, never on the loop.
"""

import logging
import os
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import trio

from edged.core.catalogue import Catalogue, Pointer
from edged.core.manifest import parse_manifest
from edged_protocol.bundle import bundle_files, bundle_hash, unpack_bundle
from edged_protocol.codec import pack, unpack

from .host import Spec

log = logging.getLogger(__name__)

CHUNK = 512 * 1024
"""Bytes of a bundle in one frame."""

HASH = re.compile("[0-9a-f]{64}")

MAX_BUNDLE = 64 * 1024 * 1024
"""A function is code and small models; larger things belong beside it."""

MAX_UPLOADS = 5
"""Half-way at the same time; each holds its bytes. One that nobody goes on with must not block the others."""


class Damaged(ValueError):
    """Bytes that are not those of the bundle: another node, or another time, may give the right ones."""


def write_whole(path: Path, data: bytes) -> None:
    """Write, fsync, rename: after a crash the old file or the new one is there."""
    fresh = path.with_name(path.name + ".new")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:  # of a full disk the kernel does not say which file
        raise OSError(error.errno, error.strerror, str(path)) from error


def _as_packed(dest: Path, data: bytes) -> bool:
    """Whether the files of a bundle are in `dest` as they are in `data`."""
    try:
        return all(
            (dest / path).read_bytes() == content and os.access(dest / path, os.X_OK) == executable
            for path, executable, content in bundle_files(data)
        )
    except OSError:
        return False


class Bundles:
    """`<hash>.bundle` as it travelled, `<hash>/` unpacked, `catalogue` with the pointers."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / "functions"
        self._uploads: dict[str, bytearray] = {}
        self._disk = trio.CapacityLimiter(2)
        self._saving = trio.Lock()
        self._changing = trio.Lock()

    async def load(self) -> Catalogue:
        """The catalogue as it was saved; an unreadable one is set aside, peers know it too."""
        return await trio.to_thread.run_sync(self._load, limiter=self._disk)

    def _load(self) -> Catalogue:
        self._root.mkdir(parents=True, exist_ok=True)
        path = self._root / "catalogue"
        try:
            return Catalogue(Pointer(*row) for row in unpack(path.read_bytes()))
        except FileNotFoundError:
            return Catalogue()
        except Exception:  # noqa: BLE001 - whatever is wrong with the bytes, the node must start
            path.rename(path.with_name("catalogue.damaged"))
            return Catalogue()

    async def save(self, catalogue: Catalogue, *fresh: Pointer) -> None:
        """Keep the pointers as they are when it is their turn: the last to be written are the newest. `fresh`: what will be in
        the catalogue once it is kept. Raises OSError."""
        async with self._saving:
            data = pack([list(pointer) for pointer in Catalogue([*catalogue.all(), *fresh]).all()])
            path = self._root / "catalogue"
            await trio.to_thread.run_sync(write_whole, path, data, limiter=self._disk)

    def _path(self, hash_: str) -> Path:
        """Where that bundle is unpacked. Raises ValueError: a name may come from anybody."""
        if not HASH.fullmatch(hash_):
            raise ValueError("a bundle is named by its SHA-256: 64 hexadecimal digits")
        return self._root / hash_

    def upload(self, hash_: str, offset: int, total: int, chunk: bytes) -> int:
        """Take a piece in order; how much there is now. Raises ValueError for what does not fit."""
        self._path(hash_)
        if not 0 < total <= MAX_BUNDLE:
            raise ValueError(f"a bundle has 1 to {MAX_BUNDLE} bytes")
        have = self._uploads.pop(hash_, bytearray())
        self._uploads[hash_] = have
        while len(self._uploads) > MAX_UPLOADS:
            del self._uploads[next(iter(self._uploads))]  # it has waited longest for its next piece
        if offset != len(have) or offset + len(chunk) > total:
            if offset == 0:
                have.clear()
            else:
                return len(have)
        have += chunk
        return len(have)

    async def install(self, hash_: str) -> Spec:
        """Verify and unpack what was uploaded. Raises ValueError, schema mistakes included."""
        data = bytes(self._uploads.pop(hash_, b""))
        async with self._changing:
            return await trio.to_thread.run_sync(self._install, hash_, data, limiter=self._disk)

    async def tidy(self, needed: Callable[[], Collection[str]]) -> None:
        """Take away what is installed, or half-way, and not `needed`; asked when nothing is being installed."""
        async with self._changing:
            await trio.to_thread.run_sync(self._tidy, frozenset(needed()), limiter=self._disk)

    def _tidy(self, needed: frozenset[str]) -> None:
        for path in self._root.iterdir() if needed else ():
            name = path.name.partition(".")[0]
            if not HASH.fullmatch(name) or name in needed:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _install(self, hash_: str, data: bytes) -> Spec:
        dest = self._path(hash_)
        if not self._mended(dest):
            if bundle_hash(data) != hash_:
                raise Damaged("the bundle's bytes do not have its hash")
            unpack_bundle(data, dest)
            try:
                self._spec(hash_)
            except Exception:
                shutil.rmtree(dest, ignore_errors=True)
                raise
            write_whole(dest.with_suffix(".bundle"), data)
        return self._spec(hash_)

    def _mended(self, dest: Path) -> bool:
        """Whether a bundle is installed, and as it was deployed. Files that a power loss, a bad disk or a function of its
        own has changed are made anew of the packed one; without that nothing is left of it."""
        packed = dest.with_suffix(".bundle")
        try:
            data = packed.read_bytes()
        except FileNotFoundError:
            data = b""
        if bundle_hash(data) == dest.name:
            if not _as_packed(dest, data):
                log.warning("bundle %s was not as it was deployed: unpacked again", dest.name[:12])
                shutil.rmtree(dest, ignore_errors=True)
                unpack_bundle(data, dest)
            return True
        if packed.exists() or dest.exists():
            log.error("bundle %s is damaged: it has to come from a peer, or be deployed again", dest.name[:12])
            shutil.rmtree(dest, ignore_errors=True)
            packed.unlink(missing_ok=True)
        return False

    def _spec(self, hash_: str) -> Spec:
        path = self._path(hash_)
        try:
            text = (path / "function.toml").read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ValueError("a bundle has function.toml at its top") from None
        return Spec(parse_manifest(text), hash_, str(path))

    async def has(self, hash_: str) -> bool:
        """Whether that bundle is installed; damage is mended, where it can be."""
        async with self._changing:
            return await trio.to_thread.run_sync(self._mended, self._path(hash_), limiter=self._disk)

    # A bundle that is fetched from peers: piece by piece, in any order, over restarts

    async def parts(self, hash_: str) -> dict[int, int]:
        """Offset and length of the pieces that are there."""

        def look() -> dict[int, int]:
            path = self._path(hash_).with_suffix(".parts")
            path.mkdir(exist_ok=True)
            return {int(p.name): p.stat().st_size for p in path.iterdir() if p.name.isdigit()}

        return await trio.to_thread.run_sync(look, limiter=self._disk)

    async def keep_part(self, hash_: str, offset: int, data: bytes) -> None:
        """A piece."""
        path = self._path(hash_).with_suffix(".parts") / str(offset)
        await trio.to_thread.run_sync(write_whole, path, data, limiter=self._disk)

    async def install_parts(self, hash_: str) -> Spec:
        """Join, verify and unpack the pieces; they are gone then. Raises ValueError."""

        def install() -> Spec:
            path = self._path(hash_).with_suffix(".parts")
            try:
                pieces = sorted((int(p.name), p) for p in path.iterdir() if p.name.isdigit())
                return self._install(hash_, b"".join(piece.read_bytes() for _, piece in pieces))
            finally:
                shutil.rmtree(path, ignore_errors=True)

        async with self._changing:
            return await trio.to_thread.run_sync(install, limiter=self._disk)

    async def spec(self, hash_: str) -> Spec | None:
        """The installed function of that hash, or None."""
        if not self._path(hash_).exists():
            return None
        return await trio.to_thread.run_sync(self._spec, hash_, limiter=self._disk)

    async def piece(self, hash_: str, offset: int) -> tuple[int, bytes]:
        """Total size and a piece of a bundle. Raises FileNotFoundError."""

        def read() -> tuple[int, bytes]:
            with self._path(hash_).with_suffix(".bundle").open("rb") as file:
                total = file.seek(0, os.SEEK_END)
                file.seek(offset)
                return total, file.read(CHUNK)

        return await trio.to_thread.run_sync(read, limiter=self._disk)
