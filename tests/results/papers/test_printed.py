"""Each sentence is held against its paper's own numbers, read here once more from the CSVs."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from statistics import fmean
from typing import Any

import pytest

from methods.registry import registered
from results.papers.claims import Claim, known_claims
from results.papers.printed import Printed
from results.papers.published import FOLDER

CLAIMS = known_claims()
ROUNDING = 0.02  # of two printed averages and of their printed difference
NUMBER = re.compile(r"(?<![\w.,-])\d+(?:,\d{3})*(?:\.\d+)?(?!\w)")
DOWN = ("below", "lost", "costs", "within")
BOUNDS = ("within", "at most", "or less")  # of what may be lost; more is contradicted


@cache
def _lines(paper: str) -> list[dict[str, str]]:
    with (FOLDER / f"{paper}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _row(printed: Printed, place: str, method: str, options: str) -> list[float]:
    """Return a row's values in the order of the tasks, of errors with the sign turned."""
    values = []
    for task in printed.tasks:
        wanted = (place, printed.model, str(printed.train), task, method, options)
        keys = ("place", "model", "train", "task", "method", "options")
        [line] = [
            line
            for line in _lines(printed.paper)
            if tuple(line[key] for key in keys) == wanted and "mismatched" not in line["split"]
        ]
        values.append(float(line["value"]) * (-1 if line["metric"] == "error rate" else 1))
    return values


def _rows(printed: Printed, place: str, rows: Mapping[str, str]) -> list[list[float]]:
    return [_row(printed, place, method, options) for method, options in rows.items()]


def gap(printed: Printed, for_each_task: bool = False) -> float:
    """Return the best row's average minus the best average to beat, or the best value of each."""
    mine = max(fmean(row) for row in _rows(printed, printed.place, printed.method))
    others = _rows(printed, printed.above_place or printed.place, printed.above)
    if not others:
        return -mine if printed.turned else mine
    if for_each_task:
        return mine - fmean(map(max, zip(*others, strict=True)))
    return mine - max(map(fmean, others))


def _numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def _of_the_table(claim: Claim) -> list[str]:
    """Return what is wrong between a sentence's points and its paper's table."""
    if claim.printed is None or claim.points is None:
        return []
    by = gap(claim.printed, claim.for_each_task)
    if f"{by:+.2f}".replace("-", "−") in claim.note:
        return []
    if claim.points == 0 or claim.decided:
        out = by > 0 if claim.points == 0 else by >= claim.points
        return [] if out else [f"the table gives {by:+.2f}, less than {claim.points:+g}"]
    near = abs(by - claim.points) <= ROUNDING
    return [] if near else [f"the table gives {by:+.2f}, not {claim.points:+g}"]


def _of_the_words(claim: Claim) -> list[str]:
    """Return the fields that the words do not say, and the numbers that no field or table has."""
    words = _numbers(f"{claim.claim} {claim.decided}")
    fields: list[float] = [] if not claim.points else [abs(claim.points)]
    fields += [] if claim.share_at_most is None else [claim.share_at_most]
    fields += [claim.train] if isinstance(claim.train, int) else []
    fields += [] if claim.seconds_at_most is None else [round(100 * claim.seconds_at_most - 100, 6)]
    pairs = [a / b for a in words for b in words if a < b]
    wrong = [f"{field:g} is not said" for field in fields if field not in words]
    if claim.memory_at_most is not None:
        wrong += [] if claim.memory_at_most in pairs else ["no two numbers are in that ratio"]
        return wrong
    if claim.points and not claim.decided:
        down = any(word in claim.claim for word in DOWN)
        wrong += [] if down == (claim.points < 0) else ["the points go the other way"]
    if (claim.points or 0) < 0 and not any(w in f"{claim.claim} {claim.decided}" for w in BOUNDS):
        wrong.append("no difference at all would support it: say at most, or turn its sides round")
    train = "" if claim.printed is None else str(claim.printed.train)
    known = [*fields, *_numbers(train)]
    return wrong + [f"{number:g} stands nowhere else" for number in words if number not in known]


