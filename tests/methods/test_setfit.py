"""SetFit, its pairs written out, its head by scikit-learn, and both by the authors' library."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from methods.setfit import Setfit
from results.errors import UserError
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.models.build import trained_sha256
from runners.training.prepare import prepare
from tests.conftest import configure, tiny
from tests.methods.reference import Model, inner_stream, largest_difference, prepared, train
from tests.shapes import setting_of
from tests.tiny import tiny_model

Folder = Callable[[str], Path]
Batch = dict[str, torch.Tensor]
Rows = list[Batch]


def _rows(folder: Path, *more: str, task: str = "mrpc") -> Rows:
    """Return the rows of the first epoch one by one, without padding."""
    loop, _ = prepared(folder, "method=full", *more, task=task)
    rows = []
    for indices in loop.order.batches(0, loop.order.steps_per_epoch):
        batch = loop.collate(indices)
        for i, length in enumerate(batch["attention_mask"].sum(1).tolist()):
            cut = {k: v[i, :length] for k, v in batch.items() if v.ndim == 2}
            rows.append({**cut, "labels": batch["labels"][i]})
    return rows


def _padded(rows: Rows, length: int) -> Batch:
    """Return rows as one batch; 0 pads everything."""
    batch = {"labels": torch.stack([row["labels"] for row in rows])}
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        batch[name] = torch.zeros(len(rows), length, dtype=torch.long)
        for i, row in enumerate(rows):
            batch[name][i, : len(row[name])] = row[name]
    return batch


def _vectors(model: Model, batch: Batch) -> torch.Tensor:
    last = model(**batch, output_hidden_states=True).hidden_states[-1]
    lengths = batch["attention_mask"].sum(1).tolist()
    return torch.stack([states[:n].mean(0) for states, n in zip(last, lengths, strict=True)])


def _regression(model: Model, rows: Rows) -> LogisticRegression:
    """Fit scikit-learn's own to the vectors of all rows, in evaluation."""
    with torch.no_grad():
        vectors = [_vectors(model, _padded([row], len(row["input_ids"])))[0] for row in rows]
    labels = [int(row["labels"]) for row in rows]
    return LogisticRegression(max_iter=1000).fit(torch.stack(vectors).numpy(), labels)


@pytest.mark.parametrize("task", ["mrpc", "mnli"])
def test_setfit_equals_its_pairs_written_out(task: str, tiny_folder: Folder) -> None:
    folder, draws = tiny_folder("bert"), inner_stream("setfit")
    rows, held = _rows(folder, task=task), []
    labels = [int(row["labels"]) for row in rows]

    def drawn(wanted: list[int]) -> dict[str, torch.Tensor]:
        return rows[wanted[int(torch.randint(len(wanted), (), generator=draws))]]

    def loss_of(model: Model, batch: Batch) -> torch.Tensor:
        held.append(model)
        lengths = batch["attention_mask"].sum(1).tolist()
        own = [
            {k: v[i, :n] if v.ndim == 2 else v[i] for k, v in batch.items()}
            for i, n in enumerate(lengths)
        ]
        of = [int(row["labels"]) for row in own]
        same = [drawn([i for i, label in enumerate(labels) if label == one]) for one in of]
        other = [drawn([i for i, label in enumerate(labels) if label != one]) for one in of]
        every = [*own, *same, *other]
        width = max([batch["input_ids"].shape[1], *(len(row["input_ids"]) for row in every)])
        vectors = _vectors(model, _padded(every, width)).tensor_split(3)
        total = torch.zeros(())
        for mine, near, far in zip(*vectors, strict=True):
            for partner, target in ((near, 1.0), (far, 0.0)):
                cosine = mine @ partner / (mine.norm() * partner.norm())
                total = total + (cosine - target) ** 2 / (2 * len(own))
        return total

    loop, _ = prepared(folder, "method=setfit", task=task)
    loop.run(10)
    ours = {n: p.detach().clone() for n, p in loop.model.named_parameters()}
    theirs = train(folder, "speed.first_token=false", loss_of=loss_of, task=task)
    heads = [n for n in ours if n.startswith("classifier")]
    for name in heads:
        assert not torch.equal(ours.pop(name), theirs.pop(name))
    assert largest_difference(ours, theirs) < 1e-5
    loop.model.eval()
    regression = _regression(held[-1].eval(), rows)
    batch = _padded(rows, max(len(row["input_ids"]) for row in rows))
    expected = regression.predict_proba(_vectors(held[-1], batch).detach().numpy())
    answers = loop.model(**batch).logits.softmax(-1).detach().numpy()
    np.testing.assert_allclose(answers, expected, atol=1e-3)


def test_the_loss_is_that_of_sentence_transformers(tiny_folder: Folder) -> None:
    from sentence_transformers import losses

    loop, _ = prepared(tiny_folder("bert"), "method=setfit")
    [method] = loop.methods
    loop.model.eval()
    batch = loop.batch(next(iter(loop.order.batches(0, 1))))
    loss = method.loss(loop.model, batch, loop.forward)
    own, same, other = method.vectors.chunk(3)  # type: ignore[attr-defined]
    theirs: Any = losses.CosineSimilarityLoss(torch.nn.Identity())  # type: ignore[arg-type]
    target = torch.tensor([1.0] * len(own) + [0.0] * len(own))
    pairs = [torch.cat([own, own]), torch.cat([same, other])]
    torch.testing.assert_close(loss, theirs.compute_loss_from_embeddings(pairs, target))


