"""The control verbs about functions: list, upload, deploy, remove, fetch (SPEC "Control verbs").

Each takes the node, the connection and the request, and gives result and blob of the REPLY.
"""

from typing import TYPE_CHECKING, Any

from edged_protocol import messages as m
from edged_protocol.errors import Code, call_error

from .link import Link
from .verb_params import text, whole

if TYPE_CHECKING:
    from .node import Node


async def function_list(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """What is deployed, and who runs it."""
    rows = []
    for name, hash_ in sorted(node.deployments.catalogue.deployed().items()):
        spec = await node.bundles.spec(hash_)
        version = spec.manifest.version if spec else ""
        nodes = node.router.nodes_for(name)
        rows.append({"name": name, "version": version, "hash": hash_, "nodes": nodes})
    return rows, None


async def function_upload(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """A piece of a bundle."""
    offset, total = whole(request, "offset"), whole(request, "total")
    have = node.bundles.upload(text(request, "hash"), offset, total, request.blob or b"")
    return {"have": have}, None


async def function_deploy(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """Unpack, check, serve and tell the peers."""
    spec = await node.bundles.install(text(request, "hash"))
    await node.deployments.deploy(spec)
    name = spec.manifest.name
    node.events.note("function.deployed", function=name, hash=spec.hash[:12])
    nodes = node.router.nodes_for(name)
    result = {"name": name, "version": spec.manifest.version, "hash": spec.hash, "nodes": nodes}
    return result, None


async def function_remove(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """Serve a function no longer, anywhere."""
    name = text(request, "name")
    if name not in node.deployments.catalogue.deployed():
        raise call_error(Code.NO_SUCH_FUNCTION, f"no function named {name} is deployed")
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
