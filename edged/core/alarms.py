"""The alarms of a session: calls it has asked for at a later time (DESIGN §5).

Decides which alarm stands, what becomes of it when its call succeeds or fails, and which call id it has. An alarm is
part of the session's record: it is set and taken out by the very write that makes its call's effect count, so that
the effect comes once however often the alarm is fired. Two nodes that fire it at the same time do no harm; a lock
for whoever may fire was the alternative, and one more thing that can be lost with its holder.
Times are Unix seconds, as they lie on disk for years: here they are numbers that are only compared.
Refuses to know stores, nodes and clocks.
"""

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Literal, NamedTuple

from edged_protocol.codec import pack, unpack
from edged_protocol.errors import RemoteProtocolError, outcome_of

from .records import SessionKey

MAX_ALARMS = 16
"""Of one session; one more goes to the dead letters. All of them travel with each move."""

MAX_DEAD = 16
"""Dead letters of one session, the oldest dropped first: some person has not looked for a long time."""

MAX_ARGUMENTS = 512
"""Bytes of one alarm's arguments: it says what to do, the state has the rest."""

MAX_NAME = 63
MAX_MESSAGE = 200
"""Characters of why the last try failed."""

MAX_AFTER = 10 * 366 * 86_400.0
"""Seconds: beyond ten years it is a mistake."""

TRIES = 6
"""Failed tries after which an alarm is dead; with the pauses below some twenty minutes."""

FIRST_PAUSE = 1.0
"""Seconds after the first failed try; four times as much after each."""

Act = Literal["fire", "failed", "replay", "drop"]


class Alarm(NamedTuple):
    """One alarm. `epoch` and `version`: of the session when it was set, which no other setting of it shares.

    `attempt` counts all its tries, `fails` those since it was set or replayed; `code` and `message` are of the last.
    """

    name: str
    due: float
    method: str
    body: bytes
    epoch: int
    version: int
    attempt: int = 0
    fails: int = 0
    code: int = 0
    message: str = ""


class Firing(NamedTuple):
    """What a call says of the alarm it is for: which one, and what is wanted. `at`: when a next try is due."""

    act: Act
    name: str
    epoch: int
    version: int
    attempt: int
    at: float
    code: int = 0
    message: str = ""


Changes = dict[str, Alarm | None]
"""What a call asked for: alarms to set, of which epoch and version are not known yet, and names to take out."""


def pause(fails: int) -> float:
    """Seconds until the next try after so many failed ones."""
    return FIRST_PAUSE * 4.0 ** min(fails, TRIES)


@dataclass(frozen=True)
class Alarms:
    """All alarms of one session."""

    waiting: dict[str, Alarm]
    dead: tuple[Alarm, ...] = ()

    @property
    def due(self) -> float | None:
        """When the first is due."""
        return min((alarm.due for alarm in self.waiting.values()), default=None)

    def standing(self, firing: Firing) -> Alarm | None:
        """The alarm that is meant, if it still stands as it did when that was said. A dead letter is not replayed
        beside a newer alarm of its name."""
        if firing.act == "replay" and firing.name in self.waiting:
            found = None
        elif firing.act in ("replay", "drop"):
            found = next((alarm for alarm in self.dead if _same(alarm, firing)), None)
        else:
            found = self.waiting.get(firing.name)
        return found if found is not None and _same(found, firing) and found.attempt == firing.attempt else None

    def succeeded(self, firing: Firing | None, changes: Changes, epoch: int, version: int) -> "Alarms":
        """After a call that led to `version`: its own alarm is done, whatever its attempt, and changes are made."""
        waiting, dead = dict(self.waiting), self.dead
        if firing is not None and _same(waiting.get(firing.name), firing):
            del waiting[firing.name]
        for name, alarm in changes.items():
            waiting.pop(name, None)
            if alarm is not None:
                waiting[name] = alarm._replace(epoch=epoch, version=version)
        while len(waiting) > MAX_ALARMS:
            _, one = waiting.popitem()
            dead = (*dead, one._replace(code=101, message=f"a session may have {MAX_ALARMS} alarms"))
        return Alarms(waiting, dead[-MAX_DEAD:])

    def failed(self, firing: Firing, code: int, message: str) -> "Alarms":
        """After a call for an alarm that failed: again at `firing.at`, or dead; at once where it cannot help (2xx)."""
        alarm = self.standing(firing)
        if alarm is None:
            return self
        tried = alarm._replace(
            due=firing.at,
            attempt=alarm.attempt + 1,
            fails=alarm.fails + 1,
            code=code,
            message=message[:MAX_MESSAGE],
        )
        if tried.fails < TRIES and outcome_of(code) != "not_run":
            return replace(self, waiting={**self.waiting, alarm.name: tried})
        others = {name: one for name, one in self.waiting.items() if name != alarm.name}
        return Alarms(others, (*self.dead, tried)[-MAX_DEAD:])

    def edited(self, firing: Firing) -> "Alarms":
        """After what needs no call: a try that is known to have failed, a dead letter replayed or dropped."""
        if firing.act == "failed":
            return self.failed(firing, firing.code, firing.message)
        alarm = self.standing(firing)
        if alarm is None:
            return self
        dead = tuple(one for one in self.dead if one is not alarm)
        if firing.act == "drop":
            return replace(self, dead=dead)
        return Alarms({**self.waiting, alarm.name: alarm._replace(due=firing.at, fails=0)}, dead)

    def packed(self) -> bytes:
        """As it lies in the record; empty when there is nothing."""
        if not self.waiting and not self.dead:
            return b""
        return pack([[list(alarm) for alarm in part] for part in (self.waiting.values(), self.dead)])


