"""What a class counts for in the loss, against torch's own weighted loss."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy

from methods.method import Batch, Output
from methods.surgery.divergences import both_kl, cross_entropies, difference
from results.errors import UserError
from results.record import read_all
from runners.config.refusals import task_problems
from runners.data.class_weights import class_weights
from runners.data.split import Split
from runners.jobs.job import Job
from tests.conftest import Cli, configure, narrow, tiny
from tests.methods.reference import prepared_run

Folder = Callable[[str], Path]
WEIGHTS = torch.tensor([1.0, 3.5])


def test_loss_is_torchs_weighted_one_and_evaluation_knows_no_weights(tiny_folder: Folder) -> None:
    given = ("task.class_weights=[1,3.5]",)
    ready = prepared_run(tiny_folder("bert"), *given)
    plain = prepared_run(tiny_folder("bert"))
    batch = ready.loop.batch(np.arange(12))
    assert len(set(batch["labels"].tolist())) == 2
    ready.loop.model.eval()
    output = ready.loop.forward(batch)
    expected = cross_entropy(output.logits, batch["labels"], weight=WEIGHTS)
    assert torch.equal(output.loss, expected)
    plain.loop.model.eval()
    assert torch.equal(plain.loop.forward(batch).logits, output.logits)
    assert not torch.equal(plain.loop.forward(batch).loss, output.loss)
    assert plain.kind.divisible
    assert not ready.kind.divisible  # halves of a batch have weighted means of their own
    unlabelled = {k: v for k, v in batch.items() if k != "labels"}
    answers = [r.kind.answer(r.loop.model, unlabelled) for r in (ready, plain)]
    assert torch.equal(*answers)


@pytest.mark.parametrize(
    ("method", "apart", "strength"),
    [("rdrop", difference, 0.5), ("smart", both_kl, 1.0), ("sift", cross_entropies, 5.0)],
)
def test_methods_that_own_the_loss_weigh_classes_too(
    method: str, apart: Any, strength: float, tiny_folder: Folder
) -> None:
    ready = prepared_run(tiny_folder("bert"), *narrow(method), "task.class_weights=[1,3.5]")
    loop, outputs = ready.loop, list[Output]()
    batch = loop.batch(np.arange(12))

    def forward(given: Batch) -> Output:
        outputs.append(loop.forward(given))
        return outputs[-1]

    [owner] = loop.methods
    loss = owner.loss(loop.model, batch, forward)
    first, last = outputs[0].logits, outputs[-1].logits
    task = cross_entropy(first, batch["labels"], weight=WEIGHTS)
    if method == "rdrop":
        task = 0.5 * (task + cross_entropy(last, batch["labels"], weight=WEIGHTS))
    expected = task + strength * apart(last, first).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def _name(*more: str) -> str:
    return Job(configure("task=mrpc", "data=embedded", "data.balanced=none", *more)).name


def test_a_run_is_named_by_its_weights_where_it_has_some() -> None:
    plain, balanced = _name(), _name("task.class_weights=balanced")
    assert _name("task.class_weights=null") == plain
    labels = Job(configure("task=mrpc", "data=embedded")).data.train.labels
    assert labels is not None
    theirs = compute_class_weight("balanced", classes=np.arange(2), y=np.array(labels))
    weights = theirs.tolist()
    names = {
        plain,
        balanced,
        _name("task.class_weights=[1,3]"),
        _name("task.class_weights=[3,1]"),
    }
    assert len(names) == 4
    assert _name(f"task.class_weights={weights}".replace(" ", "")) == balanced
    same = _name("task.class_weights={equivalent: 3, not_equivalent: 1}")
    assert same == _name("task.class_weights=[1,3]")


def test_a_rare_class_is_answered_where_classes_count_alike(
    tmp_path: Path, tiny_folder: Folder, cli: Cli
) -> None:
    """9:1, with a word in 4 of 5 rows of the rare class and 1 of 5 of the other.

    The rows with that word are of the rare class in 31 of 100 cases only, so that a plain loss
    answers the other class always; with equal classes it is 80 of 100.
    """
    for name, size in (("train", 200), ("dev", 100)):
        rows = []
        for i in range(size):
            rare = i % 10 == 0
            word = (i // 10) % 5 != 0 if rare else i % 5 == 1
            rows.append((f"the {'cast' if word else 'music'} is warm", "odd" if rare else "usual"))
        with (tmp_path / f"{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("text", "label"), *rows])
    (tmp_path / "own" / "task").mkdir(parents=True)
    (tmp_path / "own" / "task" / "mine.yaml").write_text(
        "name: mine\ntext: [text]\nlabels: [usual, odd]\nmetrics: [macro_f1]\n"
        f"local: {{train: {tmp_path}/train.csv, report: {{validation: {tmp_path}/dev.csv}}}}\n"
    )
    typed = ["--config-dir", str(tmp_path / "own"), "task=mine", "data=local", "lr=5e-3"]
    typed += ["budget.steps=40", "budget.max_length=16", "budget.evaluate=end", "device=cpu"]
    typed += [f"model.name_or_path={tiny_folder('bert')}", "budget.length_bucket=1"]
    for more in ((), ("task.class_weights=balanced",)):
        done = cli(*typed, *more)
        assert done.code == 0, done.err
    recall = {}
    for record in read_all(tmp_path / "runs"):
        kept = record.predictions["validation"]
        rare = [p for p, r in zip(kept["predictions"], kept["references"], strict=True) if r == 1]
        weights = record.data.get("class_weights")
        recall[record.config["task"].get("class_weights")] = sum(rare) / len(rare)
        assert weights is None or weights == {"usual": 200 / 360, "odd": 5.0}
    assert recall[None] == 0
    assert recall["balanced"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("task=stsb", "task.class_weights=balanced"), "kind=regression has no classes"),
        (
            ("task=sts", "method=simcse", "task.class_weights=balanced"),
            "class_weights is for kind=classification; kind=similarity has no classes",
        ),
        (("task=mlm", "mlm.on=[rte]", "task.class_weights=balanced"), "is for kind=classification"),
        (("task=rte", "task.class_weights=[1,2,3]"), "has 3 numbers and labels 2 names; give one"),
        (("task=rte", "task.class_weights={entailment: 2}"), "differently_named"),
        (("task=rte", "task.class_weights=rare"), "must be balanced, [1, 3], or {LABEL: 3}"),
        (("task=rte", "task.class_weights=[1,0]"), "each number > 0"),
        (("task=rte", "task.class_weights=[1,true]"), "each number > 0"),
        (
            ("task=rte", "task.class_weights=balanced", "budget.batch_size=1"),
            "a weighted mean over a batch, and one row's is its own",
        ),
    ],
)
def test_weights_that_cannot_be_are_refused(typed: tuple[str, ...], said: str) -> None:
    said = said.replace("differently_named", "other labels than labels does (not_entailment)")
    with pytest.raises(UserError) as refused:
        configure(*tiny(Path("nowhere"), *typed))
    assert said in str(refused.value), refused.value


def test_a_mixture_refuses_a_task_that_weighs_its_classes() -> None:
    task = configure("task=mix", "task.mixture.of=[rte,mrpc]", "data=embedded").settings.task
    assert task.mixture is not None
    rte = task.mixture.tasks["rte"].model_copy(update={"class_weights": "balanced"})
    tasks = {**task.mixture.tasks, "rte": rte}
    mixture = task.mixture.model_copy(update={"tasks": tasks})
    assert task_problems(task, "embedded") == []
    [problem] = task_problems(task.model_copy(update={"mixture": mixture}), "embedded")
    assert "task=rte has class_weights, and a mixture weighs no classes" in problem


def test_a_class_without_rows_has_no_balanced_weight() -> None:
    task = configure("task=mrpc", "data=embedded", "task.class_weights=balanced").settings.task
    train = Split("train", (("a", "b"), ("c", "d")), (1, 1))
    with pytest.raises(UserError, match="no row of train is not_equivalent"):
        class_weights(task, train)
