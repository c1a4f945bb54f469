"""protocol/SPEC.md beside the code: its tables and its transcript are checked, so that neither can drift."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.vectors import load, message_of, value_of

from edged.core import records, window
from edged.daemon import bundles, descriptors, entrance, link, verbs
from edged.daemon.session_verbs import STEPS
from edged.daemon.stores.wire import VERBS as STORE_VERBS
from edged_protocol import bundle, limits
from edged_protocol import messages as m
from edged_protocol.codec import decode, encode
from edged_protocol.connection import ROLES
from edged_protocol.errors import Code
from edged_protocol.framing import FrameReader

SPEC = (Path(__file__).parents[2] / "protocol" / "SPEC.md").read_text(encoding="utf-8")

BOUNDS = {
    "handshake": link.HANDSHAKE_SECONDS,
    "write": link.WRITE_SECONDS,
    "unsent bytes": link.MAX_PENDING_OUT,
    "connections": descriptors.MAX_CONNECTIONS,
    "calls in hand": entrance.MAX_CALLS,
    "control verb": verbs.VERB_SECONDS,
    "retries attached": window.MAX_ATTACHED,
    "remembered answer": window.MAX_REMEMBERED_BODY,
    "remembered answers": window.MAX_WINDOW_BYTES,
    "bundle": bundles.MAX_BUNDLE,
    "bundle files": bundle.MAX_FILES,
    "bundle piece": bundles.CHUNK,
    "listing": records.MAX_PAGE,
}


def rows(header: str, section: str = "") -> list[list[str]]:
    """The cells of the table that begins with `header`, in the section of that title."""
    text = re.split(rf"^#+ {section}$", SPEC, maxsplit=1, flags=re.M)[1] if section else SPEC
    [table] = re.findall(rf"^\| {re.escape(header)}.*\n\|[-:| ]+\n((?:\|.*\n)+)", text, re.M)[:1]
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in table.splitlines()
    ]


def unquoted(cell: str) -> str:
    return cell.strip("`")


def test_the_error_codes_are_those_of_the_code() -> None:
    """Every code has its number and name in the specification, and no other stands there."""
    told = {int(row[0]): unquoted(row[1]) for row in rows("code | name | meaning")}
    assert told == {int(code): code.wire_name for code in Code}


def test_every_hundred_has_an_outcome() -> None:
    """What a client must do is said of each class of codes, and of a RESULT."""
    told = " ".join(row[0] for row in rows("codes | what is known"))
    for word in ("RESULT", "1xx", "2xx", "3xx", "4xx", "5xx", "404"):
        assert word in told


def test_the_limits_are_those_of_the_code() -> None:
    """Every constant of limits.py stands in the table with its value, and no other does."""
    units = ("KIB", "MIB")
    known = {name: value for name, value in vars(limits).items() if name.isupper()}
    told = {unquoted(row[0]): int(row[1]) for row in rows("name | value | what")}
    assert told == {name: value for name, value in known.items() if name not in units}


def test_the_bounds_of_the_daemon_are_those_of_the_code() -> None:
    """What the specification says the present node does is what its constants say."""
    told = {row[0]: float(row[1].split()[0]) for row in rows("bound | value | beyond it")}
    assert told == BOUNDS


def test_the_messages_are_those_of_the_code() -> None:
    """Type numbers and element names of the table are those of the messages, in order."""
    table = rows("type | number | array", "Messages")
    assert {row[0]: int(row[1]) for row in table} == {
        kind.__name__.upper(): number for kind, number in m.TYPE_OF.items()
    }
    kinds: dict[str, Any] = {kind.__name__.upper(): kind for kind in m.TYPE_OF}
    for name, number, array, _ in table:
        elements = [
            element.strip("⟨⟩ ").split("\\|")[0] for element in array.strip("`[]").split(",")
        ]
        fields: tuple[str, ...] = kinds[name]._fields
        assert elements == [number, *fields]


def test_the_roles_are_those_of_the_code() -> None:
    """The handshake's table names every role."""
    assert sorted(unquoted(row[0]) for row in rows("role | is")) == sorted(ROLES)


def test_every_control_verb_is_described() -> None:
    """Each verb of the code stands in the table of those who may send it, and no other does."""
    operator, between, store = (
        {unquoted(row[0]) for row in rows("verb | params", title)}
        for title in ("Operator verbs", "Node verbs", "Store verbs")
    )
    assert operator == set(verbs.VERBS)
    assert between == (set(verbs.NODE_VERBS) | set(verbs.AT_ONCE) | set(STEPS)) - set(verbs.VERBS)
    assert store == STORE_VERBS


def test_every_reason_of_a_refusal_is_described() -> None:
    """The reasons that the vectors end in are in GOAWAY's table."""
    told = {word for row in rows("GOAWAY reason") for word in re.findall(r"`(\w+)`", row[0])}
    files = ("invalid.json", "framing.json", "handshake.json")
    used = {entry["error"] for name in files for entry in load(name) if "error" in entry}
    assert used <= told


def test_every_reference_leads_somewhere() -> None:
    """Links within the specification, and the sections the code names, exist."""
    titles = set(re.findall(r"^#+ (.+)$", SPEC, re.M))
    anchors = {title.lower().replace(",", "").replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", SPEC)) <= anchors
    sources = (Path(__file__).parents[2] / "protocol" / "edged_protocol").glob("*.py")
    named = {
        title for source in sources for title in re.findall(r'SPEC "([^"]+)"', source.read_text())
    }
    assert named
    assert named <= titles


def transcript() -> list[tuple[str, bytes, Any]]:
    """Direction, bytes and meaning of each frame of the transcript."""
    [block] = re.findall(r"^```\n(> .*?)^```", SPEC, re.M | re.S)
    entries = re.findall(r"^([<>]) ([0-9a-f\s]+)^= (.+)$", block, re.M)
    return [(way, bytes.fromhex(data), json.loads(shown)) for way, data, shown in entries]


@pytest.mark.parametrize("entry", transcript(), ids=lambda entry: f"{entry[0]}{entry[2][0]}")
def test_the_transcript_means_what_it_says(entry: tuple[str, bytes, Any]) -> None:
    """Each frame decodes to what stands below it, and encodes back to its bytes."""
    _, data, shown = entry
    [frame] = FrameReader(limits.MAX_FRAME).feed(data)
    message = decode(frame)
    number, *fields = value_of(shown)
    assert m.TYPE_OF[type(message)] == number
    assert list(message)[: len(fields)] == fields
    assert all(left is None for left in list(message)[len(fields) :])
    assert encode(message) == data


def test_the_transcript_is_a_whole_session() -> None:
    """It shows the greeting, a call refused and repeated under the same id, its answer and the end."""
    session = [decode(data[4:]) for _, data, _ in transcript()]
    kinds = [type(message) for message in session]
    assert kinds[:6] == [m.Hello, m.Welcome, m.Invoke, m.Error, m.Invoke, m.Result]
    first, second = (message for message in session[:6] if isinstance(message, m.Invoke))
    assert first.call_id == second.call_id
    assert first.id != second.id
    assert kinds[-1] is m.GoAway


def test_the_vectors_use_every_meta_key_of_a_caller() -> None:
    """The keys INVOKE's table gives a caller occur in a valid vector."""
    told = {
        unquoted(row[0]) for row in rows("meta key | type | from") if row[2] != "node to container"
    }
    used: set[str] = set()
    for entry in load("valid.json"):
        message = message_of(entry["message"])
        if isinstance(message, m.Invoke):
            used |= set(message.meta or {})
    assert told <= used
