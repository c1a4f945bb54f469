"""Where a node listens: what lies in the way, and what does not."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from edged.config import parse_config
from edged.daemon.listeners import Listeners


@pytest.fixture
def listeners(tmp_path: Path) -> Callable[[], Listeners]:
    """Those of a node whose admin socket is `admin` in the directory of the test."""
    config = parse_config(f'[listen]\naddress = "127.0.0.1:0"\nadmin = "{tmp_path}/admin"\n')
    return lambda: Listeners(config.listen, tmp_path)


async def test_a_file_is_never_taken_for_a_socket_of_a_former_life(tmp_path: Path, listeners: Callable[[], Listeners]) -> None:
    """A slip in `[listen] admin` costs the start, and not the file it names."""
    (tmp_path / "admin").write_text("precious")
    refused = listeners()
    with pytest.raises(FileExistsError, match="admin"):
        refused.open()
    refused.close()
    assert (tmp_path / "admin").read_text() == "precious"


async def test_a_socket_of_a_former_life_is_in_nobodys_way(tmp_path: Path, listeners: Callable[[], Listeners]) -> None:
    """After a kill the file is still there: the next life takes its place."""
    with socket.socket(socket.AF_UNIX) as former:
        former.bind(str(tmp_path / "admin"))
    again = listeners()
    again.open()
    with socket.socket(socket.AF_UNIX) as dialled:
        dialled.connect(again.admin)
    again.close()
