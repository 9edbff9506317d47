"""EMA and SWA against sums over all weights of a trajectory, and what a run evaluates and keeps."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from methods.ema import Ema
from methods.swa import Swa
from results.errors import UserError
from results.record import Record, read_all
from runners.contract.parts import kept_sha256
from runners.models.build import trained_sha256
from runners.tasks.scoring import Scoring
from runners.training.loop import Loop
from tests.conftest import Cli, configure, tiny
from tests.methods.reference import Model, prepared, train
from tests.runners.training.test_checkpoint import outcome

Folder = Callable[[str], Path]
Tensors = dict[str, torch.Tensor]


def _trajectory(folder: Path, *arguments: str) -> list[Tensors]:
    """Return the weights before the first of ten steps of plain fine-tuning, and after each."""
    kept: list[Tensors] = []

    def keep(model: Model, *_: Any) -> None:
        kept.append({n: p.detach().double() for n, p in model.named_parameters()})

    train(folder, *arguments, start=keep, after_step=keep)
    return kept


def _sum(weighed: Sequence[tuple[float, Tensors]]) -> Tensors:
    return {n: sum(c * w[n] for c, w in weighed) for n in weighed[0][1]}


def _ema(weights: Sequence[Tensors], decay: float, warmup: bool) -> Tensors:
    """Return the average with each step's own share written out."""
    last = len(weights) - 1
    decays = [min(decay, (1 + t) / (10 + t)) if warmup else decay for t in range(1, last + 1)]
    shares = [float(np.prod(decays))]
    shares += [(1 - decays[t - 1]) * float(np.prod(decays[t:])) for t in range(1, last + 1)]
    assert sum(shares) == pytest.approx(1)
    return _sum(list(zip(shares, weights, strict=True)))


def _swa(weights: Sequence[Tensors], first: int, every: int) -> Tensors:
    taken = weights[first::every]
    return _sum([(1 / len(taken), w) for w in taken])


def _assert_are(model: torch.nn.Module, expected: Tensors, within: float = 2e-6) -> None:
    own = dict(model.named_parameters())
    assert max(float((own[n].detach() - t).abs().max()) for n, t in expected.items()) < within


def _options(method: str, **given: object) -> list[str]:
    return [f"method={method}", *(f"method.{method}.{k}={v}" for k, v in given.items())]


WAYS: dict[str, tuple[list[str], Callable[[Sequence[Tensors]], Tensors]]] = {
    "warm-up": (_options("ema", decay=0.4), lambda w: _ema(w, 0.4, True)),
    "constant": (_options("ema", decay=0.7, warmup="false"), lambda w: _ema(w, 0.7, False)),
    "default start": (_options("swa"), lambda w: _swa(w, 8, 1)),
    "every third": (_options("swa", start=0.2, every=3), lambda w: _swa(w, 2, 3)),
    "from the first": (_options("swa", start=0), lambda w: _swa(w, 1, 1)),
}


@pytest.mark.parametrize("way", WAYS)
def test_average_is_the_sum_written_out_and_training_is_plain(
    way: str, tiny_folder: Folder
) -> None:
    folder, (given, expected) = tiny_folder("bert"), WAYS[way]
    weights = _trajectory(folder)
    loop, _ = prepared(folder, *given)
    loop.run(10)
    plain, _ = prepared(folder)
    plain.run(10)
    assert loop.progress.losses == plain.progress.losses
    raw = trained_sha256(loop.model)
    assert raw == trained_sha256(plain.model)
    with loop.averages.evaluated():
        _assert_are(loop.model, expected(weights))
        averaged = trained_sha256(loop.model)
        state = loop.state_dict()
    assert trained_sha256(loop.model) == raw != averaged
    trained = dict(plain.model.named_parameters())
    assert all(torch.equal(t, trained[n]) for n, t in state["trained"].items())
    loop.finish()
    assert trained_sha256(loop.model) == averaged


def test_only_what_trains_is_averaged_and_the_weights_come_back_after_an_error(
    tiny_folder: Folder,
) -> None:
    loop, _ = prepared(tiny_folder("bert"), "method=[bitfit,ema]")
    loop.run(2)
    named = dict(loop.model.named_parameters())
    [_, method] = loop.methods
    assert set(method.averaged_weights()) == {n for n, p in named.items() if p.requires_grad}
    before = trained_sha256(loop.model)

    def failing() -> None:
        with loop.averages.evaluated():
            assert trained_sha256(loop.model) != before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert trained_sha256(loop.model) == before


