"""`python -m sim.soak WORLDS [FIRST]` (in tests/): many worlds on all cores, with progress; exit 1 when one failed.

Without FIRST the worlds begin at a seed of their own, so that each soak sees other ones.
"""

import multiprocessing
import sys
import time
from random import SystemRandom

from .mesh import failure

CHUNK = 100
FAR = 2**40


def failed(seeds: range) -> list[str]:
    """What did not hold in these worlds."""
    told = [(seed, failure(seed)[0]) for seed in seeds]
    return [f"python -m sim.mesh {seed}: {why}" for seed, why in told if why]


def main(worlds: int, first: int) -> int:
    """Run them, report, and say how it ended."""
    print(f"{worlds} worlds from seed {first}", flush=True)
    chunks = [range(at, min(at + CHUNK, first + worlds)) for at in range(first, first + worlds, CHUNK)]
    began, done, failures = time.monotonic(), 0, 0
    with multiprocessing.Pool() as pool:
        for chunk, lines in zip(chunks, pool.imap(failed, chunks), strict=True):
            done += len(chunk)
            failures += len(lines)
            print("".join(f"\r\033[K{line}\n" for line in lines), end="")
            pace = done / (time.monotonic() - began)
            left = (worlds - done) / pace
            print(f"\r\033[K{done} of {worlds}, {pace:.0f}/s, {left:.0f} s left", end="", flush=True)
    print(f"\n{done} worlds, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    sys.exit(main(arguments[0], arguments[1] if len(arguments) > 1 else SystemRandom().randrange(FAR)))
