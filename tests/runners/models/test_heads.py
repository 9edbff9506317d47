"""A head that a checkpoint holds starts no run: the seed draws it, and the record says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from results import record as records
from results.errors import UserError
from runners.contract.tiny import IDS, SIZES
from runners.jobs.job import Job
from runners.models.heads import HEADS, head_tensors
from runners.models.pretrained import Loaded, load_model
from runners.models.weights import find_weights
from tests.conftest import Cli, architectures, configure, tiny
from tests.tiny import save_tiny


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from an architecture to a folder that holds an encoder and a head."""
    base = tmp_path_factory.mktemp("tuned")

    def folder(architecture: str) -> Path:
        path = base / architecture
        return path if path.exists() else save_tiny(architecture, path, pretrained_head=True)

    return folder


def _without_head(folder: Path, to: Path) -> Path:
    """Save the encoder of a folder by itself, as AutoModel does, without what lies outside it."""
    with_head = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    with_head.base_model.save_pretrained(to)
    for path in folder.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            (to / path.name).write_bytes(path.read_bytes())
    return to


def _loaded(folder: Path, seed: int, task: str = "rte", *more: str) -> Loaded:
    settings = configure(*tiny(folder, f"task={task}", *more)).settings
    return load_model(find_weights(settings.model), settings.task, seed, 48, None)


def _parameters(loaded: Loaded) -> dict[str, torch.Tensor]:
    return dict(loaded.model.named_parameters())


@pytest.mark.parametrize("architecture", architectures("t5"))
def test_a_head_in_the_file_is_drawn_as_if_it_were_not_there(
    architecture: str, tuned: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tuned(architecture)
    file = load_file(folder / "model.safetensors")
    alone = _without_head(folder, tmp_path / "alone")
    one, other, plain = _loaded(folder, 1), _loaded(folder, 2), _loaded(alone, 1)
    ours, theirs, expected = _parameters(one), _parameters(other), _parameters(plain)
    assert set(ours) == set(expected)
    assert all(torch.equal(ours[name], expected[name]) for name in ours)
    assert one.head == plain.head
    drawn = sorted(n for n in one.head if n in file and ours[n].std() > 0 and "norm" not in n)
    assert drawn
    for name in drawn:
        assert not torch.equal(ours[name], theirs[name]), name
        assert not torch.equal(ours[name], file[name]), name
    kept = [n for n in ours if n not in one.head]
    assert len(kept) > 10
    assert all(torch.equal(ours[n], theirs[n]) and torch.equal(ours[n], file[n]) for n in kept)
    assert list(find_weights(_model(folder)).head) == sorted(one.head & set(file))
    assert find_weights(_model(alone)).head == ()


def _model(folder: Path) -> Any:
    return configure(*tiny(folder)).settings.model


def test_a_head_of_another_size_is_no_hindrance(tuned: Callable[[str], Path]) -> None:
    """The file has two classes; MNLI has three, STS-B one score."""
    for task, rows in (("mnli", 3), ("stsb", 1)):
        loaded = _loaded(tuned("bert"), 1, task)
        assert _parameters(loaded)["classifier.weight"].shape == (rows, 32)


def test_only_a_head_that_the_model_would_take_changes_a_runs_name(
    tuned: Callable[[str], Path], tiny_folder: Callable[[str], Path]
) -> None:
    from runners.jobs.identity import identity, inputs_of

    def parts(folder: Path, *more: str) -> dict[str, Any]:
        job = Job(configure(*tiny(folder, *more)))
        return identity(job.config, inputs_of(job.config.settings.task, job.data, job.weights))

    for architecture in ("bert", "deberta-v2", "modernbert"):
        assert parts(tuned(architecture), "task=rte")["head"] == "drawn"
        assert "head" not in parts(tiny_folder(architecture), "task=rte")
    assert "head" not in parts(tuned("bert"), "task=sts", "method=simcse")  # it has no head


def test_the_record_names_the_head_that_was_not_used(
    tuned: Callable[[str], Path], tiny_folder: Callable[[str], Path], cli: Cli, tmp_path: Path
) -> None:
    for folder in (tuned("roberta"), tiny_folder("roberta")):
        out = tmp_path / folder.parent.name
        assert cli(*tiny(folder, "task=rte", f"out={out}")).code == 0
        [record] = records.read_all(out)
        names = [f"classifier.{m}.{k}" for m in ("dense", "out_proj") for k in ("bias", "weight")]
        assert record.weights.get("unused_head") == (names if folder == tuned("roberta") else None)


@pytest.mark.parametrize("architecture", HEADS)
def test_the_names_of_heads_are_those_of_transformers(architecture: str) -> None:
    config = transformers.AutoConfig.for_model(architecture)
    with torch.device("meta"):
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    prefix, _ = HEADS[architecture]
    assert model.base_model_prefix == prefix
    names = [name for name, _ in model.named_parameters()]
    outside = sorted(n for n in names if not n.startswith(f"{prefix}."))
    assert outside
    assert head_tensors(architecture, names) == outside
    alone = [name for name, _ in model.base_model.named_parameters()]
    assert head_tensors(architecture, alone) == []


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        ("bert", ["pooler.dense.weight", "cls.predictions.bias", "qa_outputs.weight"]),
        ("roberta", ["classifier.weight", "lm_head.dense.weight", "pooler.dense.weight"]),
        ("electra", ["discriminator_predictions.dense.weight", "classifier.bias"]),
        ("distilbert", ["vocab_transform.weight", "qa_outputs.bias"]),
        ("modernbert", ["decoder.bias", "head.weight"]),
        ("albert", ["predictions.dense.weight", "sop_classifier.classifier.weight"]),
    ],
)
def test_other_tensors_beside_an_encoder_are_no_head(architecture: str, names: list[str]) -> None:
    assert head_tensors(architecture, names) == []


def test_a_head_of_an_architecture_without_known_names_is_refused(tmp_path: Path) -> None:
    """Its run would have the name of one that started from the head."""
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64, "vocab_size": 300}
    config = transformers.GPT2Config(**{**IDS, **sizes})
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    from runners.contract.tiny import wordpiece

    wordpiece().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"score\.weight belongs to a task head.*gpt2"):
        _loaded(tmp_path, 1)
    file = load_file(tmp_path / "model.safetensors")
    del file["score.weight"]
    save_file(file, tmp_path / "model.safetensors")
    assert _loaded(tmp_path, 1).head == {"score.weight"}


def test_a_wrong_size_inside_the_encoder_names_the_tensor_and_both_shapes(
    tuned: Callable[[str], Path], tmp_path: Path, cli: Cli
) -> None:
    for path in tuned("bert").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    wide = {**config, "intermediate_size": SIZES["intermediate_size"] + 1}
    (tmp_path / "config.json").write_text(json.dumps(wide))
    done = cli(*tiny(tmp_path, "task=mnli"))
    assert done.code == 2
    assert "bert.encoder.layer.0.intermediate.dense.bias is [64] in" in done.err
    assert "[65] by its config.json" in done.err
    assert "Traceback" not in done.err
