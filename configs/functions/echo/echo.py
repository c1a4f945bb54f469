"""Gives back what it gets, without a state: the mesh's own cost, measured."""

from edged.sdk import Function, Session

fn = Function("echo", state=dict)


@fn.handler
def call(s: Session, value: object = None) -> object:
    """The argument."""
    return value
