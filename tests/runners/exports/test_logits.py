"""Logits are those that the predictions came from, and nothing foreign gets in."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from results.errors import UserError
from results.logits import logits_path, read_logits
from results.record import Record, read_all
from runners.exports.delta import load_delta
from runners.jobs.job import Job
from tests.conftest import Cli, tiny
from tests.results.simulated import simulated

Folder = Callable[[str], Path]


def test_logits_change_no_run_and_are_its_predictions(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = tiny(tiny_folder("bert"), "method=bitfit", "task=rte", f"out={out}")
    assert cli(*given).code == 0
    [plain] = read_all(out)
    again = cli(*given, "save=logits")
    assert "was run without save=logits: it runs again for that" in again.err
    [record] = read_all(out)
    assert (record.run, record.scores, record.predictions, record.trained_sha256) == (
        *(plain.run, plain.scores, plain.predictions, plain.trained_sha256),
    )
    assert "logits_sha256" not in plain.to_json()
    logits = read_logits(record, out)
    [(split, kept)] = record.predictions.items()
    assert list(logits) == [split]
    assert logits[split].argmax(axis=1).tolist() == kept["predictions"]
    assert len({row.tobytes() for row in logits[split]}) > 1
    assert "stored result" in cli(*given, "save=logits").out
    logits_path(record, out).write_bytes(b"cut")
    assert "it runs again for that" in cli(*given, "save=logits").err
    assert np.array_equal(read_logits(record, out)[split], logits[split])


def test_logits_are_the_trained_models_own(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    """Each example by itself, without padding, through the model that save=delta left."""
    out = tmp_path / "out"
    given = tiny(tiny_folder("bert"), "method=bitfit", "task=rte", f"out={out}")
    assert cli(*given, "save=logits").code == 0
    [record] = read_all(out)
    [stored] = read_logits(record, out).values()
    assert cli(*given, "save=delta").code == 0
    [by_itself] = _by_itself(out / f"{record.run}.delta")
    assert np.allclose(stored[:12], by_itself, atol=1e-5)


def _by_itself(folder: Path) -> list[np.ndarray]:
    """Return by split a delta's logits of the first examples, each without any other."""
    delta = load_delta(folder)
    length, each = delta.config.settings.budget.max_length, []
    for split in Job(delta.config, trains=False).data.report.values():
        rows = []
        for texts in split.texts[:12]:
            tokens = delta.loaded.tokenizer(
                *texts, truncation=True, max_length=length, return_tensors="pt"
            )
            with torch.no_grad():
                rows.append(delta.loaded.model(**tokens).logits[0].numpy())
        each.append(np.array(rows))
    return each


@pytest.mark.parametrize("task", ["stsb", "sts", "mlm"])
def test_tasks_without_classes_keep_no_logits(task: str, cli: Cli, tmp_path: Path) -> None:
    method = {"sts": "embedding"}.get(task, "full")
    done = cli(f"task={task}", f"method={method}", "save=logits", f"out={tmp_path / 'out'}")
    assert done.code == 2
    assert "save=logits is for tasks that answer with one of their labels" in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def _record(folder: Path, **arrays: np.ndarray) -> Record:
    """Return a record of three predictions, beside which these arrays lie with the right hash."""
    record = simulated()
    path = logits_path(record, folder)
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return dataclasses.replace(
        record,
        predictions={"validation": {"predictions": [0, 1, 1], "references": [0, 1, 0]}},
        logits_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


GOOD = np.array([[2, 1], [0, 1], [1, 1]], np.float32)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (GOOD[:2], "has float32 [2, 2], the record 3 predictions"),
        (GOOD.astype(np.float64), "has float64 [3, 2]"),
        (GOOD[:, :1], "has 1 classes, and references name others"),
        (-GOOD, "not the record's predictions"),
        (np.where(GOOD == 2, np.float32(np.inf), GOOD), "holds nan or infinity"),
        (np.array([{}, {}, {}], object), "holds no arrays of numpy"),
    ],
)
def test_logits_at_odds_with_the_record_are_refused(
    rows: np.ndarray, said: str, tmp_path: Path
) -> None:
    assert np.array_equal(
        read_logits(_record(tmp_path, validation=GOOD), tmp_path)["validation"], GOOD
    )
    with pytest.raises(UserError) as refused:
        read_logits(_record(tmp_path, validation=rows), tmp_path)
    assert said in str(refused.value)


def test_damaged_and_missing_logits_are_named(tmp_path: Path) -> None:
    record = _record(tmp_path, validation=GOOD)
    path = logits_path(record, tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="its sha256 is not the record's"):
        read_logits(record, tmp_path)
    broken = dataclasses.replace(
        record, logits_sha256=hashlib.sha256(path.read_bytes()).hexdigest()
    )
    with pytest.raises(UserError, match="holds no arrays of numpy"):
        read_logits(broken, tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        read_logits(record, tmp_path)


def test_every_own_report_split_has_its_logits_and_no_further_set(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """Of the weights that were selected, where the last are others."""
    merge = "merge: {neutral: not_entailment, contradiction: not_entailment}"
    given = [f"+task.further.rte={{task: rte, {merge}}}", "protocol=select", "save=logits"]
    small = tiny(tiny_folder("bert"), "method=full", "task=mnli", f"out={tmp_path}", *given)
    done = cli(*small, "budget.evaluate=1", "lr=1e-2")
    assert done.code == 0, done.err
    [record] = read_all(tmp_path)
    assert record.selected is not None
    assert record.selected["step"] < (record.steps or 0)
    logits = read_logits(record, tmp_path)
    assert set(logits) == set(record.predictions) - {"rte"}
    assert len(logits) > 1
    for split, rows in logits.items():
        assert rows.shape == (len(record.predictions[split]["predictions"]), 3)
    small.remove("save=logits")
    assert cli(*small, "budget.evaluate=1", "lr=1e-2", "save=delta").code == 0
    by_itself = _by_itself(tmp_path / f"{record.run}.delta")[0]
    assert np.allclose(logits[next(iter(logits))][:12], by_itself, atol=1e-4)
