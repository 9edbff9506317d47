"""One run leaves one record; the same run again is recognised; what goes wrong is recorded too."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from methods.full import Full
from methods.registry import registered
from results import record as records
from results.errors import UserError
from runners.jobs.identity import HARNESS_VERSION
from runners.jobs.job import Job
from runners.models.weights import find_weights
from runners.runs.lease import Claim
from runners.tasks.collate import Collator
from tests.claims import take
from tests.conftest import ROOT, SMALL, Cli, configure, tiny

TinyFolder = Callable[[str], Path]
GOLDEN_RUN = "mrpc.bitfit.minilm.s1.0123456789ab"
GOLDEN = json.dumps(
    {
        **json.loads((ROOT / "tests" / "results" / "golden" / "schema_1.json").read_text()),
        "predictions": {},
    }
)


def _records(tmp_path: Path) -> list[records.Record]:
    return records.read_all(tmp_path / "runs")


def _name(*overrides: str) -> str:
    return Job(configure(*overrides)).name


def test_record_holds_what_was_asked_found_and_spent(
    cli: Cli, tiny_folder: TinyFolder, tmp_path: Path
) -> None:
    done = cli(*tiny(tiny_folder("bert"), "method=bitfit", "task=mrpc", "seed=3"))
    assert done.code == 0, done.err
    [record] = _records(tmp_path)
    assert (record.status, record.schema_version) == ("finished", 1)
    assert (record.methods, record.task, record.seed) == (["bitfit"], "mrpc", 3)
    assert record.command.startswith("python run.py data=embedded")
    assert set(record.scores["validation"]) == {"accuracy", "f1"}
    assert record.score == pytest.approx(sum(record.scores["validation"].values()) / 2)
    kept = record.predictions["validation"]
    assert len(kept["predictions"]) == len(kept["references"]) == 24
    agree = [p == r for p, r in zip(kept["predictions"], kept["references"], strict=True)]
    assert record.scores["validation"]["accuracy"] == pytest.approx(sum(agree) / 24)
    assert record.data["source"] == "embedded"
    assert record.data["splits"]["train"]["rows"] == 48
    assert len(record.data["splits"]["train"]["sha256"]) == 64
    assert record.config["lr"] == 2e-3
    assert record.config["method"] == [
        {"name": "bitfit", "version": 1, "subset": "all", "pooler": True, "layers": None}
    ]
    assert record.stored_bytes == 4 * record.parameters["trainable"]
    facts = record.environment
    assert {"commit", "dirty", "device", "threads", "precision", "deterministic"} <= set(facts)
    assert facts["libraries"]["torch"]
    assert facts["harness"] == HARNESS_VERSION
    for seconds in (record.train_seconds, record.eval_seconds, record.whole_seconds):
        assert seconds is not None
        assert seconds > 0
    assert record.start <= record.end
    assert record.peak_bytes is not None
    assert record.evaluations[-1]["scores"] == record.scores
    assert "EMBEDDED" in done.err
    assert "EMBEDDED" in done.out


def test_the_same_command_prints_the_stored_result_and_force_runs_again(
    cli: Cli, tiny_folder: TinyFolder, tmp_path: Path
) -> None:
    arguments = tiny(tiny_folder("bert"), "task=rte")
    first = cli(*arguments)
    [path] = (tmp_path / "runs").iterdir()
    written = path.stat().st_mtime_ns
    second = cli(*arguments)
    assert second.code == 0
    assert "stored result" in second.out
    assert path.stat().st_mtime_ns == written
    assert first.out.splitlines()[:5] == second.out.splitlines()[:5]
    third = cli(*arguments, "force=true")
    assert "stored result" not in third.out
    assert path.stat().st_mtime_ns > written


def test_record_of_another_run_is_no_stored_result(
    cli: Cli, tiny_folder: TinyFolder, tmp_path: Path
) -> None:
    arguments = tiny(tiny_folder("bert"), "task=rte")
    assert cli(*arguments, "seed=1").code == 0
    [first] = (tmp_path / "runs").glob("*.json")
    path = first.with_name(f"{_name(*arguments, 'seed=2')}.json")
    shutil.copy(first, path)
    done = cli(*arguments, "seed=2")
    assert done.code == 2
    assert done.err.splitlines()[-1] == (
        f"error: {path} holds the record of another run, {first.stem}: move it to {first.name}"
    )
    assert "stored result" not in done.out
    assert path.read_bytes() == first.read_bytes()


class _Log(io.RawIOBase):
    """A file that several runs may print to: holds each write as it arrives."""

    def __init__(self) -> None:
        self.writes: list[str] = []

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:  # type: ignore[override]
        self.writes.append(bytes(content).decode())
        return len(content)


@pytest.mark.parametrize("at_each_line", [False, True])
def test_a_result_reaches_a_shared_log_in_one_piece(
    at_each_line: bool, cli: Cli, tiny_folder: TinyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the lines of two runs that print to one log run into each other."""
    log = _Log()
    stream = io.TextIOWrapper(io.BufferedWriter(log), "utf-8", line_buffering=at_each_line)
    monkeypatch.setattr(sys, "stdout", stream)
    arguments = tiny(tiny_folder("bert"), "task=rte")
    for last in ("record: ", "stored result of "):
        log.writes.clear()
        assert cli(*arguments).code == 0
        [result] = log.writes
        assert "method" in result
        assert result.splitlines()[-1].startswith(last)
        assert result.endswith("\n")


