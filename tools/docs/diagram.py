"""The diagram of a session's states in ARCHITECTURE.md, made from `core.transition`: `diagram.py` writes it there.

Run by path. A test compares; a diagram drawn by hand would be wrong with the next change of the table.
"""

from pathlib import Path

from edged.core.transition import HELD_BACK, NEXT, OWNING, SERVING_REMOTE, S

ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"
BEGIN = "<!-- made by tools/docs/diagram.py -->\n"
END = "<!-- end -->"

GROUPS = (
    ("remote", "remote-state", SERVING_REMOTE),
    ("owner", "owned here", OWNING),
    ("fence", "no reply leaves", HELD_BACK),
)


def diagram() -> str:
    """Mermaid text: a line for each state."""
    lines = ["```mermaid", "flowchart LR"]
    for name, title, states in GROUPS:
        members = "; ".join(state for state in S if state in states)
        lines.append(f'  subgraph {name} ["{title}"]; {members}; end')
    lines += [f"  {state} --> {' & '.join(next_ for next_ in S if next_ in NEXT[state])}" for state in S]
    return "\n".join([*lines, "```", ""])


def placed(text: str) -> str:
    """`text` with the diagram in its place."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + diagram() + END + after


if __name__ == "__main__":
    ARCHITECTURE.write_text(placed(ARCHITECTURE.read_text()))
