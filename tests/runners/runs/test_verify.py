"""verify=RUN does a record again and names the first thing that differs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from results.record import Record, read_all, write
from runners.runs.verify import first_difference
from tests.conftest import Cli, tiny
from tests.tiny import save_tiny

Folder = Callable[[str], Path]


@pytest.fixture
def done(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> Record:
    """Return the record of a tiny run."""
    given = tiny(tiny_folder("bert"), "method=[hype,bitfit]", "optimizer=adamw_nobc")
    assert cli(*given).code == 0
    [record] = read_all(tmp_path / "runs")
    return record


def test_the_same_machine_repeats_to_the_bit(cli: Cli, done: Record, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    before = sorted(p.name for p in out.iterdir())
    for named in (done.run, done.run[:20], str(out / f"{done.run}.json")):
        found = cli(f"verify={named}")
        assert found.code == 0, found.err
        assert "promise: 1: equal to the bit" in found.out
        assert "equal to the bit: data, initial weights, every step's loss" in found.out
    assert sorted(p.name for p in out.iterdir()) == before
    assert len(done.losses) == done.steps


def test_the_first_difference_is_named(done: Record) -> None:
    splits = done.data["splits"]
    changed = {
        "data: the split train": {
            "data": {"splits": {**splits, "train": {**splits["train"], "sha256": "0"}}}
        },
        "pretrained weights: other files": {"weights": {**done.weights, "sha256": "0"}},
        "other configuration or tokenizer": {"weights": {**done.weights, "files_sha256": "0"}},
        "initial weights": {"initial_sha256": "0"},
        "step 3: loss": {"losses": [*done.losses[:2], 9.0, *done.losses[3:]]},
        "trained weights": {"trained_sha256": "0"},
        "predictions": {"predictions": {}},
        "scores": {"scores": {}, "predictions": done.predictions},
    }
    assert first_difference(done, done) is None
    for sentence, values in changed.items():
        # All that comes after it differs as well: the first is what is named.
        other = dataclasses.replace(done, **{"predictions": {}, **values})
        assert sentence in str(first_difference(done, other)), sentence


def test_a_broken_promise_is_told(cli: Cli, done: Record, tmp_path: Path) -> None:
    losses = [*done.losses[:2], done.losses[2] * 1.5, *done.losses[3:]]
    write(dataclasses.replace(done, losses=losses), tmp_path / "runs")
    found = cli(f"verify={done.run}")
    assert found.code == 1
    assert "first difference: step 3: loss" in found.out
    assert "promise broken" in found.out


def _scored(record: Record, score: float) -> Record:
    """Return a record of other scores, which no predictions say to be wrong."""
    scores = {split: dict.fromkeys(metrics, score) for split, metrics in record.scores.items()}
    return dataclasses.replace(record, score=score, scores=scores, predictions={})


def test_another_machine_is_only_promised_the_distribution(
    cli: Cli, done: Record, tmp_path: Path
) -> None:
    """With rows of several seeds: inside their spread, or better, which is told as loudly."""
    environment = {**done.environment, "device_name": "another"}
    losses = [9.0, *done.losses[1:]]
    other = dataclasses.replace(done, environment=environment, losses=losses)
    write(other, tmp_path / "runs")
    alone = cli(f"verify={done.run}")
    assert alone.code == 0
    assert "promise: 3: equal in distribution (differs: device_name)" in alone.out
    assert "one seed alone says nothing" in alone.out
    assert done.score is not None
    for seed in (1, 2):
        config = {**done.config, "seed": seed}
        changes = {"run": f"{done.run}x{seed}", "config": config, "seed": seed}
        worse = _scored(done, done.score - 0.2 - seed / 1000)
        write(dataclasses.replace(worse, **changes), tmp_path / "runs")
    write(_scored(other, done.score - 0.2), tmp_path / "runs")
    found = cli(f"verify={tmp_path / 'runs' / done.run}.json")
    assert found.code == 1
    assert "is better than the row's" in found.out


@pytest.mark.parametrize(
    ("named", "sentence"),
    [("nothing", "no such record"), ("rte", "records begin so in"), ("sst2", "2 records begin so")],
)
def test_a_wrong_name_gets_one_line(
    named: str, sentence: str, cli: Cli, done: Record, tmp_path: Path
) -> None:
    write(dataclasses.replace(done, run=f"{done.run}2"), tmp_path / "runs")
    found = cli(f"verify={named}")
    assert found.code == 2
    assert sentence in found.err
    assert found.err.count("\n") == 1


def test_weights_that_changed_since_are_named(cli: Cli, tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path / "model")
    assert cli(*tiny(folder)).code == 0
    [record] = read_all(tmp_path / "runs")
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"] += torch.tensor(0.5)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    found = cli(f"verify={record.run}")
    assert "first difference: pretrained weights: other files" in found.out
    assert "differs: the run's own definition" in found.out
    assert found.code == 1  # it is another run, whatever it scores


def test_a_tokenizer_that_changed_since_is_named(cli: Cli, tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path / "model")
    assert cli(*tiny(folder)).code == 0
    [record] = read_all(tmp_path / "runs")
    content = json.loads((path := folder / "tokenizer.json").read_text())
    words = content["model"]["vocab"]
    words["dogs"], words["cats"] = words["cats"], words["dogs"]
    path.write_text(json.dumps(content))
    found = cli(f"verify={record.run}")
    assert "difference: pretrained weights: other configuration or tokenizer" in found.out
    assert "another input is another run" in found.out
    assert found.code == 1


def test_a_start_that_was_done_again_since_is_named(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """Of a folder of sentence-transformers the hash is another than its run's, and is the same."""
    out, small = tmp_path / "runs", tiny(tiny_folder("bert"), "budget.steps=2")
    given = (*small, "task=sts", "method=[bitfit,simcse]")
    assert cli(*given, "save=delta").code == 0
    [first] = read_all(out)
    assert cli(*given, "save=sentence-transformers").code == 0
    folder = out / f"{first.run}.sentence-transformers"
    assert cli(*small, "task=rte", f"start={first.run}").code == 0
    assert cli(*small, "task=rte", f"start={folder}").code == 0
    after = [record.run for record in read_all(out) if record.task == "rte"]
    assert len(after) == 2
    for run in after:
        assert "equal to the bit: data" in cli(f"verify={run}").out
    other = dataclasses.replace(first, losses=[], trained_sha256="0" * 64, content_sha256=None)
    found = first_difference(*(_started(r) for r in (first, other)))
    assert found == "pretrained weights: the run that it starts from left others"