def _same(alarm: Alarm | None, firing: Firing) -> bool:
    """Whether it is the very setting of the alarm that is meant."""
    said = (firing.name, firing.epoch, firing.version)
    return alarm is not None and (alarm.name, alarm.epoch, alarm.version) == said


NONE = Alarms({})


UNREADABLE = Alarm("unreadable", 0.0, "", b"", 0, 0, code=500, message="the record's alarms could not be read")
"""In place of what no version of edged has written: a person has to know, and the session goes on."""


def alarms_of(blob: bytes | None) -> Alarms:
    """What a record has; a later version's fields are dropped."""
    if not blob:
        return NONE
    try:
        waiting, dead = unpack(blob)
        rows = [[Alarm(*row[: len(Alarm._fields)]) for row in part] for part in (waiting, dead)]
    except (RemoteProtocolError, ValueError, TypeError):
        return Alarms({}, (UNREADABLE,))
    return Alarms({alarm.name: alarm for alarm in rows[0]}, tuple(rows[1]))


def call_id(key: SessionKey, alarm: Alarm) -> bytes:
    """The id of the call for this try of an alarm, whoever makes it."""
    said = pack([key.function, key.session, alarm.name, alarm.epoch, alarm.version, alarm.attempt])
    return sha256(said).digest()[:16]


def changes_of(said: Any, now: float) -> Changes:
    """What a container says of alarms, `now` being when it answered. Raises ValueError."""
    if type(said) is not dict or len(said) > MAX_ALARMS:
        raise ValueError(f"at most {MAX_ALARMS} alarms at a time")
    return {_name(name): None if row is None else _asked(name, row, now) for name, row in said.items()}


def _name(name: Any) -> str:
    if type(name) is not str or not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise ValueError(f"an alarm's name has 1 to {MAX_NAME} printable characters")
    return name


def _asked(name: str, row: Any, now: float) -> Alarm:
    if type(row) is not list or len(row) != 3:
        raise ValueError("an alarm is [seconds, method, arguments]")
    after, method, body = row
    if type(after) not in (int, float) or not 0 <= after <= MAX_AFTER:
        raise ValueError("an alarm's time is a number of seconds from now")
    if type(method) is not str or len(method) > MAX_NAME or type(body) is not bytes or len(body) > MAX_ARGUMENTS:
        raise ValueError(f"an alarm has a method and at most {MAX_ARGUMENTS} bytes of arguments")
    return Alarm(name, now + after, method, body, 0, 0)


_TYPES: tuple[Any, ...] = (str, str, int, int, int, (int, float), int, str)


def firing_of(value: Any) -> Firing | None:
    """What a frame's meta says of an alarm; None for what is none."""
    if type(value) is not list or len(value) != len(_TYPES):
        return None
    if not all(isinstance(item, kind) for item, kind in zip(value, _TYPES, strict=True)):
        return None
    return Firing(*value) if value[0] in ("fire", "failed", "replay", "drop") else None

