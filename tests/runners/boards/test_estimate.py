"""What a board still costs is counted exactly and told in one line."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from results.errors import UserError
from runners.boards.calibrate import count, padded, work_of
from runners.boards.estimate import Rates, Work, estimate
from runners.boards.planned import Planned, Slot
from runners.jobs.job import Job
from runners.models.pretrained import load_tokenizer
from runners.tasks.kinds import kind_of
from runners.training.order import Order
from tests.conftest import Cli, configure, tiny
from tests.runners.boards.test_board import small


def test_work_equals_what_a_loop_over_every_batch_counts() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, size=333)
    budget = configure("task=rte", "budget.epochs=3", "budget.batch_size=8").settings.budget
    order = Order(5, lengths, 8, budget.length_bucket, budget.buckets)

    dev = np.array([4, 9, 2])
    found = work_of(budget, order, {"train": lengths, "dev": dev})
    assert found.steps == 3 * 42
    assert found.real == 3 * lengths.sum()
    first = sum(max(lengths[i] for i in batch) for batch in order.epoch(0) for _ in batch)
    assert found.epoch_padded == first
    assert found.padded == 3 * first
    assert found.evaluated_padded == 3 * 27  # one batch of three, after each epoch
    fewer = budget.model_copy(update={"steps": 21, "evaluate": "end"})
    half = work_of(fewer, order, {"train": lengths, "dev": dev})
    assert (half.steps, half.evaluated_padded) == (21, 27)
    assert half.real == round(lengths.sum() / 2)
    assert padded([np.array([0, 2])], dev) == 8


def test_seconds_are_those_of_every_phase() -> None:
    work = Work(steps=10, real=900, padded=1000, epoch_padded=100, evaluated_padded=200)
    rates = Rates(start=5, step=0.1, token=0.01, preparing_token=0.02, evaluated_token=0.001)
    assert rates.seconds(work) == pytest.approx(5 + 1 + 10 + 2 + 0.2)


def test_tokens_are_those_that_a_run_trains_on(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    from results.record import read_all

    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=6")
    assert cli(*given).code == 0
    [record] = read_all(tmp_path / "runs")
    work = count(Job(configure(*given)))
    assert work.steps == record.steps == 6  # an epoch, so each example once
    assert record.tokens_per_second is not None
    assert record.train_seconds is not None
    trained = record.tokens_per_second * record.train_seconds
    assert work.real == pytest.approx(trained, rel=0.02)  # the record rounds both
    assert record.real_token_share == pytest.approx(work.real / work.padded, abs=1e-3)


def test_counting_keeps_the_tokens_that_a_run_reads(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XLNet's had no segments, and the run that followed read these from the cache."""
    monkeypatch.setenv("TUNEBENCH_CACHE", str(tmp_path / "cache"))
    job = Job(configure(*tiny(tiny_folder("xlnet"), "task=rte")))
    count(job)
    encoded = kind_of(job.config).encode(job, load_tokenizer(job.weights))
    assert list((tmp_path / "cache").glob("tokens-*.npz"))
    [tokens] = encoded["train"].token_columns
    assert tokens.token_type_ids is not None


def test_plan_tells_what_is_done_and_what_is_left(
    cli: Cli, tiny_folder: Callable[[str], Path]
) -> None:
    given = small(tiny_folder("bert"), "board.methods=[child_tuning_d]", "budget.steps=8")
    plan = cli(*given, "plan=true", "workers=2")
    assert plan.code == 0, plan.err
    assert "done: 0 runs, 0 hours" in plan.err
    [(runs, tokens, hours)] = re.findall(
        r"to do: (\d+) runs, ([\d,]+) real tokens, about ([\d.e-]+) hours here with workers=2"
        r" threads=1",
        plan.err,
    )
    own = [a for a in given if not a.startswith("board")]
    smoke = ("task=rte", "data=embedded", "budget=smoke", "data.train_size=64", "data.eval_size=40")
    work = count(Job(configure(*smoke, *own)))
    assert int(runs) == 2
    assert int(tokens.replace(",", "")) == 2 * work.real
    assert 0 < float(hours) < 0.1
    assert cli(*given, "workers=2").code == 0
    again = cli(*given, "plan=true")
    assert "done: 2 runs" in again.err
    assert "to do:" not in again.err


def test_a_calibration_that_cannot_begin_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The broken pipe to it ended the command with code 141, as where its output is not read."""
    monkeypatch.setattr("runners.boards.estimate.sys", Mock(executable=shutil.which("false")))
    run = Planned(Slot(0, "rte", 1, []), [], "name", tmp_path / "name.json")
    with pytest.raises(UserError, match="the calibration failed"):
        estimate([run], lambda overrides: {"more": "than a pipe holds" * 2**14}, [{}])
