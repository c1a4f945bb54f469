"""The process around a node: its log, signals, readiness, watchdog and exit code (DESIGN §9, §10).

Decides what ends the process and with which code; refuses to know what a node does meanwhile.
"""

import gc
import logging
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass

import trio

from edged.config import Config

from . import guest, heap, notify
from .claiming import NameTaken
from .hub import Hub
from .logs import log_to
from .node import Node
from .signals import ends_by
from .stores import StoreUnusable

log = logging.getLogger(__name__)

STDERR = 2
"""The terminal, a file or the journal's socket: whatever started the node decided."""

DRAIN_SECONDS = 10.0
"""For calls in hand when the node is told to stop."""


@dataclass(slots=True)
class Life:
    """How far a node got."""

    served: bool = False


def run_node(config: Config) -> int:
    """Run until SIGINT, SIGTERM or SIGHUP; 0, or 1 when it could not start or a defect ended it."""
    with log_to(STDERR):
        return _run(config)


def _run(config: Config) -> int:
    life = Life()
    failed = True
    try:
        guest.run(lambda hub: _main(config, life, hub))
        failed = False
    except* NameTaken as group:
        log.error("%s", _flat(group)[0])
    except* (OSError, ValueError, StoreUnusable) as group:
        for failure in _flat(group):
            # Before it served, these say what is wrong with the machine or the configuration.
            log.error("%s", failure, exc_info=failure if life.served else None)
    except* Exception as group:
        log.critical("a defect ended the node", exc_info=group)
    return int(failed)


def _flat(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    result: list[BaseException] = []
    for error in group.exceptions:
        result += _flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return result


async def _main(config: Config, life: Life, hub: Hub) -> None:
    node = Node(config, hub)
    with trio.open_signal_receiver(*ends_by()) as signals:
        async with trio.open_nursery() as nursery:
            await _begin(node, life, nursery, signals)
            if not life.served:
                nursery.cancel_scope.cancel()
                return
            nursery.start_soon(_watchdog)
            nursery.start_soon(heap.give_back)
            _settle_memory()
            _report_ready(node)
            async for _ in signals:
                break
            notify.notify("STOPPING=1")
            log.info("stopping")
            with trio.move_on_after(DRAIN_SECONDS) as waiting:
                nursery.start_soon(_at_once, signals, waiting)
                await node.stop()
            nursery.cancel_scope.cancel()


async def _begin(node: Node, life: Life, nursery: trio.Nursery, signals: AsyncIterator[int]) -> None:
    """Until the node serves, or a signal ends a start that has to wait."""

    told = trio.Event()

    async def heed(starting: trio.CancelScope) -> None:
        async for _ in signals:
            told.set()
            starting.cancel()
            break

    async with trio.open_nursery() as starting:
        starting.start_soon(heed, starting.cancel_scope)
        await nursery.start(node.run)
        life.served = not told.is_set()
        starting.cancel_scope.cancel()


async def _at_once(signals: AsyncIterator[int], waiting: trio.CancelScope) -> None:
    """A person who interrupts once more does not want to wait; a supervisor's second SIGTERM changes nothing."""
    async for number in signals:
        if number == signal.SIGINT:
            log.warning("interrupted again: what is left is not waited for")
            waiting.cancel()


GARBAGE = 20_000
"""Objects made beyond those freed before the collector looks at the young ones. The relay makes no cycles, so that with
700, the default, it looks some thousand times a second at calls that are merely under way, and finds nothing."""


def _settle_memory() -> None:
    """What is there when the node begins to serve stays: the collector need not look through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)


def _report_ready(node: Node) -> None:
    notify.notify(f"READY=1\nSTATUS=serving {node.address}")
    log.info("%s serves %s, admin %s%s", node.name, node.address, node.admin, f", http {node.http}" if node.http else "")
    if node.cgroups.trouble:
        log.info("[limits] cpu has no effect on this node: %s", node.cgroups.trouble)
    if node.config.security.insecure:
        log.warning("INSECURE: [security] insecure = true, whoever reaches this node may use it")
    fd = os.environ.pop("EDGED_READY_FD", None)
    if fd is not None:
        os.write(int(fd), f"{node.address}\n{node.admin}\n{node.http}\n".encode())
        os.close(int(fd))


async def _watchdog() -> None:
    interval = notify.watchdog_interval()
    if interval is None:
        return
    while True:
        began = trio.current_time()
        await trio.sleep(interval / 3)
        if trio.current_time() - began - interval / 3 < 2:
            notify.notify("WATCHDOG=1")