@pytest.mark.parametrize("method", ["ema", "swa"])
def test_weights_are_taken_after_every_methods_edit(method: str, tiny_folder: Folder) -> None:
    """Noise that is added after a step is in the average, whichever is typed first."""
    hashes = set()
    for both in (f"{method},pats_provisional", f"pats_provisional,{method}"):
        loop, _ = prepared(tiny_folder("bert"), f"method=[{both}]")
        loop.run(10)
        hashes.add(kept_sha256(loop))
    assert len(hashes) == 1


def test_bf16_copies_are_of_what_is_evaluated(tiny_folder: Folder) -> None:
    logits = []
    for copies in ("true", "false"):
        loop, _ = _started(tiny_folder("bert"), f"speed.bf16_copy={copies}")
        loop.run(3)
        loop.model.eval()
        batch = loop.batch(np.arange(8))
        with torch.no_grad():
            before = loop.forward(batch).logits
            with loop.averages.evaluated():
                averaged = loop.forward(batch).logits
            assert torch.equal(loop.forward(batch).logits, before)
        logits.append((before, averaged))
        loop.finish()
    assert torch.equal(logits[0][0], logits[1][0])
    assert torch.equal(logits[0][1], logits[1][1])
    assert not torch.equal(*logits[0])


def _started(folder: Path, *arguments: str) -> tuple[Loop, Any]:
    from tests.methods.reference import prepared_run

    given = ("method=ema", "precision=bf16", "speed.first_token=false", *arguments)
    ready = prepared_run(folder, *given)
    ready.loop.start(ready.encoded)
    return ready.loop, ready


RUN = ("task=rte", "budget.steps=6", "budget.evaluate=2", "lr=1e-3", "speed.trim_vocabulary=false")


def _kept(out: Path, record: Record) -> Tensors:
    return load_file(out / f"{record.run}.delta" / "delta.safetensors")


