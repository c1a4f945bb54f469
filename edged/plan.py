"""`edged plan`: the paper's two planning questions, answered on any machine with no mesh (DESIGN §7, §9).

Decides options, what is refused, and what is printed where: the document on stdout, words about it on stderr.
Refuses to know the formulas (`core.planning`) and how figures are drawn (`plan_figures`).
"""

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edged.core.planning.latency import Setting

MOST = 10_000
"""Clients or containers: more than any site has, and a curve of them is drawn in seconds."""

MOST_SECONDS = 1e6
"""For a call; and calls a second. Beyond is a slip of the keyboard."""

CODES = "Exit codes: 0 answered, even if the answer is that nothing works; 1 failed; 2 wrong usage."


class Number(click.ParamType[float]):
    """A finite number above zero."""

    name = "number"

    def __init__(self, most: float = MOST_SECONDS, *, zero: bool = False) -> None:
        self._most = most
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises BadParameter with what would be right."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        low = number >= 0 if self._zero else number > 0
        if not (low and number <= self._most):
            self.fail(f"{value} is not a number {'from' if self._zero else 'above'} 0 up to {self._most:g}", param, ctx)
        return number


class Several(click.ParamType[tuple[Any, ...]]):
    """Values of another type, separated by commas."""

    def __init__(self, one: click.ParamType[Any]) -> None:
        self._one = one
        self.name = f"{one.name}[,…]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Each in its turn; the first that is wrong is told."""
        if isinstance(value, tuple):
            return value
        return tuple(self._one.convert(word.strip(), param, ctx) for word in str(value).split(","))


