"""Calibration is tabled from logits that are their records', and from nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from results.__main__ import main
from results.logits import logits_path
from results.record import Record, write
from results.stats.calibration import calibration
from runners.exports.logits import save_logits
from tests.results.simulated import simulated

GOLD = np.random.default_rng(8).integers(2, size=90)


def _logits(seed: int) -> np.ndarray:
    """Return logits that know something of GOLD."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(90, 2)) + 1.2 * np.eye(2)[GOLD]).astype(np.float32)


def _put(
    folder: Path,
    method: str,
    seed: int,
    rows: np.ndarray,
    gold: Sequence[int],
    keeps: bool = True,
    device: str = "cpu",
) -> Record:
    """Write a record whose predictions are the highest of `rows`, and perhaps these beside it."""
    predicted = rows.argmax(axis=1)
    accuracy = float(np.mean(predicted == np.asarray(gold)))
    kept = {"predictions": predicted.tolist(), "references": [int(g) for g in gold]}
    record = simulated(method, "rte", seed, accuracy, trained_sha256=None)
    environment = {**record.environment, "device": device}
    record = dataclasses.replace(record, predictions={"validation": kept}, environment=environment)
    if keeps:
        sha256 = save_logits(logits_path(record, folder), {"validation": rows})
        record = dataclasses.replace(record, logits_sha256=sha256)
    write(record, folder)
    return record


def _printed(capsys: pytest.CaptureFixture[str], *given: str) -> tuple[str, str]:
    assert main(["calibration", *given]) == 0
    shown = capsys.readouterr()
    return shown.out, shown.err


def _line(text: str, method: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(f"{method} ")]
    return re.split(r"\s{2,}", line)


def test_rows_are_means_over_seeds_and_their_ensemble(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs"
    each = [_logits(seed) for seed in (1, 2, 3)]
    records = [_put(folder / "part", "full", s, rows, GOLD) for s, rows in enumerate(each)]
    _put(folder, "bitfit", 1, _logits(7), GOLD, keeps=False)
    text, said = _printed(capsys, str(folder))
    known = [calibration(rows, GOLD) for rows in each]
    powers = [np.exp(rows.astype(float)) for rows in each]
    mean = np.mean([p / p.sum(axis=1, keepdims=True) for p in powers], axis=0)
    whole = float(np.mean(mean.argmax(axis=1) == GOLD))
    scores = float(np.mean([record.score or 0.0 for record in records]))
    assert _line(text, "full")[:8] == [
        *("full", "rte", "3"),
        f"{np.mean([one.nll for one in known]):.3f}",
        f"{100 * np.mean([one.ece for one in known]):.1f}",
        f"{np.mean([one.brier for one in known]):.3f}",
        f"{100 * scores:.1f}",
        f"{100 * whole:.1f}",
    ]
    assert _line(text, "bitfit") == ["bitfit", "rte", "0/1", *["–"] * 6]
    assert "save=logits keeps a run's" in text
    assert said == ""
    markdown, _ = _printed(capsys, str(folder), "--format", "md", "--only", "method=full")
    assert f"| {100 * whole:.1f} |" in markdown
    assert "bitfit" not in markdown


def test_seeds_of_other_examples_make_no_ensemble(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _put(tmp_path, "full", 1, _logits(1), GOLD)
    _put(tmp_path, "full", 2, _logits(2), 1 - GOLD)
    text, _ = _printed(capsys, str(tmp_path))
    assert _line(text, "full")[-2:] == ["–", "–"]
    assert "there is no ensemble" in text


def test_bad_files_are_named_and_cost_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing, damaged, of other predictions, cut short, and one that its record does not name."""
    _put(tmp_path, "full", 1, _logits(1), GOLD)
    gone, cut, other, short = (_put(tmp_path, "full", s, _logits(s), GOLD) for s in (2, 3, 4, 5))
    logits_path(gone, tmp_path).unlink()
    path = logits_path(cut, tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    for record, rows in ((other, -_logits(4)), (short, _logits(5)[:-1])):
        sha256 = save_logits(logits_path(record, tmp_path), {"validation": rows})
        write(dataclasses.replace(record, logits_sha256=sha256), tmp_path)
    stray = _put(tmp_path, "full", 6, _logits(6), GOLD, keeps=False)
    logits_path(stray, tmp_path).write_bytes(b"")
    text, said = _printed(capsys, str(tmp_path))
    assert _line(text, "full")[2] == "1/6"
    lines = said.splitlines()
    reasons = ["cannot be read", "sha256", "not the record's predictions", "has float32 [89, 2]"]
    reasons.append("its record does not name it")
    for record, reason in zip((gone, cut, other, short, stray), reasons, strict=True):
        [line] = [line for line in lines if f"{record.run}.logits.npz" in line]
        assert line.startswith("passed over: ")
        assert reason in line
    assert len(lines) == 5


def test_a_run_on_two_devices_has_each_devices_own_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both records, and both files of logits, bear the run's one name."""
    _put(tmp_path / "a", "full", 1, _logits(1), GOLD)
    _put(tmp_path / "b", "full", 1, 7 * _logits(1), GOLD, device="cuda")
    text, said = _printed(capsys, str(tmp_path), "--split")
    assert said == ""
    of_cuda, of_cpu = text.split("protocol final")[1:]  # as headings are sorted
    assert _line(of_cpu, "full")[3] == f"{calibration(_logits(1), GOLD).nll:.3f}"
    assert _line(of_cuda, "full")[3] == f"{calibration(7 * _logits(1), GOLD).nll:.3f}"
    # One that kept none has those of no other.
    _put(tmp_path / "b", "full", 1, 7 * _logits(1), GOLD, keeps=False, device="cuda")
    text, said = _printed(capsys, str(tmp_path), "--split")
    assert text.count("full ") == 1
    assert _line(text, "full")[3] == f"{calibration(_logits(1), GOLD).nll:.3f}"


def test_without_logits_one_line_says_what_keeps_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _put(tmp_path, "full", 1, _logits(1), GOLD, keeps=False)
    text, _ = _printed(capsys, str(tmp_path))
    assert text.startswith("no record keeps logits: run with save=logits")
    assert text.count("\n") == 1


def test_logits_of_an_old_record_are_none(tmp_path: Path) -> None:
    """A record of before has no field for them, and is written without it again."""
    record = simulated()
    assert record.logits_sha256 is None
    assert "logits_sha256" not in record.to_json()
    named = dataclasses.replace(record, logits_sha256=hashlib.sha256(b"").hexdigest())
    assert '"logits_sha256"' in write(named, tmp_path).read_text()
