"""Needs more memory to be imported than it may use."""

from edged.sdk import Function

fn = Function("greedy-import")
model = bytearray(100 << 20)
