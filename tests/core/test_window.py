"""The dedup window."""

from edged.core.calls import Call
from edged.core.window import MAX_REMEMBERED_BODY, Verdict, Window


def a_call(call_id: bytes | None, attempt: int = 0) -> Call:
    return Call(None, 1, "f", "s", "", call_id, 0.0, 1.0, b"", {"attempt": attempt})


def test_a_running_call_is_attached_to_and_a_done_one_remembered() -> None:
    """A retry never runs beside or after the call it repeats."""
    window = Window(8)
    first, second = a_call(b"1" * 16), a_call(b"1" * 16, 1)
    assert window.admit(first) is Verdict.RUN
    assert window.admit(second) is Verdict.ATTACHED
    assert first.attached == [second]
    window.settle(first, 0, b"out", 1)
    assert window.admit(a_call(b"1" * 16, 2)) is Verdict.REMEMBERED
    entry = window.remembered(b"1" * 16)
    assert entry is not None
    assert entry.body == b"out"


def test_a_late_retry_of_a_forgotten_call_is_not_run() -> None:
    """Once something was evicted, an unknown id on a retry is refused; a first attempt is not."""
    window = Window(1)
    for name in (b"1", b"2"):
        call = a_call(name * 16)
        window.admit(call)
        window.settle(call, 0, b"", 1)
    assert window.floor
    assert window.admit(a_call(b"1" * 16, 1)) is Verdict.FORGOTTEN
    assert window.admit(a_call(b"3" * 16, 0)) is Verdict.RUN


def test_large_answers_are_remembered_as_done() -> None:
    """The window keeps no large body, but knows that the call was done."""
    window = Window(4)
    call = a_call(b"1" * 16)
    window.admit(call)
    entry = window.settle(call, 0, b"x" * (MAX_REMEMBERED_BODY + 1), 1)
    assert entry is not None
    assert entry.body is None


def test_an_abandoned_id_is_free_again() -> None:
    """A call that did not run leaves no trace."""
    window = Window(4)
    call = a_call(b"1" * 16)
    window.admit(call)
    window.abandon(call)
    assert window.admit(a_call(b"1" * 16, 1)) is Verdict.RUN
