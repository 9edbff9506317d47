"""The peer of the benchmarks is a fair one: it learns what ours learns."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.benchmarks.bench import WORKS, theirs
from tests.conftest import in_soak


@in_soak
def test_the_trainer_scores_its_rows_in_the_order_of_its_predictions(real_glue: Path) -> None:
    """It groups dev by length as well; scored in the file's order, sst2 would be chance (.5)."""
    work = dataclasses.replace(WORKS["full-sst2-fp32"], train_size=1000)
    found = theirs(work, 42, real_glue)
    assert found["score"] > 0.65
    assert found["examples_per_second"] > 0
    assert 0 < found["seconds_to_first_step"] < found["whole_seconds"]
