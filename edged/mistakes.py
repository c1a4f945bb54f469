"""A file of settings that is wrong ends the program: every mistake on a line of its own, exit 1."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from .core.schema import Mistakes

T = TypeVar("T")


def or_exit(load: Callable[[Path], T], path: Path) -> T:
    """What `load` makes of the file."""
    try:
        return load(path)
    except Mistakes as mistakes:
        for line in mistakes.lines:
            click.echo(line, err=True)
    except OSError as error:
        click.echo(f"{path}: {error.strerror}", err=True)
    sys.exit(1)
