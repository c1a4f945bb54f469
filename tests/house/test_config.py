"""The configuration and the manifest: every mistake at once, with its line."""

import pytest

from edged.config import parse_config
from edged.core.manifest import parse_manifest
from edged.core.schema import Mistakes


def test_five_mistakes_are_five_lines() -> None:
    """Nothing is hidden behind the first mistake, and each names its line."""
    source = "\n".join(
        [
            "[node]",
            'nam = "a"',
            "[listen]",
            'address = "here"',
            "[store]",
            'url = "mysql:"',
            "[capacity]",
            "containers = -1",
            "[securty]",
            "insecure = true",
        ]
    )
    with pytest.raises(Mistakes) as caught:
        parse_config(source, "e.toml")
    assert [line for line, _ in caught.value.rows] == [2, 4, 6, 8, 9]
    assert "did you mean name?" in caught.value.lines[0]
    assert caught.value.lines[1].startswith("e.toml:4: ")


def test_an_open_port_needs_the_word_insecure() -> None:
    """Beyond loopback nothing is served in the clear unless the file says so."""
    with pytest.raises(Mistakes, match="insecure"):
        parse_config('[listen]\naddress = "0.0.0.0:7400"\n')
    with pytest.raises(Mistakes, match=r"listen\.http: .*insecure"):
        parse_config('[listen]\nhttp = "0.0.0.0:9100"\n')
    assert parse_config('[listen]\nhttp = "127.0.0.1:9100"\n').listen.http == "127.0.0.1:9100"
    loud = parse_config('[listen]\naddress = "0.0.0.0:7400"\n[security]\ninsecure = true\n')
    assert loud.security.insecure


def test_two_lines_make_a_function() -> None:
    """The manifest needs a name and an entry, everything else has a default."""
    manifest = parse_manifest('[function]\nname = "counter"\nentry = "counter:fn"\n')
    assert manifest.calls.deadline == 2.0
    assert manifest.state.max_bytes == 1 << 20
    with pytest.raises(Mistakes, match="did you mean max"):
        parse_manifest('[function]\nname = "c"\nentry = "c:fn"\n[pool]\nmaks = 1\n')
    with pytest.raises(Mistakes, match="did you mean calls"):
        parse_manifest('[function]\nname = "c"\nentry = "c:fn"\n[cals]\nqueue = 1\n')


def test_a_manifest_tells_what_it_asks_for_in_vain() -> None:
    """A setting without effect is never taken silently; the defaults ask for nothing."""
    head = '[function]\nname = "f"\nentry = "f:fn"\n'
    assert parse_manifest(head).warnings("no cgroups", 0) == []
    assert parse_manifest(head + "[limits]\ncpu = 0.5\n").warnings("", 0) == []
    [cpu] = parse_manifest(head + "[limits]\ncpu = 0.5\n").warnings("no cgroups", 0)
    assert cpu == "[limits] cpu has no effect on this node: no cgroups"
    assert parse_manifest(head + '[state]\nmax_bytes = "19MiB"\n').warnings("", 0) == []
    [large] = parse_manifest(head + '[state]\nmax_bytes = "20MiB"\n').warnings("", 0)
    assert large.startswith("[state] max_bytes is more than the 19 MiB that a store takes")
    assert parse_manifest(head).warnings("", 128 << 20) == []
    [memory] = parse_manifest(head).warnings("", 127 << 20)
    assert memory == "[limits] memory is more than this node has for all containers: it does not run here"


TWO_LINES = '[function]\nname = "f"\nentry = "f:fn"\n'
CONTRADICTIONS = [
    ('[function]\nname = "f"\nentry = "f"\n', "function.toml:3: function.entry: module:object"),
    ('[function]\nname = "f"\nentry = "/bin/sh"\nruntime = "exec"\n', "function.toml:3: function.entry: a path within"),
    ('[function]\nname = "f"\nentry = "bin/../../sh"\nruntime = "exec"\n', "function.toml:3: function.entry: a path within"),
    (f"{TWO_LINES}[modes]\nallow = []\n", "function.toml:5: modes.allow: remote, local or both"),
    (f'{TWO_LINES}[modes]\nallow = ["remote"]\nstart = "local"\n', "function.toml:6: modes.start: [modes] allow has no local"),
    (f'{TWO_LINES}[modes]\nallow = ["local"]\npolicy = "pinned-remote"\n', "function.toml:6: modes.policy: [modes] allow has"),
    (f"{TWO_LINES}[pool]\nmin = 5\n", "function.toml:5: pool.min: more than [pool] max, 4"),
    (f"{TWO_LINES}[pool]\nmax = 0\n", "function.toml:5: pool.max: without a container"),
    (f'{TWO_LINES}[calls]\ndeadline = "0s"\n', "function.toml:5: calls.deadline: more than 0"),
    (f"{TWO_LINES}[calls]\nhard_limit = 0\n", "function.toml:5: calls.hard_limit: more than 0"),
    (f"{TWO_LINES}[state]\nmax_bytes = 0\n", "function.toml:5: state.max_bytes: more than 0"),
]


@pytest.mark.parametrize(("source", "said"), CONTRADICTIONS)
def test_a_manifest_that_nobody_could_keep_is_a_mistake(source: str, said: str) -> None:
    """Settings that are right one by one, and together leave no way to run a call."""
    with pytest.raises(Mistakes) as caught:
        parse_manifest(source)
    [line] = caught.value.lines
    assert line.startswith(said)


def test_what_contradicts_is_told_with_all_other_mistakes() -> None:
    """Nobody mends a file only to be told of the next mistake in it."""
    with pytest.raises(Mistakes) as caught:
        parse_manifest('[function]\nname = "f"\nentry = "f"\n[pool]\nmin = 9\nmx = 9\n[modes]\npolicy = "pinned"\n')
    assert [line.split(": ")[0] for line in caught.value.lines] == [f"function.toml:{n}" for n in (3, 5, 6, 8)]
    with pytest.raises(Mistakes) as caught:
        parse_config('[listen]\naddress = "0.0.0.0:7400"\nport = 1\n[node]\nname = "A"\n', "e")
    assert [line.split(": ")[0] for line in caught.value.lines] == ["e:2", "e:3", "e:5"]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ('[node]\nname = "a"\n[store]\nurl = "mesh:a"\n', "e:4: store.url: this is the node itself"),
        ('[node]\ndata_dir = "edged"\n', "e:2: node.data_dir: a whole path"),
        ('[listen]\nadmin = "a.sock"\n', "e:2: listen.admin: a whole path"),
        (f'[listen]\nadmin = "/{"a" * 107}"\n', "e:2: listen.admin: at most 107 bytes"),
        (f'[node]\ndata_dir = "/{"a" * 96}"\n[listen]\nadmin = ""\n', "e:2: node.data_dir: too long for the admin socket"),
    ],
)
def test_a_node_that_could_not_start_or_serve_is_a_mistake(source: str, line: str) -> None:
    """What would only be seen at the start, or never be told, is told by `edged check`."""
    with pytest.raises(Mistakes) as caught:
        parse_config(source, "e")
    [said] = caught.value.lines
    assert said.startswith(line)
    assert parse_config(f'[node]\ndata_dir = "/{"a" * 95}"\n[listen]\nadmin = ""\n').listen.admin == ""


def test_a_function_of_local_state_alone_needs_no_pool() -> None:
    """`max = 0` is right where no call runs in a pool, and `start` need not be said twice."""
    manifest = parse_manifest(f'{TWO_LINES}[modes]\nallow = ["local"]\npolicy = "pinned-local"\n[pool]\nmax = 0\n')
    assert manifest.pool.max == 0
