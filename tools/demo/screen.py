"""How the demo is told: acts, lines, tables, and one live line while something goes on.

Decides terminal or plain lines: without a terminal the live line is printed every two seconds. Refuses to
know what the figures mean.
"""

import math
import shlex
import sys
from collections.abc import Sequence
from types import TracebackType

import trio
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

PLAIN_EVERY = 2.0
"""Seconds between two progress lines where there is no terminal."""

PLAIN_WIDTH = 110

BARS, ASCII_BARS = "▁▂▃▄▅▆▇█", "_.,:-=+#"
LOWEST, HIGHEST = 0.3e-3, 100e-3
"""Seconds at the ends of a sparkline; it is logarithmic between them."""


class Screen:
    """Use in a `with`: on a terminal the last line is live."""

    def __init__(self) -> None:
        terminal = sys.stdout.isatty()
        self.console = Console(width=None if terminal else PLAIN_WIDTH, highlight=False)
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._terminal = terminal
        self._bars = BARS if self.console.encoding.startswith("utf") else ASCII_BARS
        self._began = trio.current_time()
        self._next = 0.0

    def __enter__(self) -> "Screen":
        if self._terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._terminal:
            self._live.stop()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return trio.current_time() - self._began

    def act(self, number: int, title: str) -> None:
        """A heading; the live line is empty until there is progress again."""
        if self._terminal:
            self._live.update(Text(""), refresh=True)
        self.console.print(
            f"\n[bold]{number}. {escape(title)}[/bold]  [dim]{self.seconds:.1f} s[/dim]"
        )
        self._flush()

    def say(self, text: str, style: str = "") -> None:
        """A line of the account."""
        self.console.print(f"   {text}", style=style or None, markup=False, soft_wrap=True)
        self._flush()

    def command(self, words: Sequence[str]) -> None:
        """A command that is run, as one would type it."""
        self.say(f"$ {shlex.join(words)}", "cyan")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], text: int = 1) -> None:
        """Figures, set to the right; the first `text` columns are words."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.show_header = any(columns)
        for index, column in enumerate(columns):
            words = index < text
            table.add_column(column, justify="left" if words else "right", no_wrap=not words)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self.console.print(Padding(table, (0, 0, 0, 3), expand=False))
        self._flush()

    def progress(self, line: str) -> None:
        """What goes on now."""
        if self._terminal:
            text = Text(f"   {line}", style="dim", no_wrap=True, overflow="ellipsis")
            self._live.update(text, refresh=True)
        elif trio.current_time() >= self._next:
            self._next = trio.current_time() + PLAIN_EVERY
            self.say(f"[{self.seconds:4.1f} s] {line}")

    def _flush(self) -> None:
        self.console.file.flush()

    def spark(self, seconds: Sequence[float]) -> str:
        """Latencies as a line of bars, logarithmic."""
        return "".join(self._bars[_height(value, len(self._bars))] for value in seconds)


def _height(seconds: float, steps: int) -> int:
    share = math.log(max(seconds, LOWEST) / LOWEST) / math.log(HIGHEST / LOWEST)
    return min(steps - 1, int(share * steps))


def ms(seconds: float) -> str:
    """`23.4 ms`."""
    return f"{seconds * 1e3:.1f} ms"