def problems(claim: Claim) -> list[str]:
    return _of_the_table(claim) + _of_the_words(claim)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.claim)
def test_sentence_says_what_its_papers_own_numbers_give_or_notes_why_not(claim: Claim) -> None:
    assert problems(claim) == []
    control = claim.source.startswith("a control")
    costs = claim.seconds_at_most is not None or claim.memory_at_most is not None
    assert claim.printed or claim.note or control or costs
    printed = claim.printed
    if printed and isinstance(claim.train, int):
        of_two = f"{claim.train // 2} of each class"
        assert printed.train in (claim.train, of_two)


def _changed(claim: Claim) -> list[Claim]:
    """Return the claim with each of its numbers changed, one at a time."""
    changed: list[dict[str, Any]] = []
    for name in ("points", "share_at_most", "seconds_at_most", "memory_at_most"):
        value = getattr(claim, name)
        if value is not None:
            changed += [{name: round(value + by, 6)} for by in (-0.1, -0.03, 0.03, 0.1)]
            changed += [{name: -value}] if value else []
    if isinstance(claim.train, int):
        changed += [{"train": claim.train + 1}, {"train": claim.train * 10}]
    for number in NUMBER.finditer(claim.claim):
        text = claim.claim[: number.start()] + "77" + claim.claim[number.end() :]
        changed.append({"claim": text})
    return [replace(claim, **fields) for fields in changed]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.claim)
def test_a_changed_number_is_seen(claim: Claim) -> None:
    assert [c for c in _changed(claim) if not problems(c)] == []


FOUR = ["cola", "mrpc", "rte", "stsb"]
ELSEWHERE = {  # numbers that are told in passing, each from a table too
    8.85: Printed(paper="yuan2023", place="Table 1", model="xlnet-large", tasks=FOUR,
                  method={"hype": "hype.distribution=uniform"}, above={"full": ""}),
    0.82: Printed(paper="yuan2023", place="Table 5", above_place="Table 1", model="bert-large",
                  method={"child_tuning_f": "", "child_tuning_d": ""}, above={"full": ""},
                  tasks=FOUR),
    -0.44: Printed(paper="houlsby2019", place="Table 1", model="bert-large",
                   method={"adapter": "size best of 8, 64, 256"}, above={"full": ""},
                   tasks=[*FOUR, "sst2", "qqp", "mnli", "qnli"]),
}  # fmt: skip


def test_numbers_that_sources_and_notes_tell_in_passing_are_in_a_table() -> None:
    for number, printed in ELSEWHERE.items():
        assert gap(printed) == pytest.approx(number, abs=0.005)
    allowed = {abs(number) for number in ELSEWHERE}
    for claim in CLAIMS:
        told = re.sub(r"section [\d.]+|et al\. \d+", "", f"{claim.source} {claim.note}")
        decimals = [number for number in _numbers(told) if number % 1]
        printed = claim.printed
        lines = [] if printed is None else _lines(printed.paper)
        known = {number for line in lines for number in _numbers(" ".join(line.values()))}
        if printed is not None:
            known |= {abs(round(gap(printed, claim.for_each_task), 2)), abs(claim.points or 0)}
        assert [n for n in decimals if n not in known | allowed] == [], claim.claim


def test_every_link_is_to_lines_that_are_there_once() -> None:
    for claim in CLAIMS:
        if claim.printed is not None:
            gap(claim.printed)  # else "not enough values to unpack", or too many
    with pytest.raises(ValueError, match="values to unpack"):
        gap(replace(ELSEWHERE[8.85], place="Table 99"))


def _parts(rows: Sequence[str]) -> set[str]:
    return {part for row in rows for part in re.split(r", | on | after | with ", row)[0].split("+")}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.claim)
def test_sentence_of_rows_that_cannot_be_run_here_says_what_it_lacks(claim: Claim) -> None:
    if not claim.lacks:
        assert _parts([*claim.methods, *claim.above]) <= set(registered())
