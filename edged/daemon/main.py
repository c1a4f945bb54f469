"""The process around a node: signals, readiness, watchdog, exit code (DESIGN §9, §12)."""

import logging
import os
import signal

import trio

from edged.config import Config

from . import notify
from .node import Node
from .stores import StoreUnusable

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
"""For calls in hand when the node is told to stop."""


def run_node(config: Config) -> int:
    """Run until SIGINT or SIGTERM; 0, or 1 when it could not start or a defect ended it."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    failures: list[BaseException] = []
    try:
        trio.run(_main, config, restrict_keyboard_interrupt_to_checkpoints=True)
    except* (OSError, ValueError, StoreUnusable) as group:
        failures = _flat(group)
    for failure in failures:
        log.error("%s", failure)
    return 1 if failures else 0


def _flat(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    result: list[BaseException] = []
    for error in group.exceptions:
        result += _flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return result


async def _main(config: Config) -> None:
    node = Node(config)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            nursery.start_soon(_watchdog)
            _report_ready(node)
            async for _ in signals:
                break
            notify.notify("STOPPING=1")
            log.info("stopping")
            with trio.move_on_after(DRAIN_SECONDS):
                await node.stop()
            nursery.cancel_scope.cancel()


def _report_ready(node: Node) -> None:
    notify.notify(f"READY=1\nSTATUS=serving {node.address}")
    log.info("%s serves %s, admin %s", node.name, node.address, node.admin)
    fd = os.environ.pop("EDGED_READY_FD", None)
    if fd is not None:
        os.write(int(fd), f"{node.address}\n{node.admin}\n".encode())
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
