"""What dies, is cut off or stands still at the moment when a session asks for something."""

from typing import TYPE_CHECKING

from edged.core.sessions import Seat

if TYPE_CHECKING:
    from .node import Node


def strike(node: "Node", seat: Seat) -> None:
    """If this world has it so: soon, so that what was asked for may still have happened."""
    mesh, container = node.mesh, seat.container
    for kind in mesh.faults.deadly:
        if (kind == "own_killed" and container is None) or not mesh.faults.kill(kind, seat.state):
            continue
        soon = mesh.chance.random() * mesh.chance.choice((0.001, 0.02))
        if kind == "own_killed":
            mesh.clock.after(soon, node.container_died, container)
        elif kind == "node_killed":
            mesh.clock.after(soon, mesh.kill, node)
        elif kind == "node_paused":
            mesh.clock.after(soon, node.pause)
        elif kind == "link_cut":
            mesh.clock.after(soon, mesh.sever, node, seat.target.partition("/")[0])
        else:
            node.cut_until = mesh.clock.now + mesh.chance.random() * mesh.chance.choice((1, 4))
