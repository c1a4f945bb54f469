"""Routing by hints, and the loop guard."""

from edged.core.records import SessionKey
from edged.core.routing import ANYWHERE, HERE, Refuse, Router, There


def test_here_before_there_before_refusal() -> None:
    """A node answers what it runs itself, forwards what a peer runs, and says which it cannot place."""
    router = Router("a")
    router.serves(["mine"], ["mine", "far", "nowhere"])
    router.peer("b", ["far"])
    assert router.route("mine", None, 0) == HERE
    assert router.route("far", None, 0) == ANYWHERE
    assert router.others("far") == ("b",)
    nowhere, unknown = router.route("nowhere", None, 0), router.route("typo", None, 0)
    assert isinstance(nowhere, Refuse)
    assert nowhere.code == 104
    assert isinstance(unknown, Refuse)
    assert unknown.code == 204


def test_no_call_is_forwarded_three_times() -> None:
    """Two hops, whatever the hints say."""
    router = Router("a")
    router.serves([], ["f"])
    router.peer("b", ["f"])
    router.located(SessionKey("f", "s"), "b", 3)
    assert router.route("f", "s", 1) == There("b")
    assert isinstance(router.route("f", "s", 2), Refuse)


def test_an_older_hint_never_wins() -> None:
    """Locations are ordered by epoch; a lost peer's hints are not followed."""
    router = Router("a")
    router.serves(["f"], ["f"])
    router.peer("b", ["f"])
    key = SessionKey("f", "s")
    router.located(key, "b", 5)
    router.located(key, "c", 4)
    assert router.route("f", "s", 0) == There("b")
    router.located(key, None, 6)
    assert router.route("f", "s", 0) == HERE
    router.located(key, "b", 7)
    router.peer("b", None)
    assert router.route("f", "s", 0) == HERE


def test_others_follow_what_is_known() -> None:
    """One that is gone, or in doubt while somebody else is there, is none of the others any more."""
    router = Router("a")
    router.serves(["f"], ["f"])
    router.peer("b", ["f"])
    router.peer("c", ["f", "g"])
    assert set(router.others("f")) == {"b", "c"}
    router.doubt("b", True)
    assert router.others("f") == ("c",)
    router.peer("c", None)
    assert router.others("f") == ("b",), "better one in doubt than none"
    router.doubt("b", False)
    router.peer("b", ["g"])
    assert router.others("f") == ()
    assert router.others("g") == ("b",)


def test_what_only_this_node_runs_is_known_as_peers_come_and_go() -> None:
    """A function is only here until a peer says that it runs it, and again when that is gone."""
    router = Router("a")
    router.serves(["f", "g"], ["f", "g"])
    assert router.only_here == {"f", "g"}
    router.peer("b", ["g", "h"])
    assert router.only_here == {"f"}
    router.serves(["g", "i"], ["g", "h", "i"])
    assert router.only_here == {"i"}
    router.peer("b", None)
    assert router.only_here == {"g", "i"}
