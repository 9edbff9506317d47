"""Mixtures: a task's loss is that of its own outputs, each is reported, kills change nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch

from results.record import read_all
from results.tables.collect import tables
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.training.prepare import Prepared, prepare
from tests.conftest import EACH_KIND, Cli, configure, narrow, tiny
from tests.runners.training.test_checkpoint import outcome, whole_and_cut

Folder = Callable[[str], Path]
MIX = "mix=[mnli,stsb,cola]"  # three outputs, one, and two


def _small(folder: Path, *more: str) -> list[str]:
    given = tiny(folder, *more)
    return [a for a in given if not a.startswith("task=") or a in more]


def _ready(folder: Path, *more: str) -> Prepared:
    config = configure(*_small(folder, MIX, *more))
    return prepare(Job(config), make_accelerator("cpu", config))


def test_a_batchs_loss_is_that_of_its_tasks_outputs_alone(tiny_folder: Folder) -> None:
    ready = _ready(tiny_folder("bert"), "budget.dropout=0")
    loop, model = ready.loop, ready.loop.model
    groups = loop.collate.groups
    assert groups is not None
    for group, place in enumerate((slice(0, 3), slice(3, 4), slice(4, 6))):
        rows = np.flatnonzero(groups == group)[:6]
        batch = loop.collate(rows)
        model.zero_grad()
        ours = loop.forward(batch)
        ours.loss.backward()
        inputs = {k: v for k, v in batch.items() if k not in ("labels", "group")}
        pooled = model.bert(**inputs).pooler_output
        logits = pooled @ model.classifier.weight[place].T + model.classifier.bias[place]
        assert torch.allclose(ours.logits, logits, atol=1e-6)
        if group == 1:
            expected = ((logits[:, 0] - batch["labels"]) ** 2).mean()
        else:
            chosen = logits.log_softmax(-1)[torch.arange(len(rows)), batch["labels"]]
            expected = -chosen.mean()
        assert ours.loss.item() == pytest.approx(expected.item(), rel=1e-5)
        gradient = model.classifier.weight.grad
        others = [i for i in range(6) if not place.start <= i < place.stop]
        assert gradient[place].abs().sum() > 0
        assert gradient[others].abs().sum() == 0


@pytest.mark.parametrize("group", [0, 1])
def test_a_batch_of_scores_has_the_difference_of_scores(group: int, tiny_folder: Folder) -> None:
    """What decides is the batch's task, not the run's: a symmetric KL of one output is none."""
    ready = _ready(tiny_folder("bert"), "method=rdrop", "method.rdrop.alpha=1")
    loop, [method] = ready.loop, ready.loop.methods
    assert loop.collate.groups is not None
    batch = loop.collate(np.flatnonzero(loop.collate.groups == group)[:6])
    loop.model.train()
    torch.manual_seed(3)
    ours = method.loss(loop.model, batch, loop.forward)
    torch.manual_seed(3)
    one, other = loop.forward(batch), loop.forward(batch)
    if group == 1:
        apart = ((one.logits - other.logits) ** 2).mean()
    else:
        p, q = one.logits.softmax(-1), other.logits.softmax(-1)
        apart = 0.5 * ((p - q) * (p.log() - q.log())).sum(-1).mean()
    assert apart > 0
    assert ours.item() == pytest.approx((0.5 * (one.loss + other.loss) + apart).item(), rel=1e-5)


def test_each_task_is_reported_in_the_column_of_its_own_runs(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = _small(tiny_folder("bert"), "threads=1")
    assert cli(*given, MIX, "save=delta").code == 0
    for task in ("mnli", "stsb", "cola"):
        assert cli(*given, f"task={task}").code == 0
    records = read_all(tmp_path / "runs")
    [mixed] = [r for r in records if r.task == "mix"]
    [table] = tables(records)
    assert table.tasks == ("cola", "stsb", "mnli")
    assert [row.method for row in table.rows] == ["full", "full mixing mnli, stsb, cola"]
    assert all(len(row.cells) == 3 for row in table.rows)
    scores = {t: table.rows[1].cells[t].mean for t in table.tasks}
    assert scores["stsb"] == pytest.approx(fmean(mixed.scores["stsb/validation"].values()))
    matched = [mixed.scores[f"mnli/validation_{x}matched"]["accuracy"] for x in ("", "mis")]
    assert scores["mnli"] == pytest.approx(fmean(matched))  # its diagnostic set is no part of it
    assert mixed.score == pytest.approx(fmean(v for v in scores.values() if v is not None))
    # Predictions are the tasks' own labels and scores.
    assert set(mixed.predictions["cola/validation"]["predictions"]) <= {0, 1}
    assert set(mixed.predictions["mnli/validation_matched"]["predictions"]) <= {0, 1, 2}
    own = next(r for r in records if r.task == "cola")
    references = [r.predictions[n]["references"] for r, n in
                  ((mixed, "cola/validation"), (own, "validation"))]  # fmt: skip
    assert references[0] == references[1]
    steps = {r.task: r.steps or 0 for r in records}
    assert steps["mix"] == steps["cola"]  # the budget is of steps
    verified = cli(f"verify={mixed.run}", "threads=1")
    assert verified.code == 0, verified.err
    scored = cli(f"eval={tmp_path / 'runs' / mixed.run}.delta")
    assert scored.code == 0, scored.err
    shown = 100 * mixed.scores["cola/validation"]["matthews_correlation"]
    assert f"cola/validation: matthews_correlation {shown:.2f}" in scored.out


def test_it_may_be_a_stage(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    given = _small(tiny_folder("bert"), "own_process=false")
    assert cli(*given, MIX, "save=delta").code == 0
    [mixed] = read_all(tmp_path / "runs")
    done = cli(*given, "task=rte", f"start={mixed.run}")
    assert done.code == 0, done.err
    assert "full after mix(mnli+stsb+cola)" in done.out
    planned = cli(*given, "stages=[mix,rte]", "stages.0.mix.of=[mnli,rte]", "plan=true")
    assert planned.code == 0, planned.err
    assert "mix.of=[mnli,rte]" in planned.out
    refused = cli(*given, "task=rte", f"start={mixed.run}", "start.head=keep")
    assert refused.code == 2
    assert "start.head=keep" in refused.err.splitlines()[-1]


@pytest.mark.parametrize("draw", ["proportional", "sqrt"])
def test_killed_run_goes_on_to_the_same_end(
    draw: str, cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = _small(tiny_folder("bert"), MIX, f"mix.draw={draw}", "budget.steps=6")
    whole, cut = whole_and_cut(cli, given, tmp_path, monkeypatch, 3)
    assert (outcome(cut), cut.run, cut.resumed) == (outcome(whole), whole.run, [3])


@pytest.mark.parametrize("method", sorted(EACH_KIND))
def test_every_method_trains_a_mixture_or_is_refused_by_name(
    method: str, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = _small(tiny_folder("bert"), MIX, *narrow(method), "budget.steps=2")
    done = cli(*given)
    if done.code:
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert method in done.err
    else:
        [record] = read_all(tmp_path / "runs")
        assert record.status == "finished"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["mix=[mnli]"], "two tasks or more"),
        (["task=mix"], "two tasks or more"),
        (["mix=[mnli,mnli]"], "mix.of names mnli twice"),
        (["mix=[mnli,rtee]"], "did you mean rte?"),
        (["mix=[mnli,sts]"], "task=sts"),
        (["mix=[mnli,rte]", "task=rte"], "name two tasks"),
        (["mix=[mnli,rte]", "mix.draw=odd"], "draw"),
        (["mix=[mnli,rte]", "protocol=select"], "no one part to select by"),
        (["task=rte", "mix.draw=even"], "mixture"),
        (["stages=[mix,rte]", "mix=[mnli,rte]"], "stages.0.mix.of=[mnli,rte]"),
        (["mix=[mnli,rte]", "budget.truncate=tail"], "budget.truncate"),
    ],
)
def test_wrong_mixtures_are_one_line(typed: list[str], said: str, cli: Cli) -> None:
    done = cli("data=embedded", *typed)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert said in done.err
