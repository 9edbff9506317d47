"""On which side of a text a run cuts and fills up is never what a tokenizer's files say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from results import record as records
from results.errors import UserError
from runners.config.check import from_record
from runners.contract.parts import prepared
from runners.jobs.identity import recorded_name
from runners.jobs.job import Job
from runners.models.sides import check_sides, turned_sides
from runners.runs.stored import find_stored
from runners.tasks.kinds import kind_of
from tests.conftest import Cli, configure, tiny

Folder = Callable[[str], Path]
SHORT = ("task=sst2", "budget.max_length=6", "method=full", "seed=1")


def _saying(source: Path, folder: Path, **said: str) -> Path:
    """Copy a folder, with more in its tokenizer_config.json."""
    path = Path(shutil.copytree(source, folder)) / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))
    return folder


def _by_backend(source: Path, folder: Path) -> Path:
    """Copy a folder, with both sides in its tokenizer.json, as the library itself saves them."""
    path = Path(shutil.copytree(source, folder)) / "tokenizer.json"
    own = json.loads(path.read_text())
    own["truncation"] = {
        "direction": "Left", "max_length": 6, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    own["padding"] = {
        "strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    path.write_text(json.dumps(own))
    return folder


def _read(folder: Path, *more: str) -> tuple[Any, Any]:
    """Return what a run reads of its train, and its logits of the longest and shortest text."""
    loop, _ = prepared(configure(*tiny(folder, *SHORT, *more)))
    lengths = loop.collate.lengths
    rows = np.array([int(lengths.argmax()), int(lengths.argmin())])
    batch = loop.batch(rows)
    loop.model.eval()
    with torch.no_grad():
        return batch, loop.forward(batch).logits


@pytest.mark.parametrize("architecture", ["bert", "roberta", "t5", "xlnet"])
def test_a_folder_that_has_either_side_on_the_left_is_read_as_the_plain_one(
    architecture: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    plain = tiny_folder(architecture)
    said = {"truncation_side": "left", "padding_side": "left"}
    others = [_saying(plain, tmp_path / architecture, **said)]
    if architecture == "bert":
        others.append(_by_backend(plain, tmp_path / "backend"))
    assert turned_sides(plain, architecture) == ()
    for task in ("task=sst2", "task=rte"):
        batch, logits = _read(plain, task, "budget.max_length=12")
        for other in others:
            sides = ("truncation",) if architecture == "xlnet" else ("padding", "truncation")
            assert turned_sides(other, architecture) == sides
            again, same = _read(other, task, "budget.max_length=12")
            assert batch.keys() == again.keys()
            assert all(torch.equal(batch[name], again[name]) for name in batch)
            assert torch.equal(logits, same)


def test_the_name_tells_a_run_from_one_in_which_the_files_decided(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    """Where a run cuts at its own place, nothing of it was another's; others have a new name."""
    cut = _saying(tiny_folder("bert"), tmp_path / "cut", truncation_side="left")
    padded = _saying(tiny_folder("bert"), tmp_path / "padded", padding_side="left")
    for folder, truncate, renamed in (
        (cut, "head", True), (cut, "tail", False), (padded, "tail", True),
        (tiny_folder("bert"), "head", False),
    ):  # fmt: skip
        job = Job(configure(*tiny(folder, *SHORT, f"budget.truncate={truncate}")))
        before = Job(configure(*tiny(folder, *SHORT, f"budget.truncate={truncate}")))
        before.__dict__["weights"] = replace(job.weights, turned=())
        assert (job.name != before.name) is renamed


def test_a_run_that_the_files_decided_is_not_answered_for_again(
    tiny_folder: Folder, cli: Cli, tmp_path: Path
) -> None:
    folder = _saying(tiny_folder("bert"), tmp_path / "model", truncation_side="left")
    done = cli(*tiny(folder, *SHORT, "save=delta"))
    assert done.code == 0, done.err
    [path] = (tmp_path / "runs").glob("*.json")
    record = records.read(path)
    assert record.weights["turned"] == ["truncation"]
    assert recorded_name(record) == record.run
    assert cli(f"eval={path.with_suffix('.delta')}").code == 0
    config = from_record(record.config)
    theirs = {k: v for k, v in record.weights.items() if k != "turned"}
    assert config.settings.budget.truncate == "head"
    check_sides("eval=run", theirs, ["truncation"], "tail")
    with pytest.raises(UserError, match="truncation_side=left in its tokenizer's files was"):
        check_sides("eval=run", theirs, ["truncation"], "head")


def test_a_model_that_keeps_a_texts_end_answers_as_its_run_and_is_begun_from_as_any(
    tiny_folder: Folder, cli: Cli, tmp_path: Path
) -> None:
    done = cli(*tiny(tiny_folder("bert"), *SHORT, "budget.truncate=tail", "save=model"))
    assert done.code == 0, done.err
    [folder] = (tmp_path / "runs").glob("*.model")
    job, loaded = find_stored(folder, "predict").load()
    encoded = kind_of(job.config).encode(job, loaded.tokenizer)["validation"]
    texts = [text for (text,) in job.data.report["validation"].texts]
    saved: Any = transformers.AutoTokenizer.from_pretrained(folder)
    rows = saved(texts, truncation=True)["input_ids"]
    assert any(row != saved(text)["input_ids"] for row, text in zip(rows, texts, strict=True))
    assert encoded.tokens.input_ids.tolist() == [i for row in rows for i in row]
    for truncate in ("head", "tail"):
        cut = f"budget.truncate={truncate}"
        ours, theirs = _read(folder, cut)[0], _read(tiny_folder("bert"), cut)[0]
        assert torch.equal(ours["input_ids"], theirs["input_ids"])
