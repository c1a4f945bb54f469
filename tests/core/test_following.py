"""When a session should follow its client: most calls, through one node, for a while."""

from edged.core.following import LEAST, QUIET, SECONDS, SHARE, Following
from edged.core.records import SessionKey

KEY, OTHER = SessionKey("f", "one"), SessionKey("f", "two")


def looks(following: Following, counts: dict[str, int], begin: int, end: int) -> list[tuple[SessionKey, str]]:
    """What a look each second finds, from second `begin` to `end`, the same calls between each two."""
    return [found for second in range(begin, end) for found in following.look({KEY: counts}, float(second))]


def test_a_session_follows_when_most_calls_enter_elsewhere_for_long() -> None:
    """Not at once, not a moment too late, and each look says it again until something is done."""
    following = Following()
    assert looks(following, {"b": 9, "": 1}, 0, int(SECONDS)) == []
    assert looks(following, {"b": 9, "": 1}, int(SECONDS), int(SECONDS) + 2) == [(KEY, "b")] * 2
    following.forget(KEY)
    assert looks(following, {"b": 9}, 10, 10 + int(SECONDS)) == []


def test_calls_that_enter_here_keep_it() -> None:
    """Whatever the rest does."""
    assert looks(Following(), {"": 10, "b": 4}, 0, 60) == []


def test_a_share_that_is_not_large_enough_moves_nothing() -> None:
    """A client that is balanced over two nodes, or takes turns between them, has no better place."""
    below = int(100 * SHARE) - 1
    assert looks(Following(), {"b": below, "c": 100 - below}, 0, 60) == []
    following = Following()
    turns = [following.look({KEY: {"bc"[second % 2]: 10}}, float(second)) for second in range(60)]
    assert not any(turns)


def test_one_look_against_it_begins_the_time_anew() -> None:
    """That is the hysteresis."""
    following = Following()
    looks(following, {"b": 10}, 0, int(SECONDS) - 1)
    looks(following, {"": 10}, int(SECONDS) - 1, int(SECONDS))
    assert looks(following, {"b": 10}, int(SECONDS), 2 * int(SECONDS)) == []
    assert looks(following, {"b": 10}, 2 * int(SECONDS), 2 * int(SECONDS) + 1) == [(KEY, "b")]


def test_few_calls_say_nothing_for_or_against() -> None:
    """A slow client is followed too, in time; but not after it has been silent for long."""
    following = Following()
    following.look({KEY: {"b": LEAST}}, 0.0)
    following.look({KEY: {"": LEAST - 1}}, 1.0)
    following.look({}, 2.0)
    assert following.look({KEY: {"b": LEAST}}, SECONDS) == [(KEY, "b")]
    assert following.look({KEY: {"b": LEAST}}, SECONDS + QUIET + 1.0) == []


def test_sessions_are_judged_apart() -> None:
    """One's calls are none of the other's."""
    following = Following()
    for second in range(int(SECONDS)):
        following.look({KEY: {"b": 10}, OTHER: {"": 10}}, float(second))
    assert following.look({KEY: {"b": 10}, OTHER: {"c": 10}}, SECONDS) == [(KEY, "b")]