@pytest.mark.parametrize("method", ["ema", "swa"])
def test_run_scores_records_and_keeps_the_average(
    method: str, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = [*tiny(tiny_folder("bert"), *RUN), "save=delta"]
    options = _options(method, **({"start": 0.5} if method == "swa" else {"decay": 0.9}))
    assert cli(*given, *options, f"out={tmp_path / 'averaged'}").code == 0
    assert cli(*given, f"out={tmp_path / 'plain'}").code == 0
    [averaged], [plain] = read_all(tmp_path / "averaged"), read_all(tmp_path / "plain")
    assert averaged.losses == plain.losses
    assert averaged.trained_sha256 != plain.trained_sha256
    ours, theirs = (_kept(tmp_path / k, r) for k, r in (("averaged", averaged), ("plain", plain)))
    assert ours.keys() == theirs.keys()
    assert any(not torch.equal(ours[n], theirs[n]) for n in ours)
    about = json.loads((tmp_path / "averaged" / f"{averaged.run}.delta/delta.json").read_text())
    assert about["trained_sha256"] == averaged.trained_sha256
    scored = cli(f"eval={tmp_path / 'averaged' / averaged.run}.delta", "device=cpu")
    assert "predictions equal the record's" in scored.out, scored.err
    said = averaged.method_reports[method]
    expected = {
        "ema": {"weights": "averaged", "steps": 6, "last_decay": 7 / 16},
        "swa": {"weights": "averaged", "from_step": 3, "steps": 4},
    }
    assert said == expected[method]


def test_selected_average_is_reported_and_kept(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each evaluation counts as worse than the one before: the first is selected."""
    given = [*tiny(tiny_folder("bert"), *RUN), "protocol=select", "method=ema", "save=delta"]
    seen: list[tuple[int, str]] = []
    score = Scoring.__call__

    def scored(self: Scoring, model: Any, names: list[str], step: int) -> Any:
        seen.append((step, trained_sha256(model)))
        scores = score(self, model, names, step)
        return {"selection": {"accuracy": 1 / step}} if names == ["selection"] else scores

    monkeypatch.setattr(Scoring, "__call__", scored)
    done = cli(*given, f"out={tmp_path}")
    assert done.code == 0, done.err
    [record] = read_all(tmp_path)
    assert record.selected is not None
    assert record.selected["step"] == 2
    of_step = {step: {h for s, h in seen if s == step} for step in (2, 4, 6)}
    assert all(len(hashes) == 1 for hashes in of_step.values())
    assert of_step[2] == {record.trained_sha256}
    assert record.method_reports["ema"]["steps"] == 2
    scored_again = cli(f"eval={tmp_path / record.run}.delta", "device=cpu")
    assert "predictions equal the record's" in scored_again.out, scored_again.err


def test_run_that_is_stopped_in_an_evaluation_goes_on_from_the_weights(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [*tiny(tiny_folder("bert"), *RUN), "protocol=select", "method=ema"]
    cut = [*given, f"out={tmp_path / 'cut'}"]
    assert cli(*given, f"out={tmp_path / 'whole'}").code == 0
    score = Scoring.__call__

    def scored(self: Scoring, model: Any, names: list[str], step: int) -> Any:
        if step == 4:
            signal.raise_signal(signal.SIGTERM)
        return score(self, model, names, step)

    with monkeypatch.context() as patch:
        patch.setattr(Scoring, "__call__", scored)
        with pytest.raises(SystemExit):
            cli(*cut)
    assert cli(*cut).code == 0
    [whole], [again] = read_all(tmp_path / "whole"), read_all(tmp_path / "cut")
    assert again.resumed == [4]
    assert outcome(again) == outcome(whole)
    assert again.method_reports == whole.method_reports


@pytest.mark.parametrize("method", ["ema", "swa", "label_smoothing"])
def test_super_adam_that_looks_twice_goes_with_what_edits_nothing(
    method: str, tiny_folder: Folder
) -> None:
    twice = ("optimizer=super_adam", "optimizer.tau=1")
    loop, _ = prepared(tiny_folder("bert"), f"method={method}", *twice)
    loop.run(10)
    assert kept_sha256(loop) != trained_sha256(loop.model) or method == "label_smoothing"


def test_steps_that_are_taken() -> None:
    assert Swa(start=0.1).first(30) == 3  # 0.1 · 30 is a little more
    assert [Swa(start=s).first(10) for s in (0, 0.05, 0.5, 0.75, 0.71, 1)] == [1, 1, 5, 8, 8, 10]
    assert Ema().decay_at(1) == 2 / 11
    assert Ema().decay_at(8990) == Ema().decay_at(9000) == 0.999 > Ema().decay_at(8989)
    assert Swa().data_known(40, 8, 10) == []
    [said] = Swa(every=3).data_known(40, 8, 10)
    assert said == (
        "method=swa: start=0.75 and every=3 take the weights of one of 10 steps, so that nothing"
        " is averaged"
    )


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["method=ema", "method.ema.decay=1"], "method.ema.decay=1"),
        (["method=ema", "method.ema.decay=-0.1"], "method.ema.decay=-0.1"),
        (["method=ema", "method.ema.decay=.nan"], "method.ema.decay"),
        (["method=ema", "method.ema.warmup=10"], "method.ema.warmup=10"),
        (["method=swa", "method.swa.start=1.5"], "method.swa.start=1.5"),
        (["method=swa", "method.swa.start=-1"], "method.swa.start=-1"),
        (["method=swa", "method.swa.every=0"], "method.swa.every=0"),
        (["method=swa", "method.swa.every=epoch"], "method.swa.every='epoch'"),
        (["method=[ema,swa]"], "ema and swa both decide which weights are evaluated"),
        (["method=[adalora,ema]"], "ema gives back in its average the ranks that adalora took"),
        (["method=[swa,setfit]"], "swa averages a head that setfit fits anew"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    typed: list[str], said: str, tiny_folder: Folder
) -> None:
    with pytest.raises(UserError) as refused:
        configure(*tiny(tiny_folder("bert"), "task=mrpc"), *typed)
    assert said in str(refused.value)


def test_an_average_begins_at_what_others_left_before_the_first_step(tiny_folder: Folder) -> None:
    outside = ["select=random", "scope=all_but_head", "outside=zero"]
    given = ["method=[child_tuning_d,ema]", "method.ema.decay=0.9", "method.ema.warmup=false"]
    given += [f"method.child_tuning_d.{option}" for option in outside]
    loop, loaded = prepared(tiny_folder("bert"), *given)
    loop.run(3)
    mask, ema = loop.methods[0].tensors(), loop.methods[1]
    assert mask
    own, averages = dict(loop.model.named_parameters()), ema.averaged_weights()
    zero = {n for n in averages if n not in loaded.head and not own[n].all()}
    assert zero
    assert all(not averages[n][own[n] == 0].any() for n in zero)
    assert configure(*given).method_options()[1]["version"] == 2
    assert configure(*given[:-1]).method_options()[1]["version"] == 1
