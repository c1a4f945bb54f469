"""A function several of whose local sessions share a container."""

from contextlib import closing
from pathlib import Path
from typing import Any

from support.keyed import CODE, keyed
from support.nodes import edgectl
from support.wire_client import WireClient

MORE = """

import time


@fn.shared
def pid(s: Session) -> int:
    '''Which container this is.'''
    return os.getpid()


@fn.handler
def hold(s: Session, begun: str, until: str) -> int:
    '''Count, and keep the container until the file is there.'''
    open(begun, "w").close()
    while not os.path.exists(until):
        time.sleep(0.005)
    return incr(s)


@fn.handler
def last(s: Session) -> None:
    '''The session ends.'''
    s.end()


@fn.handler
def ask(s: Session, session: str) -> int:
    '''Let another session count.'''
    return s.call("keyed", "incr", session=session)
"""


def dense(root: Path, sharing: int, start: str = "remote", **sections: str) -> Path:
    """Its bundle: `sharing` sessions in one container, answered when the store has it."""
    modes = f'sessions_per_container = {sharing}\nstart = "{start}"\nmin_dwell = "0s"'
    return keyed(root, CODE + MORE, modes=modes, durability='local = "sync"', **sections)


def localized(address: str, *sessions: str) -> None:
    """All of them are local there."""
    with closing(WireClient(address, "operator")) as operator:
        for session in sessions:
            operator.request("session.localize", {"function": "keyed", "session": session})


def shares(client: WireClient, *sessions: str) -> list[list[str]]:
    """Which of the sessions are in one container; the largest groups first."""
    found: dict[int, list[str]] = {}
    for session in sessions:
        found.setdefault(client.call("keyed", session, "pid"), []).append(session)
    return sorted(found.values(), key=lambda group: (-len(group), group))


def used(address: str) -> Any:
    """Slots that are taken, as `edgectl nodes` shows it."""
    return edgectl(address, "nodes")[0]["containers"]["used"]
