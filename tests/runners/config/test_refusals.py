"""What is refused where it is typed, and still read where an old record or delta says it."""

from __future__ import annotations

import copy
import re

import pytest

from results.errors import UserError
from runners.config.check import from_record
from runners.contract.parts import composed, configure

PLACES = [
    *(
        f"task.{source}.{where}"
        for source in ("local", "hub")
        for where in ("report", "where_present")
    ),
    *("task.diagnostics", "task.pairs"),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["train", "selection"])
def test_a_split_called_as_one_of_the_runs_own_is_refused(place: str, name: str) -> None:
    """It took the place of the training split, which then was dev."""
    task, method = ("sts", "embedding") if place == "task.pairs" else ("mnli", "full")
    value = {"task.diagnostics": "[accuracy]", "task.pairs": "{file: a.tsv}"}.get(
        place, "MNLI/a.tsv"
    )
    given = [f"task={task}", f"method={method}", f"+{place}.{name}={value}"]
    with pytest.raises(UserError, match=rf"{re.escape(place)}\.{name}: a run calls a split"):
        configure(*given)
    stored = copy.deepcopy(composed(tuple(given)))
    from_record(stored)  # what was run is taken as it is


@pytest.mark.parametrize("source", ["local", "hub"])
def test_two_report_splits_of_one_name_are_refused(source: str) -> None:
    with pytest.raises(UserError, match=rf"task\.{source}\.where_present\.validation_matched: "):
        configure("task=mnli", f"+task.{source}.where_present.validation_matched=other.tsv")


def test_shipped_tasks_have_no_such_split() -> None:
    for task in ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli"):
        configure(f"task={task}")
    configure("task=sts", "method=simcse", "protocol=select")
