"""How often tables claim what is not there, and what is: python -m tests.results.family.

Boards are simulated and judged by the project's own table code. Prints, for each kind of scores and
number of seeds, the part of boards with any false difference to the baseline, the part of columns
with a row falsely set below another, and the part of true differences that are claimed, beside
Holm's correction of separate sign-flip tests.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from results.record import Record
from results.stats.compare import Comparison, judge
from results.stats.paired import LEVEL, Floats, holm
from results.tables.collect import tables
from tests.results.simulated import simulated

ROWS, TASKS = 13, ("cola", "mrpc", "rte", "stsb")  # beside the baseline


FLIPS = 2000  # of signs: a p value is valid for any number, and boards are many


SHIFT = 4.0  # standard deviations of a score, where half of the rows are truly shifted


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.normal(size=shape)


def _rounded(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Scores of few examples: a step is half of their standard deviation."""
    return np.asarray(np.round(2 * rng.normal(size=shape)) / 2)


def _skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.lognormal(0, 1, size=shape)


KINDS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
    "normal": _normal,
    "rounded": _rounded,
    "collapsed": _normal,
    "skewed": _skewed,
}


def board(rng: np.random.Generator, kind: str, seeds: int, shifted: int) -> list[Record]:
    """Return a board's records; rows have unequal spreads, the last `shifted` ones are lower."""
    noise = KINDS[kind](rng, (ROWS + 1, len(TASKS), seeds))
    if kind == "skewed":
        noise -= np.exp(0.5)  # a mean of zero
    spread = rng.uniform(0.3, 3, size=(ROWS + 1, 1, 1))
    shared = rng.normal(size=(1, len(TASKS), seeds))  # what a seed does to all rows
    scores = noise * spread + shared
    if kind == "collapsed":  # one seed in ten, of all rows alike, and as deep
        scores -= 20.0 * (rng.uniform(size=scores.shape) < 0.1)
    scores[len(scores) - shifted :] -= SHIFT * spread[len(scores) - shifted :]
    names = ["full", *(f"method{row}" for row in range(1, ROWS + 1))]
    return [
        simulated(names[row], task, seed + 1, 0.5 + scores[row, t, seed] / 400)
        for row in range(ROWS + 1)
        for t, task in enumerate(TASKS)
        for seed in range(seeds)
    ]  # fmt: skip


def errors(judged: Comparison, shifted: int) -> tuple[float, float, float, float]:
    """Return the false differences (0 or 1), columns with a false place, and both tests' power.

    A row that is truly as good as the best may not be out of its column's tie group.
    """
    alike = {"full", *(f"method{row}" for row in range(1, ROWS + 1 - shifted))}
    keys = list(judged.adjusted)
    by_holm = dict(zip(keys, holm([judged.differences[k].p or 1.0 for k in keys]), strict=True))
    claimed = [key for key in keys if judged.claimed(key)]
    out = np.mean([bool(alike - group) for group in judged.tied.values()])
    true = [key for key in keys if key[0] not in alike]
    power = np.mean([judged.claimed(key) for key in true]) if true else float("nan")
    holms = [by_holm[key] < LEVEL and judged.differences[key].excludes_zero for key in true]
    return (
        float(any(row in alike for row, _ in claimed)),
        float(out),
        float(power),
        float(np.mean(holms)) if true else float("nan"),
    )


def rates(kind: str, seeds: int, shifted: int, boards: int) -> Floats:
    """Return the means of `errors` over boards from a fixed stream."""
    rng = np.random.Generator(np.random.PCG64([list(KINDS).index(kind), seeds, shifted]))
    each = []
    for _ in range(boards):
        [table] = tables(board(rng, kind, seeds, shifted))
        each.append(errors(judge(table, flips=FLIPS), shifted))
    return np.asarray(np.mean(each, axis=0))


def main() -> None:
    """Print a Markdown table, a line for each kind and number of seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "boards", nargs="?", type=int, default=200, help="of each kind (%(default)s)"
    )
    boards = parser.parse_args().boards
    print("| scores | seeds | rows shifted | false difference | false place | power | Holm's |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for kind in KINDS:
        for seeds in (6, 8, 12):
            for shifted in (0, ROWS // 2):
                rate = rates(kind, seeds, shifted, boards)
                shown = ["–" if np.isnan(x) else f"{x:.3f}".lstrip("0") or "0" for x in rate]
                print(f"| {kind} | {seeds} | {shifted} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