def test_name_ignores_what_cannot_change_a_score(tiny_folder: TinyFolder) -> None:
    base = tiny(tiny_folder("bert"), "method=bitfit", "task=rte")
    name = _name(*base)
    assert name.startswith("rte.bitfit.bert.s42.")
    for same in (
        "out=/elsewhere",
        "threads=1",
        "lr=0.002",
        "budget.name=other",
        "save=delta",
        "budget.epochs=9",
    ):
        assert _name(*base, same) == name, same  # epochs: the smoke budget counts steps


@pytest.mark.parametrize(
    "change",
    [
        "seed=1",
        "lr=3e-3",
        "budget.batch_size=4",
        "budget.dropout=0",
        "precision=bf16",
        "method.bitfit.subset=query_intermediate",
        "data.train_size=20",
        "data.eval_size=20",
        "data.seed=1",
        "protocol=select",
        "budget.warmup=0",
        "method=linear",
        "task=wnli",
        "budget.length_bucket=1",
        "budget.buckets=16",
    ],
)
def test_name_changes_with_what_can_change_a_score(change: str, tiny_folder: TinyFolder) -> None:
    base = tiny(tiny_folder("bert"), "method=bitfit", "task=rte")
    assert _name(*base, change) != _name(*base)


def test_name_changes_with_the_methods_version_and_the_weights(
    tiny_folder: TinyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny(tiny_folder("bert"), "task=rte")
    before = _name(*base)
    assert _name(*tiny(tiny_folder("electra"), "task=rte")).split(".")[-1] != before.split(".")[-1]
    monkeypatch.setattr(Full, "version", 2)
    assert _name(*base) != before


def test_loss_that_becomes_nan_is_a_diverged_record(
    cli: Cli, tiny_folder: TinyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison(self: Full, model: torch.nn.Module, step: int) -> None:
        if step == 1:
            next(iter(model.parameters())).data.fill_(float("nan"))

    monkeypatch.setattr(Full, "after_step", poison)
    arguments = tiny(tiny_folder("bert"), "task=rte")
    done = cli(*arguments)
    assert done.code == 1
    assert "DIVERGED" in done.out
    [record] = _records(tmp_path)
    assert record.status == "diverged"
    assert record.error is not None
    assert record.error["step"] == 3
    assert record.score is None
    again = cli(*arguments)
    assert again.code == 1
    assert "stored result" in again.out


@pytest.mark.parametrize("task", ["rte", "stsb"])
def test_weights_that_the_last_step_ruined_are_no_result(
    task: str, cli: Cli, tiny_folder: TinyFolder, tmp_path: Path
) -> None:
    """The loss before it was finite; an answer of what is not finite is none."""
    ruin = ("budget.steps=1", "budget.warmup=0", "lr=1e38")
    assert cli(*tiny(tiny_folder("bert"), f"task={task}", *ruin)).code == 1
    [record] = _records(tmp_path)
    assert (record.status, record.score) == ("diverged", None)
    assert "a prediction on validation was not finite" in str(record.error)


def test_failed_run_exits_nonzero_and_leaves_a_record(
    cli: Cli, tiny_folder: TinyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Full, model: torch.nn.Module, step: int) -> None:
        raise RuntimeError("out of memory, say")

    arguments = tiny(tiny_folder("bert"), "task=rte")
    with monkeypatch.context() as patched:
        patched.setattr(Full, "after_step", fail)
        done = cli(*arguments)
    assert done.code == 1
    [record] = _records(tmp_path)
    assert record.status == "failed"
    assert record.error == {"type": "RuntimeError", "message": "out of memory, say"}
    assert record.environment["harness"] == HARNESS_VERSION
    assert record.config["task"]["name"] == "rte"
    assert {"device", "libraries", "commit"} <= record.environment.keys()
    assert cli(*arguments).code == 0  # a failed run is run again, and replaces its record
    assert [r.status for r in _records(tmp_path)] == ["finished"]


@pytest.mark.parametrize("again", ["force=true", "save=delta"])
@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_finished_record_outlives_the_same_run_that_fails(
    status: str, again: str, cli: Cli, tiny_folder: TinyFolder, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def spoil(self: Full, model: torch.nn.Module, step: int) -> None:
        if status == "failed":
            raise MemoryError("short for a moment")
        next(iter(model.parameters())).data.fill_(float("nan"))

    arguments = tiny(tiny_folder("bert"), "task=rte")
    assert cli(*arguments).code == 0
    [path] = (tmp_path / "runs").glob("*.json")
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(Full, "after_step", spoil)
        done = cli(*arguments, again)
    assert done.code == 1
    beside = path.with_name(f"{path.name}.{status}")
    assert f"record: {beside}; {path} holds a better one, which stays" in done.out
    assert json.loads(beside.read_text())["status"] == status
    assert path.read_bytes() == before
    assert [r.status for r in _records(tmp_path)] == ["finished"]
    assert "stored result" in cli(*arguments).out


@pytest.mark.parametrize("removed", [".claims", "."])
def test_finished_result_is_written_where_its_folder_was_removed(
    removed: str, cli: Cli, tiny_folder: TinyFolder, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "runs"
    monkeypatch.setattr(Full, "after_step", lambda *_: shutil.rmtree(out / removed, True))
    done = cli(*tiny(tiny_folder("bert"), "task=rte"))
    assert done.code == 0, done.err
    assert [r.status for r in _records(tmp_path)] == ["finished"]
    assert not (out / ".claims").exists()


def _succeed(out: Path, name: str, how: str) -> None:
    """Be the process that took a run over, and died or finished it."""
    [path] = out.glob(".claims/*.claim")
    stopped = {**json.loads(path.read_text()), "pid": 2**22 + 1}
    path.write_text(json.dumps(stopped))
    claim = take(out, name)
    assert isinstance(claim, Claim)
    if how == "lives":
        return
    claim._stop.set()
    if how == "finished":
        (out / f"{name}.json").write_text(GOLDEN.replace(GOLDEN_RUN, name))
        claim.release()
    else:
        facts = json.loads(claim.path.read_text())
        claim.path.write_text(json.dumps({**facts, "pid": 2**22 + 1}))


@pytest.mark.parametrize("how", ["died", "finished", "lives"])
def test_result_of_a_run_that_was_taken_over(
    how: str, cli: Cli, tiny_folder: TinyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written, unless who took it over lives or has written a record."""
    out, arguments = tmp_path / "runs", tiny(tiny_folder("bert"), "task=rte")
    name = _name(*arguments)

    def after_step(self: Full, model: torch.nn.Module, step: int) -> None:
        if step == 2:
            _succeed(out, name, how)

    monkeypatch.setattr(Full, "after_step", after_step)
    done = cli(*arguments)
    assert done.code == (0 if how == "died" else 3), done.err
    assert ("took" in done.err) == (how != "died")
    written = [path.read_text() for path in out.glob("*.json")]
    assert len(written) == (how != "lives")
    assert [GOLDEN.replace(GOLDEN_RUN, name)] == written or how != "finished"


def test_what_cannot_be_saved_beside_costs_no_result(
    cli: Cli, tiny_folder: TinyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason: memory, a model that moved meanwhile, a fault of a library."""
    for seed, error in enumerate((MemoryError("short"), UserError("no model"), KeyError("x"))):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("runners.runs.train.save_delta", fail)
        done = cli(*tiny(tiny_folder("bert"), "task=rte", "save=delta", f"seed={seed}"))
        assert done.code == 0, done.err
        assert f"could not be written ({error!r})" in done.err
    assert [r.status for r in _records(tmp_path)] == ["finished"] * 3


def test_interruption_leaves_no_record_and_its_own_exit_code(
    cli: Cli, tiny_folder: TinyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Full, model: torch.nn.Module, step: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Full, "after_step", interrupt)
    done = cli("-m", *tiny(tiny_folder("bert"), "task=rte", "seed=1,2", "own_process=false"))
    assert done.code == 130
    assert done.err.count("EMBEDDED") == 1  # the second job of the sweep was not begun
    assert list((tmp_path / "runs").iterdir()) == []


def test_select_reports_the_weights_best_on_the_part_cut_from_train(
    cli: Cli, tiny_folder: TinyFolder, tmp_path: Path
) -> None:
    options = (
        "protocol=select",
        "protocol.fraction=0.5",
        "budget.steps=12",
        "budget.evaluate=2",
        "lr=0.02",
    )
    done = cli(*tiny(tiny_folder("bert"), "task=mrpc", *options))
    assert done.code == 0, done.err
    [record] = _records(tmp_path)
    assert (
        record.data["splits"]["train"]["rows"] == record.data["splits"]["selection"]["rows"] == 24
    )
    assert len(record.evaluations) == 6
    parts = [sum(e["selection"].values()) / 2 for e in record.evaluations]
    assert record.selected is not None
    assert record.selected["score"] == pytest.approx(max(parts))
    chosen = record.evaluations[parts.index(max(parts))]
    assert record.selected["step"] == chosen["step"]
    assert record.scores == chosen["scores"]
    assert record.best_on_dev is not None
    assert record.best_on_dev["score"] >= (record.score or 0)


def test_best_on_dev_is_recorded_and_is_not_the_headline(
    cli: Cli, tiny_folder: TinyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four evaluations, the second is made perfect and the others are constant."""
    calls = []

    def answers(kind: object, model: object, collate: Collator, *rest: object) -> np.ndarray:
        calls.append(len(calls))
        assert collate.labels is not None
        return collate.labels.astype(float) * (calls[-1] == 1)

    monkeypatch.setattr("runners.tasks.labelled.Labelled._answers", answers)
    done = cli(*tiny(tiny_folder("bert"), "task=rte", "budget.evaluate=1"))
    assert done.code == 0, done.err
    [record] = _records(tmp_path)
    assert [e["scores"]["validation"]["accuracy"] for e in record.evaluations] == [0.5, 1, 0.5, 0.5]
    assert record.best_on_dev == {
        "step": 2,
        "score": 1.0,
        "scores": {"validation": {"accuracy": 1}},
    }
    assert record.score == 0.5
    assert "50.0" in done.out
    assert "100.0" not in done.out.split("validation:")[0]


def test_multirun_reaches_the_same_code(
    cli: Cli, tiny_folder: TinyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    several = ("-m", "method=glob(l*,exclude=lo*)", "seed=1,2", "own_process=false")
    done = cli(*several, *tiny(tiny_folder("bert"), "task=rte"))
    assert done.code == 0, done.err
    assert {(r.methods[0], r.seed) for r in _records(tmp_path)} == {
        (m, s) for m in registered() if m.startswith("l") and not m.startswith("lo") for s in (1, 2)
    }
    assert list((tmp_path / "here").iterdir()) == []


def test_bf16_runs_and_differs_from_fp32(cli: Cli, tiny_folder: TinyFolder, tmp_path: Path) -> None:
    for precision in ("fp32", "bf16"):
        assert cli(*tiny(tiny_folder("bert"), "task=rte", f"precision={precision}")).code == 0
    first, second = _records(tmp_path)
    assert first.trained_sha256 != second.trained_sha256
    assert {first.environment["precision"], second.environment["precision"]} == {"fp32", "bf16"}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_budgets_dropout_reaches_every_layer(dropout: float, tiny_folder: TinyFolder) -> None:
    from runners.models.pretrained import load_model
    from tests.tiny import ARCHITECTURES

    for architecture in ARCHITECTURES:
        settings = configure(*tiny(tiny_folder(architecture), "task=rte")).settings
        model = load_model(find_weights(settings.model), settings.task, 0, 48, dropout).model
        rates = [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)]
        assert rates or architecture == "modernbert"
        assert set(rates) <= {dropout}, architecture


def test_packaged_encoder_is_checked_and_runs(cli: Cli, tmp_path: Path) -> None:
    done = cli(*SMALL, "method=linear", "task=rte", "budget.steps=1")
    assert done.code == 0, done.err
    [record] = _records(tmp_path)
    assert record.weights["sha256"].startswith("53aa51172d142c89")
    assert record.parameters["total"] == 22_713_986  # 22,713,216 and a head of 2 x 384 + 2
    # The untrained pooler (384 x 384 + 384) is part of the head.
    assert record.parameters["trainable"] == 770 + 147_840
    assert record.parameters["trainable_without_head"] == 0
