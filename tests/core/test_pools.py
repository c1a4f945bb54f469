"""The pool: late binding, bounds, prefetch of tiny calls."""

from random import Random

from edged.core.calls import Call
from edged.core.pools import MAX_HELD, Pool


def a_call(serial: int) -> Call:
    return Call(None, serial, "f", None, "", None, 0.0, 10.0, b"", None)


def test_a_free_container_takes_the_oldest_call() -> None:
    """Calls leave the queue in order, one to each free container."""
    pool = Pool(0, 2, 10)
    calls = [a_call(n) for n in range(3)]
    assert all(pool.submit(call) for call in calls)
    assert pool.wanted(0.0) == 2
    pool.add("a", 0.0)
    pool.add("b", 0.0)
    assert [(c, call.serial) for c, call in pool.assign(0.0)] == [("a", 0), ("b", 1)]
    pool.finished("b", [(calls[1], 1.0)], 1.0)
    assert [(c, call.serial) for c, call in pool.assign(1.0)] == [("b", 2)]


def test_a_full_queue_refuses() -> None:
    """The queue is bounded, and says so instead of growing."""
    pool = Pool(0, 1, 1)
    assert pool.submit(a_call(1))
    assert not pool.submit(a_call(2))


def test_only_the_running_call_is_lost_with_its_container() -> None:
    """A dead container costs the call it ran; those held behind it are queued again, in order."""
    pool = Pool(0, 1, 100)
    pool.add("a", 0.0)
    teach_short_calls(pool)
    calls = [a_call(n) for n in range(5)]
    for call in calls:
        pool.submit(call)
    assert len(pool.assign(0.0)) == 5
    assert pool.remove("a") is calls[0]
    pool.add("b", 0.0)
    assert [call for _, call in pool.assign(0.0)] == calls[1:]


def test_prefetch_only_for_tiny_calls_and_taken_back() -> None:
    """A container holds several calls only while they are tiny, and one long call frees the others."""
    pool = Pool(0, 1, 100)
    pool.add("a", 0.0)
    pool.submit(a_call(100))
    pool.submit(a_call(101))
    first = pool.assign(0.0)
    assert len(first) == 1, "nothing is known of the service time yet"
    pool.finished("a", [(first[0][1], 1.0)], 1.0)
    ((_, second),) = pool.assign(1.0)
    pool.finished("a", [(second, 1e-5)], 1.0)
    teach_short_calls(pool)
    for n in range(20):
        pool.submit(a_call(n))
    held = pool.assign(2.0)
    assert 1 < len(held) <= MAX_HELD
    taken = pool.overdue("a")
    assert taken == [call for _, call in held][1:]
    pool.finished("a", [(held[0][1], 1.0)], 3.0)
    assert [call for _, call in pool.assign(3.0)] == taken[:1], "a long call ends the prefetch"


def test_a_container_whose_call_overruns_gets_no_more() -> None:
    """What was taken back does not return to it, and counts as waiting for a container that is not there yet."""
    pool = Pool(0, 4, 100)
    pool.add("a", 0.0)
    teach_short_calls(pool)
    for number in range(3):
        pool.submit(a_call(number))
    held = pool.assign(1.0)
    taken = pool.overdue("a")
    assert len(taken) == len(held) - 1 > 0
    assert pool.assign(1.0) == []
    assert pool.wanted(1.0) == len(taken)
    pool.add("b", 2.0)
    assert {container for container, _ in pool.assign(2.0)} == {"b"}
    pool.finished("a", [(held[0][1], 1.0)], 3.0)
    pool.submit(a_call(9))
    assert [container for container, _ in pool.assign(3.0)] == ["a"]


def teach_short_calls(pool: Pool[str]) -> None:
    """Let the pool measure a few hundred calls of ten microseconds."""
    for _ in range(300):
        call = a_call(10_000)
        pool._queue.appendleft(call)
        for container, given in pool.assign(0.0):
            pool.finished(container, [(given, 1e-5)], 0.0)


def test_the_minimum_is_kept() -> None:
    """Idle containers end, but never below the minimum."""
    pool = Pool(1, 3, 10)
    for name in "abc":
        pool.add(name, 0.0)
    assert pool.idle(5.0, 10.0) == []
    assert len(pool.idle(20.0, 10.0)) == 2
    assert Pool(2, 3, 10).wanted(0.0) == 2


def test_a_held_call_starts_when_the_one_before_it_ends() -> None:
    """Time spent behind another call in a container is queueing: it counts for no limit."""
    pool = Pool(0, 1, 100)
    pool.add("a", 0.0)
    teach_short_calls(pool)
    first, second = a_call(1), a_call(2)
    pool.submit(first)
    pool.submit(second)
    pool.assign(5.0)
    assert (first.started, second.started) == (5.0, 0.0)
    pool.finished("a", [(first, 1e-5)], 9.0)
    assert second.started == 9.0


