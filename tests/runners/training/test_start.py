"""A run that starts from another has its encoder to the bit, and all else of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from results.errors import UserError
from results.record import Record, read, read_all
from results.tables.collect import tables
from runners.contract.parts import prepared
from runners.exports.delta import OURS, _check_tensors, load_delta
from runners.jobs.job import Job
from runners.models.predecessor import chain_name
from runners.training.start import build_model
from tests.conftest import Cli, configure, narrow, tiny
from tests.tiny import save_tiny

Folder = Callable[[str], Path]


def _ended(cli: Cli, out: Path, *arguments: str) -> Record:
    """Return the record of a run that kept its weights."""
    before = set(out.glob("*.json"))
    done = cli(*arguments, "save=delta", f"out={out}")
    assert done.code == 0, done.err
    [path] = set(out.glob("*.json")) - before
    return read(path)


def test_encoder_is_the_other_runs_and_the_rest_is_new(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out, small = tmp_path / "runs", tiny(tiny_folder("bert"))
    first = _ended(cli, out, *small, "task=mnli", "seed=5")
    second = configure(*small, "task=rte", f"start={first.run}", f"out={out}")
    loop, loaded = prepared(second)
    left = load_delta(out / f"{first.run}.delta").loaded.model.state_dict()
    encoder = {n: t for n, t in loop.model.state_dict().items() if n.startswith("bert.")}
    assert len(encoder) > 30
    assert [n for n, t in encoder.items() if not torch.equal(t, left[n])] == []
    plain, _ = prepared(configure(*small, "task=rte"))
    own = plain.model.state_dict()
    assert torch.equal(loop.model.state_dict()["classifier.weight"], own["classifier.weight"])
    assert not torch.equal(encoder["bert.pooler.dense.weight"], own["bert.pooler.dense.weight"])
    assert not loop.optimizer.state
    assert loop.schedule.get_last_lr() == [0.0] * len(loop.optimizer.param_groups)  # warm-up anew
    assert {"classifier.weight", "classifier.bias"} <= loaded.head


def test_name_record_and_table_say_where_a_run_comes_from(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out, small = tmp_path / "runs", tiny(tiny_folder("bert"))
    first = _ended(cli, out, *small, "task=mnli", "method=bitfit")
    second = _ended(cli, out, *small, "task=mrpc", f"start={first.run}")
    third = _ended(cli, out, *small, "task=rte", f"start={second.run[:30]}")
    alone = _ended(cli, out, *small, "task=rte")
    assert second.config["start"] == {"run": first.run, "head": "drawn"}
    assert "start" not in alone.config
    assert "start" not in alone.weights
    chain = third.weights["start"]["chain"]
    assert [(s["run"], s["task"], s["methods"]) for s in chain] == [
        (first.run, "mnli", "bitfit"),
        (second.run, "mrpc", "full"),
    ]
    assert third.weights["start"]["sha256"] == second.trained_sha256
    jobs = [
        Job(configure(*small, "task=rte", f"start={named}", f"out={out}"))
        for named in (second.run, out / f"{second.run}.json", out / f"{second.run}.delta")
    ]
    assert {job.name for job in jobs} == {third.run}
    befores = [job.predecessor.facts for job in jobs if job.predecessor is not None]
    assert befores == [{k: third.weights["start"][k] for k in befores[0]}] * 3
    assert all(len(stage["content"]) == 8 for stage in chain)
    assert third.run != alone.run
    rows = {row.method for table in tables([third, alone]) for row in table.rows}
    assert rows == {"full", "full after mnli by bitfit, mrpc"}
    # What is left can be scored without the runs before it, and the run repeats to the bit.
    (out / f"{first.run}.delta").rename(tmp_path / "elsewhere")
    scored = cli(f"eval={out / third.run}.delta", "device=cpu")
    assert "predictions equal the record's" in scored.out, scored.err
    again = cli(f"verify={third.run}", f"out={out}", "device=cpu")
    assert "equal to the bit" in again.out, again.err


def test_seeds_of_one_way_are_one_row(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    out, small = tmp_path / "runs", tiny(tiny_folder("bert"), "budget.steps=2")
    ends = []
    for seed in (1, 2):
        first = _ended(cli, out, *small, "task=mnli", f"seed={seed}")
        ends.append(_ended(cli, out, *small, "task=rte", f"seed={seed}", f"start={first.run}"))
    other = _ended(cli, out, *small, "task=mnli", "seed=1", "lr=1e-3")
    ends.append(_ended(cli, out, *small, "task=rte", "seed=1", f"start={other.run}"))
    [table] = tables(ends)
    seeds = sorted(row.cells["rte"].seeds for row in table.rows)
    assert seeds == [(1,), (1, 2)]
    assert all(row.method.startswith("full after mnli (start=") for row in table.rows)


@pytest.mark.parametrize("method", ["adapter", "lora", "ia3", "prefix"])
def test_inserted_modules_go_on_too(
    method: str, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out, small = tmp_path / "runs", tiny(tiny_folder("bert"), *narrow(method), "lr=0.01")
    first = _ended(cli, out, *small, "task=mnli")
    loop, _ = prepared(configure(*small, "task=rte", f"start={first.run}", f"out={out}"))
    fresh, _ = prepared(configure(*small, "task=rte"))
    left = dict(load_delta(out / f"{first.run}.delta").loaded.model.named_parameters())
    pretrained = load_file(tiny_folder("bert") / "model.safetensors")
    inserted = {
        n: p
        for n, p in loop.model.named_parameters()
        if n.replace(".base_layer.", ".").removeprefix("bert.") not in {
            k.removeprefix("bert.") for k in pretrained
        }
        and not n.startswith("classifier")
    }  # fmt: skip
    assert inserted
    before = dict(fresh.model.named_parameters())
    assert all(torch.equal(p, left[n]) for n, p in inserted.items())
    assert any(not torch.equal(p, before[n]) for n, p in inserted.items())


def test_head_goes_on_only_where_that_is_asked_for_and_labels_agree(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out, small = tmp_path / "runs", tiny(tiny_folder("bert"))
    first = _ended(cli, out, *small, "task=rte")
    keep = (f"start={first.run}", "start.head=keep", f"out={out}")
    loop, _ = prepared(configure(*small, "task=rte", "seed=9", *keep))
    left = load_delta(out / f"{first.run}.delta").loaded.model
    assert torch.equal(loop.model.classifier.weight, left.classifier.weight)
    names = {
        Job(configure(*small, "task=rte", "seed=9", *more)).name
        for more in (keep, (keep[0], keep[2]), ())
    }
    assert len(names) == 3
    refused = cli(*small, "task=mnli", *keep)
    assert refused.code == 2
    assert "its labels are ['entailment', 'not_entailment']" in refused.err


def test_wrong_starts_are_one_line_before_training(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out, small = tmp_path / "runs", tiny(tiny_folder("bert"), f"out={tmp_path / 'runs'}")
    adapter = _ended(cli, out, *small, "task=rte", *narrow("adapter"))
    assert cli(*small, "task=rte").code == 0
    assert cli(*small, "task=rte", "lr=1e30").code == 1
    [diverged] = [r for r in read_all(out) if r.status == "diverged"]
    [unkept] = [r for r in read_all(out) if r.methods == ["full"] and r.status == "finished"]
    other = save_tiny("roberta", tmp_path / "other")
    wrong = {
        f"start={diverged.run}": "that run is diverged",
        f"start={unkept.run}": "its weights were not kept",
        "start=nothing": "no such record",
        f"start={tiny_folder('bert')}": "no delta.json there",
        "start.head=keep": "goes with start=RUN",
        f"start={adapter.run}": "its method put ",
    }
    for argument, said in wrong.items():
        done = cli(*small, "task=mrpc", argument)
        assert (done.code, said in done.err, "Traceback" in done.err) == (2, True, False), done.err
    small = tiny(other, f"out={out}")
    done = cli(*small, "task=mrpc", f"start={adapter.run}")
    assert done.code == 2
    assert "choose the same model=" in done.err
    assert len(read_all(out)) == 3


def test_weights_that_were_exchanged_are_noticed(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out, small = tmp_path / "runs", tiny(tiny_folder("bert"), "task=rte")
    first = _ended(cli, out, *small, "seed=1")
    second = _ended(cli, out, *small, "seed=2")
    (out / f"{first.run}.delta").rename(tmp_path / "aside")
    (out / f"{second.run}.delta").rename(out / f"{first.run}.delta")
    done = cli(*small, f"start={first.run}", f"out={out}")
    assert done.code == 2
    assert "holds other weights than its record names" in done.err


def test_encoder_of_a_run_on_masked_text_goes_on_without_its_head(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """That run's model has no pooler: the pretrained one is taken, and the other way it is left."""
    out, small = tmp_path / "runs", tiny(tiny_folder("bert"))
    masked = _ended(cli, out, *small, "task=mlm", "mlm.on=[rte]", "lr=1e-2")
    loop, _ = prepared(configure(*small, "task=rte", f"start={masked.run}", f"out={out}"))
    left = dict(load_delta(out / f"{masked.run}.delta").loaded.model.named_parameters())
    plain, _ = prepared(configure(*small, "task=rte"))
    before, ours = plain.model.state_dict(), loop.model.state_dict()
    encoder = [n for n in ours if n.startswith("bert.") and ".pooler." not in n]
    assert all(torch.equal(ours[n], left[n]) for n in encoder if n in left)
    assert sum(not torch.equal(ours[n], before[n]) for n in encoder) > 20
    others = [n for n in ours if n not in encoder]
    assert {"bert.pooler.dense.weight", "classifier.weight"} <= set(others)
    assert all(torch.equal(ours[n], before[n]) for n in others)
    assert not any(n.startswith("cls.") for n in ours)
    target = _ended(cli, out, *small, "task=rte", f"start={masked.run}")
    assert target.weights["start"]["chain"][0]["task"] == "mlm(rte)"
    shown = {table.conditions.masked: table for table in tables([target, masked])}
    assert [row.method for row in shown[False].rows] == ["full after mlm(rte)"]
    assert (shown[True].tasks, shown[True].rows[0].cells["mlm"].scores) == (
        ("mlm",),
        (masked.score,),
    )
    assert "masked tokens, accuracy" in shown[True].conditions.heading()
    back, _ = prepared(
        configure(*small, "task=mlm", "mlm.on=[rte]", f"start={target.run}", f"out={out}")
    )
    theirs = dict(load_delta(out / f"{target.run}.delta").loaded.model.named_parameters())
    own = dict(back.model.named_parameters())
    assert not any(".pooler." in n for n in own)
    assert all(torch.equal(p, theirs[n]) for n, p in own.items() if n.startswith("bert."))


