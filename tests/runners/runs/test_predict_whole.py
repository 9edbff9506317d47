"""A whole model, as save=model leaves it, answers a user's rows as the run did."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from results.record import write
from tests.conftest import Cli
from tests.runners.runs.answered import PAIRS, delta_of, read_rows, record_of, write_rows


@pytest.mark.parametrize("task", ["rte", "stsb"])
def test_a_whole_model_answers_as_the_delta_that_it_was_made_from(
    task: str, runs: Path, cli: Cli, tmp_path: Path
) -> None:
    record, texts = record_of(runs, task), PAIRS[:3]
    alone = tmp_path / "alone"  # a record and its whole model, and no delta
    path = write(record, alone)
    whole = path.with_suffix(".model")
    assert cli(f"export={delta_of(runs, task)}", f"out={whole}").code == 0
    text = write_rows(tmp_path / "t.csv", ["sentence1", "sentence2"], texts)
    answers = {}
    for run in (delta_of(runs, task), whole, path):
        out = tmp_path / "o.csv"
        done = cli(f"predict={run}", f"text={text}", f"out={out}", "device=cpu")
        assert done.code == 0, done.err
        answers[run] = [list(row.values())[2:] for row in read_rows(out)]
        out.unlink()
    theirs = answers.pop(delta_of(runs, task))
    for ours in answers.values():
        for one, other in zip(ours, theirs, strict=True):
            numbers = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
            assert all(float(a) == pytest.approx(float(b), abs=1e-5) for a, b in numbers)


def test_a_whole_model_that_is_another_or_damaged_is_one_line(
    runs: Path, cli: Cli, tmp_path: Path
) -> None:
    path = write(record_of(runs, "rte"), tmp_path / "runs")
    whole, text = path.with_suffix(".model"), tmp_path / "t.csv"
    assert cli(f"export={delta_of(runs, 'rte')}", f"out={whole}").code == 0
    write_rows(text, ["sentence1", "sentence2"], PAIRS[:1])
    weights = whole / "model.safetensors"
    tensors = load_file(weights)
    name = next(iter(tensors))
    missing = {n: t for n, t in tensors.items() if n != name}
    infinite = {**tensors, name: torch.full_like(tensors[name], torch.inf)}
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(whole, elsewhere)
    for run, content, said in (
        (elsewhere, tensors, "does not say of which run; name RUN.model beside its record"),
        (whole, missing, "is not that run's model"),
        (whole, {**tensors, name: tensors[name][..., :1]}, "is not that run's model"),
        (whole, infinite, "not finite"),
        (whole, None, "is not that run's model"),
    ):
        if content is None:
            weights.write_bytes(b"nothing")
        else:
            save_file({n: t.contiguous() for n, t in content.items()}, weights)
        done = cli(f"predict={run}", f"text={text}", f"out={tmp_path / 'o.csv'}")
        assert (done.code, "Traceback" in done.err) == (2, False), done.err
        assert said in done.err
        assert not (tmp_path / "o.csv").exists()
