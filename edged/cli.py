"""The `edged` program: `run`, `check`, `dev`, `plan`, `sim` (DESIGN §9)."""

import sys
from pathlib import Path

import click

from edgectl.program import Program

from .mistakes import or_exit
from .plan import plan
from .sim import sim


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edged")
def main() -> None:
    """Run a node of an edged mesh: broker and worker host in one daemon.

    Example: edged dev --nodes 3
    """


@main.command()
@click.option("--config", type=click.Path(path_type=Path), required=True, help="a TOML file")
def run(config: Path) -> None:
    """Run one node until SIGINT, SIGTERM or SIGHUP.

    Then it takes no more calls, answers those that run, saves its sessions to the store, names on stderr what
    could not be saved, and exits with 0.

    Example: edged run --config /etc/edged/edged.toml
    """
    from edged.config import load_config
    from edged.daemon.main import run_node

    sys.exit(run_node(or_exit(load_config, config)))


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Say every mistake of a configuration file, each with its line.

    Example: edged check /etc/edged/edged.toml
    """
    from edged.config import load_config

    or_exit(load_config, file)
    click.echo(f"{file}: ok")


@main.command()
@click.option("--nodes", default=1, show_default=True, type=click.IntRange(1, 64), help="how many")
@click.option("--data-dir", type=click.Path(path_type=Path), help="kept; default: a temporary one")
@click.option(
    "--containers",
    default=16,
    show_default=True,
    type=click.IntRange(0, 4096),
    help="slots of each node",
)
def dev(nodes: int, data_dir: Path | None, containers: int) -> None:
    """Run a mesh on loopback, with no configuration.

    The first node serves the store. Prints one JSON line when all of them serve, then stays until SIGINT,
    SIGTERM or SIGHUP; each node then answers what runs and saves its sessions.

    Example: edged dev --nodes 3
    """
    from edged.daemon.dev import run_mesh

    sys.exit(run_mesh(nodes, data_dir, containers))


main.add_command(plan)
main.add_command(sim)

if __name__ == "__main__":
    main()
