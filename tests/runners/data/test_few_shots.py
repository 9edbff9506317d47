"""Few-shot splits, against the published procedure written out on lines of a file."""

from __future__ import annotations

import numpy as np
import pytest

from results.errors import UserError
from runners.data.split import TaskData
from runners.jobs.job import Job
from tests.conftest import configure

SEEDS = (13, 21, 42, 87, 100)


def _data(*more: str) -> TaskData:
    return Job(configure("data=embedded", *more)).data


def _published(lines: list[tuple[object, ...]], seed: int, k: int) -> tuple[set[int], set[int]]:
    """Return which lines are train and dev; a line is its number and its class."""
    kept = np.random.get_state()
    np.random.seed(seed)
    shuffled = list(lines)
    np.random.shuffle(shuffled)  # type: ignore[arg-type]
    np.random.set_state(kept)
    train: list[int] = []
    dev: list[int] = []
    for wanted in {label for _, label in lines}:
        own = [number for number, label in shuffled if label == wanted]
        train += own[:k]  # type: ignore[arg-type]
        dev += own[k : 2 * k]  # type: ignore[arg-type]
    return set(train), set(dev)


@pytest.mark.parametrize("task", ["sst2", "mnli", "stsb"])
@pytest.mark.parametrize("seed", SEEDS)
def test_splits_are_those_of_the_published_procedure(task: str, seed: int) -> None:
    whole = _data(f"task={task}").train
    assert whole.labels is not None
    classes = [int(y >= 2.5) if task == "stsb" else y for y in whole.labels]
    train, dev = _published(list(enumerate(classes)), seed, 16)
    drawn = _data(f"task={task}", "data.shots=16", f"data.seed={seed}", "protocol=select")
    assert drawn.selection is not None
    assert drawn.train.texts == tuple(whole.texts[i] for i in sorted(train))
    assert drawn.selection.texts == tuple(whole.texts[i] for i in sorted(dev))
    assert drawn.selection.name == "selection"
    number = len(set(classes))
    assert len(drawn.train) == len(drawn.selection) == 16 * number
    assert not train & dev
    plain = _data(f"task={task}", "data.shots=16", f"data.seed={seed}")
    assert plain.selection is None
    assert plain.train.sha256 == drawn.train.sha256
    reported = [{n: s.sha256 for n, s in one.report.items()} for one in (plain, drawn)]
    assert reported[0] == reported[1]


def test_each_seed_draws_its_own_where_it_is_to() -> None:
    first, second = (
        _data("task=sst2", "data.shots=4", "data.seed=seed", f"seed={seed}") for seed in (13, 21)
    )
    assert first.train.sha256 != second.train.sha256
    assert first.drawn_from == second.drawn_from
    fixed = _data("task=sst2", "data.shots=4", "data.seed=13")
    assert fixed.train.sha256 == first.train.sha256


def test_names_hold_the_rows_and_no_share_that_says_nothing() -> None:
    plain = Job(configure("data=embedded", "task=sst2"))
    few = ["data=embedded", "task=sst2", "data.shots=4", "protocol=select"]
    one, other = (Job(configure(*few, f"protocol.fraction={f}")).name for f in (0.1, 0.2))
    assert one == other != plain.name
    assert "shots" not in str(plain.config.settings.model_dump())


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["data.train_size=8"], "data: shots=4 and train_size=8 both say"),
        (["protocol=select", "protocol.rows=8"], "leave protocol.rows out"),
        (["task=mlm", "mlm.on=[rte]"], "data.shots=4 is for tasks with classes or scores"),
        (["task=sts", "method=simcse"], "data.shots=4 is for tasks with classes or scores"),
        (["task=stsb", "task.range=null"], "task=stsb has no range"),
    ],
)
def test_what_cannot_be_is_refused(typed: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        configure("data=embedded", "task=sst2", "data.shots=4", *typed)


def test_too_few_rows_of_a_class_are_counted() -> None:
    whole = _data("task=rte").train
    assert whole.labels is not None
    counts = [whole.labels.count(label) for label in (0, 1)]
    shots = min(counts)
    with pytest.raises(UserError, match=rf"data.shots={shots} .* ask for {shots // 2} or fewer"):
        _data("task=rte", f"data.shots={shots}", "protocol=select")
    with pytest.raises(UserError, match=rf"entailment {counts[0]}, not_entailment {counts[1]}: "):
        _data("task=rte", f"data.shots={max(counts) + 1}")


def test_a_seed_that_their_generator_does_not_take_is_one_sentence() -> None:
    given = ("data=embedded", "task=sst2", "data.shots=4")
    configure(*given, f"data.seed={2**32 - 1}")
    with pytest.raises(UserError, match="draws by a seed below"):
        configure(*given, f"data.seed={2**32}")
