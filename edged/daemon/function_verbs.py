"""The control verbs about functions: list, upload, deploy, promote, roll back, remove, fetch (SPEC "Control verbs").

Each takes the node, the connection and the request, and gives result and blob of the REPLY.
"""

import logging
from typing import TYPE_CHECKING, Any

from edged.core.catalogue import Pointer
from edged_protocol import messages as m
from edged_protocol.errors import Code, call_error

from .link import Link
from .verb_params import text, whole

if TYPE_CHECKING:
    from .node import Node

log = logging.getLogger(__name__)


async def function_list(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """What is deployed, and who runs it."""
    pointers = node.deployments.catalogue.deployed()
    return [await _row(node, pointer) for _, pointer in sorted(pointers.items())], None


async def _row(node: "Node", pointer: Pointer) -> m.Map:
    row: m.Map = {
        "name": pointer.name,
        "version": await _version(node, pointer.hash),
        "hash": pointer.hash,
        "nodes": node.router.nodes_for(pointer.name),
        "before": pointer.before,
        "canary": None,
    }
    if pointer.canary:
        version = await _version(node, pointer.canary)
        row["canary"] = {"version": version, "hash": pointer.canary, "percent": pointer.share}
    return row


async def _version(node: "Node", hash_: str) -> str:
    spec = await node.bundles.spec(hash_)
    return spec.manifest.version if spec else ""


async def function_upload(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """A piece of a bundle."""
    offset, total = whole(request, "offset"), whole(request, "total")
    have = node.bundles.upload(text(request, "hash"), offset, total, request.blob or b"")
    return {"have": have}, None


async def function_deploy(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """Unpack, check, serve and tell the peers."""
    share = whole(request, "canary", 0)
    spec = await node.deployments.upload_deployed(text(request, "hash"), share)
    node.events.note(
        "function.deployed", function=spec.manifest.name, hash=spec.hash[:12], percent=share or 100
    )
    warnings = spec.manifest.warnings(node.cgroups.trouble, node.workers.slots.memory)
    for warning in warnings:
        log.warning("%s: %s", spec.manifest.name, warning)
    return {**await _row(node, _deployed(node, spec.manifest.name)), "warnings": warnings}, None


async def function_rollout(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """`function.promote`, `function.rollback`."""
    pointer = _deployed(node, text(request, "name"))
    if request.verb == "function.promote":
        await node.deployments.promote(pointer)
    else:
        await node.deployments.roll_back(pointer)
    pointer = _deployed(node, pointer.name)
    node.events.note(request.verb, function=pointer.name, hash=pointer.hash[:12])
    return await _row(node, pointer), None


def _deployed(node: "Node", name: str) -> Pointer:
    """What `name` means. Raises CallError."""
    pointer = node.deployments.catalogue.deployed().get(name)
    if pointer is None:
        raise call_error(Code.NO_SUCH_FUNCTION, f"no function named {name} is deployed")
    return pointer


async def function_remove(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """Serve a function no longer, anywhere."""
    name = _deployed(node, text(request, "name")).name
    await node.deployments.remove(name)
    node.events.note("function.removed", function=name)
    return {}, None


async def function_fetch(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """A piece of a bundle, for a peer."""
    try:
        total, data = await node.bundles.piece(text(request, "hash"), whole(request, "offset", 0))
    except FileNotFoundError:
        raise call_error(Code.NO_SUCH_FUNCTION, "this node does not have that bundle") from None
    return {"total": total}, data
