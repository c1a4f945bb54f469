"""A function whose state has many keys, with whatever manifest a test wants."""

from pathlib import Path

CODE = '''
import os

from edged.sdk import Function, Session

fn = Function("keyed", state=dict)


@fn.handler
def put(s: Session, key: str, value: object) -> int:
    """Set one key; how many there are."""
    s.state[key] = value
    return len(s.state)


@fn.handler
def fill(s: Session, first: int, count: int, size: int) -> int:
    """Keys of that many bytes each."""
    for n in range(first, first + count):
        s.state[f"k{n}"] = bytes(size)
    return len(s.state)


@fn.handler
def noise(s: Session, first: int, count: int, size: int) -> int:
    """The same, of bytes that nothing makes smaller."""
    for n in range(first, first + count):
        s.state[f"k{n}"] = os.urandom(size)
    return len(s.state)


@fn.handler
def drop(s: Session, key: str) -> int:
    """Remove one key."""
    del s.state[key]
    return len(s.state)


@fn.handler
def incr(s: Session, by: int = 1) -> int:
    """Count."""
    s.state["n"] = s.state.get("n", 0) + by
    return s.state["n"]


@fn.shared
def echo(s: Session, value: object) -> object:
    """Without a session too."""
    return value


@fn.shared
def get(s: Session, key: str) -> object:
    """One key."""
    return s.state.get(key)
'''


def keyed(root: Path, code: str = CODE, **sections: str) -> Path:
    """A bundle below `root`; `sections` are the manifest's, each as TOML."""
    directory = root / "keyed"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "keyed.py").write_text(code)
    rest = "".join(f"[{name}]\n{text}\n" for name, text in sections.items())
    (directory / "function.toml").write_text(f'[function]\nname = "keyed"\nentry = "keyed:fn"\n{rest}')
    return directory
