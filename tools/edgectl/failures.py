"""Exit codes (DESIGN §9): what a script may conclude without reading the message."""

from edged_protocol.errors import CallError, Code, outcome_of

OK, FAILED, USAGE, NOT_FOUND, REJECTED, UNKNOWN, UNREACHABLE = range(7)

INTERRUPTED = 130
"""As a shell says it of a program that SIGINT ended."""

_BY_OUTCOME = {
    "not_run_retry": REJECTED,
    "not_run": REJECTED,
    "ran": FAILED,
    "unknown": UNKNOWN,
    "defect": FAILED,
}


def exit_code(error: CallError) -> int:
    """The exit code of a call or a verb answered with `error`."""
    if error.code == Code.NO_SUCH_FUNCTION or error.meta.get("not_found"):
        return NOT_FOUND
    return _BY_OUTCOME[outcome_of(error.code)]