def _started(before: Record) -> Record:
    """Return a record of a run that starts from another."""
    facts = {"run": before.run, "sha256": before.trained_sha256, "chain": []}
    return dataclasses.replace(before, weights={**before.weights, "start": facts})


def test_other_examples_are_named_and_are_another_run(
    cli: Cli, done: Record, tmp_path: Path
) -> None:
    splits = done.data["splits"]
    more = {**splits, "validation_mismatched": splits["validation"]}
    scores = {**done.scores, "validation_mismatched": done.scores["validation"]}
    kept = {**done.predictions, "validation_mismatched": done.predictions["validation"]}
    record = dataclasses.replace(
        done, data={**done.data, "splits": more}, scores=scores, predictions=kept
    )
    write(record, tmp_path / "runs")
    found = cli(f"verify={done.run}")
    assert found.code == 1
    assert "first difference: data: the split validation_mismatched is not here" in found.out
    assert "validation_mismatched: not here" in found.out


def test_a_run_finds_what_it_starts_from_beside_its_record(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """Whatever out= is: verify= has the default one, predict= and embed= write there."""
    apart, small = f"out={tmp_path / 'apart'}", tiny(tiny_folder("bert"), "budget.steps=2")
    assert cli(*small, "task=mlm", "task.mlm.on=[rte]", "save=delta", apart).code == 0
    [first] = read_all(tmp_path / "apart")
    for given in (["task=rte"], ["task=sts", "method=embedding"]):
        assert cli(*small, *given, f"start={first.run}", apart).code == 0
    [trained] = (tmp_path / "apart").glob("rte.*.json")
    [untrained] = (tmp_path / "apart").glob("sts.*.json")
    assert "equal to the bit" in cli(f"verify={trained}").out
    text, out = tmp_path / "text.txt", tmp_path / "vectors.npy"
    text.write_text("dogs are asleep\n")
    embedded = cli(f"embed={untrained}", f"text={text}", f"out={out}")
    assert embedded.code == 0, embedded.err
    assert out.is_file()
