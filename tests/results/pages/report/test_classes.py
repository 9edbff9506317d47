"""Confusions, scores by class, ranks and bins are those that can be worked out by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from results.pages.report.answers import Answers
from results.pages.report.classes import by_class, class_section, confusion, confusion_section
from results.pages.report.curves import factor, running, thinned
from results.pages.report.scatter import correlations
from results.pages.report.scores import baseline, most_frequent
from results.pages.report.texts import Texts
from results.pages.report.worst import worst_section
from results.stats.calibration import BINS, bins, ece
from runners.config.settings import Budget
from runners.training.schedule import learning_rate_factor

TASK = {"kind": "classification", "labels": ["no", "yes"], "positive_label": "yes"}


def _answers(predictions: list[float], gold: list[float], **task: object) -> Answers:
    whole = {**TASK, **task}
    sides = (np.asarray(side, np.float64) for side in (predictions, gold))
    return Answers("validation", whole, str(whole["kind"]), *sides)


def test_four_predictions_are_counted_by_hand() -> None:
    # gold no, no, yes, yes; answers no, yes, yes, yes
    counted = confusion(np.array([0.0, 1, 1, 1]), np.array([0.0, 0, 1, 1]))
    assert counted.pairs.tolist() == [[0, 0], [0, 1], [1, 1]]
    assert counted.counts.tolist() == [1, 1, 2]
    no, yes = by_class(counted)
    assert (no.precision, no.recall, no.f1) == (1, 0.5, pytest.approx(2 / 3))
    assert (yes.precision, yes.recall, yes.f1) == (pytest.approx(2 / 3), 1, pytest.approx(4 / 5))
    assert (no.support, no.answered, yes.support, yes.answered) == (2, 1, 2, 3)


def test_a_division_by_zero_is_told_and_no_number() -> None:
    three = ["a", "b", "c"]
    counted = confusion(np.array([0.0, 0]), np.array([0.0, 1]), named=3)
    a, b, c = by_class(counted)
    assert (a.precision, a.recall) == (0.5, 1)
    assert (b.precision, b.recall, b.f1) == (None, 0, 0)
    assert (c.precision, c.recall, c.f1) == (None, None, None)
    shown = class_section(_answers([0, 0], [0, 1], labels=three))
    assert "No precision (0/0)" in shown
    assert "No recall (0/0)" in shown
    assert shown.count("<td>0/0</td>") == 4
    whole = class_section(_answers([0, 1], [0, 1]))
    assert "0/0)" not in whole


def test_random_answers_agree_with_scikit_learn() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    gold, said = (rng.integers(0, 5, 300).astype(float) for _ in range(2))
    counted = confusion(said, gold)
    square = np.zeros((5, 5), int)
    square[counted.pairs[:, 0], counted.pairs[:, 1]] = counted.counts
    assert (square == confusion_matrix(gold, said)).all()
    theirs = precision_recall_fscore_support(gold, said)
    ours = [(c.precision, c.recall, c.f1, c.support) for c in by_class(counted)]
    assert np.allclose(np.array(ours, float), np.array(theirs).T)


def test_a_matrix_says_counts_and_shares_under_the_labels_names() -> None:
    shown = confusion_section(_answers([0, 1, 1, 1], [0, 0, 1, 1]))
    assert shown.count("<small>50 %</small>") == 2
    assert "<b>2</b><small>100 %</small>" in shown
    assert '<th scope="row">no</th>' in shown


def test_many_classes_are_listed_and_not_squared() -> None:
    n = 100_000
    gold = np.arange(n, dtype=float)
    began = time.monotonic()
    many = Answers("validation", {"labels": []}, "classification", np.roll(gold, 1), gold)
    shown = confusion_section(many) + class_section(many)
    assert time.monotonic() - began < 10
    assert "100,000 classes have no room in a matrix" in shown
    assert len(shown) < 30_000
    right = confusion_section(_answers(list(range(20)), list(range(20)), labels=[]))
    assert "No row is answered wrongly." in right


@pytest.mark.parametrize(
    ("gold", "expected", "always"),
    [([0, 0, 0, 1], (0.75, 0.0), "no"), ([0, 1, 1, 1], (0.75, 6 / 7), "yes"),
     ([0, 1], (0.5, 2 / 3), "yes")],
)  # fmt: skip
def test_the_baseline_answers_the_most_frequent_label(
    gold: list[float], expected: tuple[float, float], always: str
) -> None:
    from sklearn.metrics import f1_score

    answers = _answers([0.0] * len(gold), gold)
    floors = baseline(answers, ["accuracy", "f1", "matthews_correlation"])
    assert (floors["accuracy"], floors["f1"]) == pytest.approx(expected)
    assert floors["matthews_correlation"] == 0
    assert most_frequent(answers) == always
    constant = [["no", "yes"].index(always)] * len(gold)
    assert floors["f1"] == pytest.approx(f1_score(gold, constant))
    macro = baseline(answers, ["macro_f1"])["macro_f1"]
    assert macro == pytest.approx(f1_score(gold, constant, average="macro"))


def test_bins_are_those_that_the_error_is_of() -> None:
    sure = np.array([0.9, 0.95, 0.6, 0.55])
    probabilities = np.stack([sure, 1 - sure], axis=1)
    gold = np.array([0, 1, 0, 1])
    each = bins(probabilities, gold)
    assert sum(one.rows for one in each) == 4
    gaps = sum(one.rows * abs(one.accuracy - one.confidence) for one in each) / 4
    assert gaps == pytest.approx(ece(probabilities, gold))
    last = each[-1]
    assert (last.low, last.high, last.rows) == ((BINS - 1) / BINS, 1, 1)
    assert (last.accuracy, last.confidence) == (0, pytest.approx(0.95))


def test_the_worst_rows_are_those_of_the_largest_loss_or_error() -> None:
    answers = _answers([0, 0, 1], [0, 1, 1])
    logits = np.array([[2, 0], [3, 0], [0, 1]], np.float32)
    shown = worst_section(answers, logits, Texts("There."))
    rows = shown.split('<th scope="row">')[1:]
    assert [row.split("<")[0] for row in rows] == ["2", "3", "1"]
    assert f"{np.log1p(np.exp(3)):.3f}" in rows[0]
    assert f"{100 / (1 + np.exp(3)):.1f} %" in rows[0]
    without = worst_section(answers, None, Texts("There."))
    assert (
        "The first of 1 that are answered wrongly; which are worst, logits would tell." in without
    )
    numbers = _answers([1.0, 5.0, 2.0], [1.5, 1.0, 2.0], kind="regression", labels=[])
    rows = worst_section(numbers, None, Texts("")).split('<th scope="row">')[1:]
    assert [row.split("<")[0] for row in rows] == ["2", "1", "3"]
    cosines = _answers([0.9, 0.1, 0.5], [0.0, 4.0, 2.0], kind="similarity", labels=[])
    rows = worst_section(cosines, None, Texts("")).split('<th scope="row">')[1:]
    assert [row.split("<")[0] for row in rows] == ["1", "2", "3"]


def test_correlations_are_told_or_why_there_are_none() -> None:
    line = np.array([1.0, 2.0, 4.0])
    assert correlations(line, line**2).endswith("Spearman's 1.0000.")
    assert f"{np.corrcoef(line, line**2)[0, 1]:.4f}" in correlations(line, line**2)
    assert correlations(np.ones(3), line) == "No correlation: all predictions are equal."
    assert correlations(line[:1], line[:1]) == "One row has no correlation."


def test_a_running_mean_and_a_thinned_line() -> None:
    assert running([1.0, 3.0, 5.0, 7.0], 2) == [1, 2, 4, 6]
    many = thinned([float(i) for i in range(100_000)])
    assert len(many) <= 500
    assert many[1] == (201.0, 200.0)


@pytest.mark.parametrize("schedule", ["linear", "constant", "slanted_triangular"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.9])
def test_the_rate_is_that_of_the_runs(schedule: str, warmup: float) -> None:
    budget = Budget.model_construct(schedule=schedule, warmup=warmup)
    for steps in (1, 7, 100):
        theirs = learning_rate_factor(budget, steps)
        ours = [factor(schedule, warmup, steps, step) for step in range(steps)]
        assert ours == pytest.approx([theirs(step) for step in range(steps)])
    assert factor("cosine", 0.1, 10, 3) is None
