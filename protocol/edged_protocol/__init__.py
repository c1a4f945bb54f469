"""The edged wire: identifiers, limits, errors, messages, codec, framing, connection and the client library.

`protocol/SPEC.md` is normative; everything but the client fronts is sans-IO.
"""