def test_each_evaluation_is_of_a_head_that_is_fitted(tiny_folder: Folder) -> None:
    """Also one in the middle, after which training goes on as if there had been none."""
    given = tiny(tiny_folder("bert"), "task=sst2", "method=setfit", "budget.steps=6", "lr=1e-3")
    rows = _rows(tiny_folder("bert"), "data.train_size=48", task="sst2")
    ended = []
    for stop in (3, 6):
        job = Job(configure(*given))
        ready = prepare(job, make_accelerator("cpu", job.config))
        loop = ready.loop
        if stop == 3:
            loop.run(3)
            before = loop.model.classifier.weight.detach().clone()  # type: ignore[union-attr]
            ready.kind.predict(
                loop.model, ready.encoded, list(job.data.report.values()), loop.evaluation()
            )
            fitted = _regression(loop.model.eval(), rows)
            weight = loop.model.classifier.weight.detach().clone()  # type: ignore[union-attr]
            assert not torch.equal(weight, before)
            assert not weight[0].any()
            np.testing.assert_allclose(weight[1], fitted.coef_[0], rtol=1e-2, atol=1e-3)
            loop.model.train()
        loop.run(6)
        ended.append(trained_sha256(loop.model))
    assert ended[0] == ended[1]


def test_a_class_without_rows_is_never_answered(tiny_folder: Folder) -> None:
    loop, _ = prepared(tiny_folder("bert"), "method=setfit", task="mnli")
    [method] = loop.methods
    kept = method.rows["labels"] != 1  # type: ignore[attr-defined]
    method.rows = {n: t[kept] for n, t in method.rows.items()}  # type: ignore[attr-defined]
    method._fit(loop.model, loop.forward)  # type: ignore[attr-defined]
    loop.model.eval()
    answers = loop.model(**loop.batch(np.arange(24))).logits
    assert not bool((answers.argmax(-1) == 1).any())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["task=stsb"], "task=stsb has no classes: leave setfit out"),
        (["task=mix", "mix.of=[cola,rte]"], "task=mix has the classes of several tasks"),
        (["task=cola", "task.class_weights=[5,1]"], "lets classes count for more"),
        (["task=mlm", "mlm.on=[rte]"], "makes pairs of labelled texts"),
        (["method.setfit.C=0"], r"method\.setfit\.C=0"),
        (["method=[setfit,rdrop]"], "both define the loss"),
        (["method=[setfit,linear]"], "both decide on the head"),
        (["method=[setfit,attention_pool]"], "changes what the head reads"),
        (["method=[setfit,prompt]"], "puts vectors among the tokens"),
    ],
)
def test_what_has_no_pairs_is_refused_in_a_sentence(
    more: list[str], said: str, tiny_folder: Folder
) -> None:
    with pytest.raises(UserError, match=said) as refused:
        prepared(tiny_folder("bert"), "method=setfit", *more, task="mrpc")
    assert "\n" not in str(refused.value)


def test_where_no_pair_can_teach_anything_that_is_said(tiny_folder: Folder) -> None:
    loop, _ = prepared(tiny_folder("bert"), "method=setfit")
    [method] = loop.methods
    batch = loop.batch(np.arange(8))
    alike = [{**batch, "labels": torch.zeros_like(batch["labels"])}]
    with pytest.raises(UserError, match="all rows that are trained on are of one class"):
        method.before_training(loop.model, alike, loop.forward)
    loop, _ = prepared(tiny_folder("bert"), "method=setfit")
    loop.model.requires_grad_(False)
    with pytest.raises(UserError, match="nothing of the encoder trains"):
        loop.methods[0].loss(loop.model, batch, loop.forward)


def test_options_have_no_classes(tiny_folder: Folder) -> None:
    model = tiny_model(tiny_folder("bert"))
    with pytest.raises(UserError, match="this task has no classes"):
        Setfit().prepare(model, replace(setting_of(model), num_labels=1))


@pytest.mark.skipif(importlib.util.find_spec("setfit") is None, reason="setfit is not installed")
def test_predictions_are_those_of_the_authors_library(tiny_folder: Folder, tmp_path: Path) -> None:
    """Its vectors of a text and its head, of the encoder that was trained here."""
    from sentence_transformers import SentenceTransformer, models
    from setfit import SetFitModel

    job = Job(configure(*tiny(tiny_folder("bert"), "task=sst2", "method=setfit")))
    ready = prepare(job, make_accelerator("cpu", job.config))
    ready.loop.run(ready.loop.steps)
    ready.loop.model.bert.save_pretrained(tmp_path)  # type: ignore[union-attr, operator]
    ready.loaded.tokenizer.save_pretrained(tmp_path)
    words = models.Transformer(str(tmp_path), max_seq_length=48)
    pooling = models.Pooling(words.get_word_embedding_dimension(), "mean")
    theirs = SetFitModel(
        model_body=SentenceTransformer(modules=[words, pooling], device="cpu"),
        model_head=LogisticRegression(max_iter=1000),
    )
    split = job.data.train
    texts, labels = [row[0] for row in split.texts], list(split.labels or [])
    theirs.fit(texts, labels, num_epochs=1)
    expected = np.asarray(theirs.predict_proba(texts, as_numpy=True))
    ready.loop.model.eval()
    batch = ready.loop.batch(np.arange(len(texts)))
    answers = ready.loop.model(**batch).logits.softmax(-1).detach().numpy()
    np.testing.assert_allclose(answers, expected, atol=1e-3)