def _common(command: Callable[..., None]) -> Callable[..., None]:
    """The options of both questions, with the paper's numbers."""
    clients = Several(click.IntRange(1, MOST))
    options = (
        click.option("--clients", metavar="N[,N…]", type=clients, required=True, help="devices, each with a session"),
        click.option("--rate", type=Number(), default=0.075, show_default=True, help="calls a second of one client"),
        click.option("--local", type=Number(), default=1.0, show_default=True, help="mean seconds of a local-state call"),
        click.option("--remote", type=Number(), default=3.0, show_default=True, help="mean seconds of a remote-state call in its container"),
        click.option("--plot", is_flag=True, help="draw it in the terminal"),
        click.option("--png", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="draw it into a file (pip install 'edged[plot]')"),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group("plan")
def plan() -> None:
    """How many local sessions, how many containers.

    The model of the paper "Stateful Function-as-a-Service at the Edge", for any parameters; the default ones are the
    paper's. `edgectl policy what-if` asks the same with what a running mesh measures.

    Example: edged plan latency --clients 70
    """


@plan.command(epilog=CODES)
@_common
@click.option("--containers", type=click.IntRange(1, MOST), default=40, show_default=True, help="in the whole mesh")
@click.option(
    "--store", type=Number(zero=True), default=0.0, show_default=True,
    help="seconds a remote-state call takes besides to read and commit its state, holding no container",
)
@click.option("--serial", is_flag=True, help="calls of a session run one after another, as edged does it; the published model lets them run beside each other")
@click.option("-o", "--output", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
def latency(
    clients: tuple[int, ...], rate: float, local: float, remote: float, plot: bool, png: Path | None,
    containers: int, store: float, serial: bool, output: str,
) -> None:  # fmt: skip
    """Latency by number of local sessions.

    Calls arrive at random, all sessions alike. Every session that is local-state has a container of its own; the
    others share the rest from one queue. Seconds; `inf` where a queue grows for ever.

    \b
    Examples:
      edged plan latency --clients 70
      edged plan latency --clients 70 -o csv
      edged plan latency --clients 24 --containers 12 --rate 2 --local 0.02 --remote 0.02 --store 0.045 --serial --plot
      edged plan latency --clients 50,70,90,110 --png fig3.png
    """
    from edged.core.planning.latency import Setting, curve

    from . import plan_text

    settings = [Setting(n, containers, rate, local, remote, store, serial) for n in clients]
    curves = [(setting, list(curve(setting))) for setting in settings]
    if output == "csv":
        click.echo(_csv(*plan_text.latency_rows(curves)), nl=False)
    elif output == "json":
        _document([plan_text.latency_document(*one) for one in curves])
    else:
        for one in curves:
            plan_text.show(plan_text.latency_table(*one))
    for line in filter(None, (plan_text.latency_words(*one) for one in curves)):
        click.echo(line, err=True)
    if plot:
        plan_text.show(plan_text.latency_plot(curves), err=output != "table")
    if png:
        _drawn("latency", png, curves)


@plan.command(epilog=CODES)
@_common
@click.option("--local-share", metavar="Q[,Q…]", type=Several(Number(1.0)), required=True, help="share of the time in which a client wants local-state")
@click.option("--epsilon", type=Number(1.0), default=0.01, show_default=True, help="how often it may be refused")
@click.option("-o", "--output", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
def provision(
    clients: tuple[int, ...], rate: float, local: float, remote: float, plot: bool, png: Path | None,
    local_share: tuple[float, ...], epsilon: float, output: str,
) -> None:  # fmt: skip
    """The containers that clients need.

    The least number, for clients that want local-state now and then.

    At most `cap` of the containers may then be local-state, so that the rest keeps up even when all of those are;
    `violation` is the chance that one session more wants it, given that any does.

    \b
    Examples:
      edged plan provision --clients 50 --local-share 0.3
      edged plan provision --clients 10,20,50,100 --local-share 0.2,0.3,0.4 --plot
      edged plan provision --clients 10,20,50,100 --local-share 0.2,0.3,0.4 -o csv
      edged plan provision --clients 100 --local-share 0.2,0.3,0.4 --png fig4.png
    """
    from edged.core.planning.latency import Setting
    from edged.core.planning.provision import provision as answer

    from . import plan_text

    asked = [(n, q) for q in local_share for n in clients]
    rows = [(n, q, answer(_setting(n, rate, local, remote), q, epsilon)) for n, q in asked]
    if output == "csv":
        click.echo(_csv(*plan_text.provision_rows(rows)), nl=False)
    elif output == "json":
        _document([plan_text.provision_document(found, *([] if len(rows) == 1 else [(n, q)])) for n, q, found in rows])
    else:
        plan_text.show(plan_text.provision_table(rows))
    for n, q, found in rows:
        if found is None:
            click.echo(f"{n} clients, {q:g} of the time: one container for each client is not enough", err=True)
    if plot or png:
        base = Setting(max(clients), 0, rate, local, remote)
        curves = [(q, _by_clients(base, q, epsilon)) for q in local_share]
        if plot:
            plan_text.show(plan_text.provision_plot(curves), err=output != "table")
        if png:
            _drawn("provision", png, curves)


def _setting(n: int, rate: float, local: float, remote: float) -> "Setting":
    from edged.core.planning.latency import Setting

    return Setting(n, n, rate, local, remote)


def _by_clients(base: "Setting", share: float, epsilon: float) -> list[tuple[float, float]]:
    """Containers a client, for up to so many clients; some hundred points of a long curve."""
    from edged.core.planning.provision import provision as answer

    numbers = range(1, base.clients + 1, max(1, base.clients // 400))
    found = ((n, answer(base._replace(clients=n), share, epsilon)) for n in numbers)
    return [(n, one.containers / n if one else math.nan) for n, one in found]


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue()


def _document(documents: list[dict[str, Any]]) -> None:
    from edgectl.render import to_json

    click.echo(to_json(documents[0] if len(documents) == 1 else documents))


def _drawn(figure: str, png: Path, curves: Any) -> None:
    """Raises ClickException for what keeps the file from being written."""
    try:
        from . import plan_figures
    except ImportError as error:
        raise click.ClickException(f"--png needs matplotlib ({error}): pip install 'edged[plot]'") from error
    try:
        getattr(plan_figures, figure)(curves, png)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{png}: {error}") from error
    click.echo(f"{png} written", err=True)