def test_the_pool_grows_by_queueing_not_by_numbers() -> None:
    """Many short calls need no second container; one that waits too long, or calls that are long, do."""
    pool = Pool(0, 8, 100)
    pool.add("a", 0.0)
    teach_short_calls(pool)
    for n in range(MAX_HELD + 24):
        pool.submit(a_call(n))
    pool.assign(0.0)
    assert pool.statistics().queued == 24
    assert pool.wanted(0.0) == 0, "all of them take less than a start"
    assert pool.wanted(1.0) == 7, "they have waited: the mean is wrong"


def test_long_calls_get_a_container_each() -> None:
    """As many as wait, up to the most; a container that starts already counts."""
    pool = Pool(0, 4, 100)
    pool.add("a", 0.0)
    first = a_call(0)
    pool.submit(first)
    pool.assign(0.0)
    pool.finished("a", [(first, 1.0)], 1.0)
    for n in range(1, 4):
        pool.submit(a_call(n))
    pool.assign(0.0)
    pool.starting = 1
    assert pool.wanted(0.0) == 1


def test_a_cold_pool_starts() -> None:
    """With no container at all every call that waits is worth one, up to the most."""
    pool = Pool(0, 4, 100)
    assert pool.wanted(0.0) == 0
    pool.submit(a_call(1))
    assert pool.wanted(0.0) == 1
    teach_short = Pool(0, 4, 100)
    teach_short.add("a", 0.0)
    teach_short_calls(teach_short)
    teach_short.remove("a")
    teach_short.submit(a_call(1))
    assert teach_short.wanted(0.0) == 1


def test_room_is_seen_before_a_call_waits() -> None:
    """A call has room while a container is idle, or may start: not by slots that others have."""
    pool = Pool(0, 2, 100)
    assert pool.at_once(spare=1)
    assert not pool.at_once(spare=0)
    pool.add("a", 0.0)
    assert pool.at_once(spare=0)
    pool.submit(a_call(1))
    assert not pool.at_once(spare=0), "it has the idle one"
    assert pool.at_once(spare=1)
    pool.assign(0.0)
    assert pool.figures(spare=1) == (2, 1, 0, 0, 0)


def test_arrivals_are_counted() -> None:
    """Calls a second, smoothed over ten."""
    pool = Pool(0, 2, 100_000)
    for second in range(1, 60):
        for n in range(50):
            pool.submit(a_call(n))
        pool.sample(float(second))
    assert abs(pool.figures(0)[4] - 50_000) < 500


def test_the_mean_time_told_to_others_is_of_many_calls() -> None:
    """After a hundred exponential times it is within a third of the truth, whatever the first call took."""
    for seed in range(20):
        chance, pool = Random(seed), Pool(0, 1, 10)
        pool.add("a", 0.0)
        for number in range(100):
            call = a_call(number)
            pool.submit(call)
            pool.assign(0.0)
            pool.finished("a", [(call, 20.0 if number == 0 else chance.expovariate(1.0))], 0.0)
        assert abs(pool.figures(0)[3] / 1e6 - 1.2) < 0.4, seed


def test_tiny_calls_wake_one_container_long_ones_all() -> None:
    """What one container does in less time than waking another one takes is not spread; what takes longer is."""
    pool = Pool(0, 3, 100)
    for name in "abc":
        pool.add(name, 0.0)
    teach_short_calls(pool)
    for n in range(10):
        pool.submit(a_call(n))
    assert {container for container, _ in pool.assign(0.0)} == {"a"}
    for n in range(20):
        pool.submit(a_call(n))
    assert {container for container, _ in pool.assign(0.0)} == {"a", "b"}


def test_answers_that_come_together_count_like_ones_that_come_apart() -> None:
    """Several calls of one read teach the pool what they would have taught it one by one; those behind began then."""
    together, apart = Pool(0, 1, 100), Pool(0, 1, 100)
    for pool in (together, apart):
        pool.add("a", 0.0)
        for _ in range(40):  # it learns that they are short
            pool.submit(a_call(0))
            [(_, taught)] = pool.assign(0.0)
            pool.finished("a", [(taught, 1e-5)], 0.0)
        for number in range(4):
            pool.submit(a_call(number))
    held = [call for _, call in together.assign(1.0)]
    together.finished("a", [(call, 1e-5 * n) for n, call in enumerate(held[:3], 1)], 2.0)
    assert [call.started for call in held] == [1.0, 2.0, 2.0, 2.0]
    for number, (_, call) in enumerate(apart.assign(1.0)[:3], 1):
        apart.finished("a", [(call, 1e-5 * number)], 2.0)
    assert together.statistics() == apart.statistics()
    assert together.figures(0) == apart.figures(0)


def test_a_call_of_which_nothing_is_said_took_as_long_as_it_was_away() -> None:
    """A container that does not tell how long a call ran is measured from outside."""
    pool = Pool(0, 1, 100)
    pool.add("a", 0.0)
    pool.submit(a_call(1))
    [(_, call)] = pool.assign(1.0)
    pool.finished("a", [(call, None)], 3.5)
    assert pool.figures(0)[3] == 2_500_000