def test_head_over_tokens_goes_on_where_that_is_asked_for(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out, small = tmp_path / "runs", tiny(tiny_folder("bert"), "task=mlm", "mlm.on=[rte]")
    first = _ended(cli, out, *small)
    keep = (f"start={first.run}", "start.head=keep", f"out={out}")
    loop, loaded = prepared(configure(*small, "seed=9", *keep))
    left = dict(load_delta(out / f"{first.run}.delta").loaded.model.named_parameters())
    own = dict(loop.model.named_parameters())
    assert loaded.head
    assert all(torch.equal(own[n], left[n]) for n in own)
    refused = cli(*tiny(tiny_folder("bert"), "task=rte"), *keep)
    assert refused.code == 2
    assert "its labels are" in refused.err


def test_a_folder_of_sentence_transformers_is_a_start_too(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    small = [a for a in tiny(tiny_folder("bert")) if not a.startswith("task=")]
    vectors = ["task=sts", "method=simcse"]
    given = [*small, *vectors, f"out={out}"]
    assert cli(*given, "save=sentence-transformers").code == 0
    assert cli(*given, "save=delta").code == 0
    [record] = read_all(out)
    exported = out / f"{record.run}.sentence-transformers"
    by_name, by_folder = (
        prepared(configure(*small, "task=rte", f"start={start}", f"out={out}"))[0].model
        for start in (record.run, exported)
    )
    theirs = by_name.state_dict()
    assert [n for n, t in by_folder.state_dict().items() if not torch.equal(t, theirs[n])] == []
    done = cli(*small, "task=rte", f"start={exported}", f"out={tmp_path / 'next'}")
    assert done.code == 0, done.err
    [second] = read_all(tmp_path / "next")
    assert second.weights["start"]["run"] == record.run
    (out / f"{record.run}.json").unlink()
    refused = cli(*small, "task=rte", f"start={exported}")
    assert refused.code == 2
    assert "is not beside it" in refused.err.splitlines()[-1]


@pytest.mark.parametrize("method", ["lora", "adapter", "prefix", "ia3", "full"])
def test_frozen_start_trains_the_head_alone(
    method: str, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out, small = tmp_path / "runs", [*tiny(tiny_folder("bert")), *narrow(method)]
    first = _ended(cli, out, *small, "task=mnli")
    probe = _ended(cli, out, *small, "task=rte", f"start={first.run}", "start.freeze=true")
    free = _ended(cli, out, *small, "task=rte", f"start={first.run}")
    assert probe.run != free.run
    assert probe.parameters["trainable_without_head"] == 0
    before, after, moved = (
        dict(load_delta(out / f"{r.run}.delta").loaded.model.named_parameters())
        for r in (first, probe, free)
    )
    same = [n for n, t in before.items() if n in after and torch.equal(t, after[n])]
    heads = {n for n in before if n not in same}
    assert len(same) > 30
    assert all("classifier" in n for n in heads), heads
    assert any(not torch.equal(moved[n], before[n]) for n in same)
    [row] = tables([probe])[0].rows
    assert row.method == f"{method} after mnli, frozen"
    refused = cli(*small, "task=rte", "start.freeze=true")
    assert refused.code == 2
    assert "start.freeze=true goes with start=RUN" in refused.err


@pytest.mark.parametrize(
    ("architecture", "first"),
    [
        ("bert", ["task=mlm", "mlm.on=[rte]", "method=full"]),  # which has no pooler
        ("bert", ["task=mnli", "method=bitfit"]),
        ("xlnet", ["task=mnli", "method=full"]),  # in single texts it has unmoved parameters
    ],
)
def test_a_frozen_run_is_kept_whatever_the_run_before_left_untrained(
    architecture: str, first: list[str], cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """What no run of the chain has trained is the pretrained model's, and in no delta."""
    out, small = tmp_path / "runs", [*tiny(tiny_folder(architecture)), "lr=0.001"]
    before = _ended(cli, out, *small, *first)
    frozen = ["method=full", "start.freeze=true"]
    probe = _ended(cli, out, *small, "task=sst2", f"start={before.run}", *frozen)
    again = _ended(cli, out, *small, "task=rte", f"start={probe.run}", *frozen)
    models = {r.run: load_delta(out / f"{r.run}.delta").loaded for r in (probe, again)}
    job = Job(configure(*small, "task=rte", f"start={probe.run}", f"out={out}", *frozen))
    begun = dict(build_model(job, 1).model.named_parameters())
    last, middle = models[again.run], dict(models[probe.run].model.named_parameters())
    for name, parameter in last.model.named_parameters():
        if name not in last.head:
            assert torch.equal(parameter, middle[name]), name
            assert torch.equal(parameter, begun[name]), name
    done = cli(f"eval={out / f'{again.run}.delta'}")
    assert done.code == 0, done.err
    assert "predictions equal the record's" in done.out
    assert f"{100 * again.scores['validation']['accuracy']:.2f}" in done.out


def test_a_frozen_delta_without_its_head_is_refused(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out, small = tmp_path / "runs", tiny(tiny_folder("bert"))
    before = _ended(cli, out, *small, "task=mnli", "method=bitfit")
    frozen = ["method=full", "start.freeze=true", f"start={before.run}"]
    probe = _ended(cli, out, *small, "task=rte", *frozen)
    delta = load_delta(out / f"{probe.run}.delta")
    tensors = load_file(out / f"{probe.run}.delta" / OURS)
    del tensors["classifier.bias"]
    with pytest.raises(UserError, match=r"1 trained tensors are missing, such as classifier.bias"):
        _check_tensors(tensors, delta.loaded, delta.config, "eval=run")


@pytest.mark.parametrize(
    ("mlm", "called"),
    [
        ({}, "mlm(cola+rte)"),
        ({"shuffle": True}, "mlm(cola+rte, shuffled)"),
        ({"mask": "whole_word"}, "mlm(cola+rte, whole word)"),
        ({"mask": "macbert", "shuffle": True}, "mlm(cola+rte, macbert, shuffled)"),
    ],
)
def test_a_stage_on_masked_text_is_named_by_its_text_and_how_it_is_masked(
    mlm: dict[str, Any], called: str
) -> None:
    """Else a table, and a claim, takes the control for what it controls."""
    plain = {"on": ["cola", "rte"], "mask": "token", "shuffle": False}
    assert chain_name({"name": "mlm", "mlm": {**plain, **mlm}}) == called
