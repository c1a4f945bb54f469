"""What `edged` and `edgectl` have in common: how a program ends whose output cannot be written (DESIGN §9).

Decides that it is one line and exit code 1, for each command and each page of help; that a reader who has seen enough,
as `head`, is told nothing; and that a complaint which cannot be written itself changes no exit code. Refuses to know
any command. A trap of SIGPIPE would end a daemon that writes to a socket.
"""

import contextlib
import os
import sys
from typing import Any, TextIO

import click

from .failures import FAILED


class Program(click.Group):
    """The outermost group of a program."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """As click has it, which ends by itself, and silently, where a pipe is closed."""
        try:
            return super().main(*args, **extra)
        except OSError as error:
            _let_go_of(sys.stdout)
            complain(f"Error: {error}")
            sys.exit(FAILED)


def complain(text: str) -> None:
    """On stderr, if that takes it."""
    try:
        click.echo(text, err=True)
    except OSError:
        _let_go_of(sys.stderr)


def _let_go_of(stream: TextIO | None) -> None:
    """What could not be written is not tried again when the interpreter ends, which would have its own exit code."""
    if stream is None:
        return  # the program was started with it closed
    with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
