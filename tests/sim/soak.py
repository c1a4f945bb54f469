"""`python -m sim.soak WORLDS [FIRST]` (in tests/): many worlds on all cores, with progress; exit 1 when one failed.

Without FIRST the worlds begin at a seed of their own, so that each soak sees other ones.
"""

import sys
import time
from random import SystemRandom

from .worlds import World, told_by_all_cores

FAR = 2**40
AT_ONCE = 100_000
"""Worlds given to the processes at a time: a list of a million would be all there is to see for a while."""


def main(worlds: int, first: int) -> int:
    """Run them, report, and say how it ended."""
    print(f"{worlds} worlds from seed {first}", flush=True)
    began, done, failures = time.monotonic(), 0, 0
    for at in range(first, first + worlds, AT_ONCE):
        seeds = range(at, min(at + AT_ONCE, first + worlds))
        for told in told_by_all_cores([World(seed) for seed in seeds]):
            done += told.worlds
            failures += len(told.failures)
            print("".join(f"\r\033[K{line}\n" for line in told.failures), end="")
            pace = done / (time.monotonic() - began)
            left = (worlds - done) / pace
            print(f"\r\033[K{done} of {worlds}, {pace:.0f}/s, {left:.0f} s left", end="", flush=True)
    print(f"\n{done} worlds, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    sys.exit(main(arguments[0], arguments[1] if len(arguments) > 1 else SystemRandom().randrange(FAR)))
