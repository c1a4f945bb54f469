"""A process with a store, for tests that kill it or break its disk: DIRECTORY write | fill | break KIND.

Each line on stdout is one JSON value: [session, version] of an acknowledged durable write, or as said
at the function.
"""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import trio

from edged.core.records import Entry, Load, Loaded, Outcome, SessionKey, StoreFailed, Write, Written
from edged.daemon.stores import Store, ask
from edged.daemon.stores.sqlite import SqliteStore

SESSIONS = 8


def say(value: Any) -> None:
    """One whole line at once."""
    os.write(1, json.dumps(value).encode() + b"\n")


def commit(session: str, version: int, state: bytes) -> Write:
    """The durable commit of `version` on top of the one before."""
    call = Entry(version.to_bytes(16, "big"), 0, b"out", version)
    epoch = 1 if version > 1 else 0
    rest = (1, version, "remote", None, None, None, state, (call,), 8, 4096, True)
    return Write(SessionKey("f", session), epoch, version - 1, *rest)  # type: ignore[arg-type]


async def version_of(store: Store, session: str) -> int:
    """The version the store has."""
    outcome = await ask(store, Load(SessionKey("f", session), ()))
    assert isinstance(outcome, Loaded)
    return outcome.record.version if outcome.record is not None else 0


async def keep_writing(store: Store, session: str) -> StoreFailed:
    """Commit until it fails; four commits are always under way."""
    version = await version_of(store, session)
    failures: list[StoreFailed] = []
    wake = trio.Event()

    def done(outcome: Outcome, version: int) -> None:
        if isinstance(outcome, Written):
            assert outcome.won
            say([session, version])
        else:
            assert isinstance(outcome, StoreFailed)
            failures.append(outcome)
        wake.set()

    def submit(number: int) -> None:
        store.submit(commit(session, number, os.urandom(500)), lambda o: done(o, number))

    while not failures:
        for _ in range(4):
            version += 1
            submit(version)
        wake = trio.Event()
        await wake.wait()
    return failures[0]


async def write(store: Store) -> None:
    """Write to all sessions, for ever."""
    async with trio.open_nursery() as nursery:
        for number in range(SESSIONS):
            nursery.start_soon(keep_writing, store, f"s{number}")


async def fill(store: Store, directory: Path) -> None:
    """Fill the disk, then free it: the outcome before, full, of a read, after, and the problem."""
    say(verdict(await ask(store, commit("a", 1, b"state"))))
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    say(verdict(await ask(store, commit("b", 1, os.urandom(200_000)))))
    say(verdict(await ask(store, Load(SessionKey("f", "a")))))
    ballast.unlink()
    say(verdict(await ask(store, commit("b", 1, os.urandom(200_000)))))
    say(store.statistics().problem)


def verdict(outcome: Outcome) -> Any:
    """An outcome in a word, or what a failure says."""
    if isinstance(outcome, StoreFailed):
        return [outcome.applied, outcome.reason]
    if isinstance(outcome, Written):
        return "won" if outcome.won else "lost"
    return type(outcome).__name__.lower()


async def broken(store: Store, kind: str) -> None:
    """Write until the disk breaks: the first failure, a later one, and the problem behind the commits."""
    if kind == "size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    first = await keep_writing(store, "a")
    say([first.applied, first.reason])
    say(verdict(await ask(store, commit("b", 1, b""))))
    say(store.statistics().problem)


async def main(directory: Path, *task: str) -> None:
    """Run `task` with a store in `directory`."""
    async with trio.open_nursery() as nursery:
        store = SqliteStore(directory / "store.db")
        await nursery.start(store.run)
        match task:
            case ["write"]:
                await write(store)
            case ["fill"]:
                await fill(store, directory)
            case ["break", kind]:
                await broken(store, kind)
        nursery.cancel_scope.cancel()


trio.run(main, Path(sys.argv[1]), *sys.argv[2:])
