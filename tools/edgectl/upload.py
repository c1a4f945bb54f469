"""A bundle's way to a node, piece by piece (DESIGN §8).

The node says how much it has, so an upload goes on where an earlier one ended. Refuses to know how progress
is shown.
"""

from collections.abc import Callable
from typing import Any

from edged_protocol.blocking import Mesh
from edged_protocol.bundle import bundle_hash
from edged_protocol.errors import Code, call_error

CHUNK = 512 * 1024
"""Bytes in one frame, well below what any node takes."""


def upload(mesh: Mesh, data: bytes, progress: Callable[[int], None]) -> str:
    """Send all of `data`; its hash. `progress` is told the bytes there are. Raises CallError."""
    hash_, have = bundle_hash(data), 0
    while have < len(data):
        params = {"hash": hash_, "offset": have, "total": len(data)}
        result, _ = mesh.request("function.upload", params, data[have : have + CHUNK])
        have = _advanced(result, have, len(data))
        progress(have)
    return hash_


def _advanced(result: Any, before: int, total: int) -> int:
    have = result.get("have") if isinstance(result, dict) else None
    if type(have) is not int or not before < have <= total:
        raise call_error(Code.INTERNAL, f"the upload stopped at {before} of {total} bytes")
    return have
