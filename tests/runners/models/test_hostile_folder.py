"""Whatever a model's folder holds, it is loaded or refused in one sentence that names it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.errors import UserError
from runners.models.pretrained import load_model
from runners.models.weights import find_weights
from tests.conftest import configure, tiny

Folder = Callable[[str], Path]
TEXTS: dict[str, bytes] = {
    "a list": b"[]",
    "null": b"null",
    "nothing": b"",
    "cut off": b'{"model_type": "bert"',
    "deep": b"[" * 100_000,
    "deep inside": b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "digits": b'{"vocab_size": ' + b"9" * 5000 + b"}",
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "bytes": bytes(range(256)),
}


@pytest.fixture
def copy(tiny_folder: Folder, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder("bert"), tmp_path / "copy"))


def _take_or_refuse(folder: Path) -> str:
    """Return the sentence by which a folder is refused, or nothing where its model is loaded."""
    settings, said = configure(*tiny(folder, "task=rte")).settings, ""
    began = time.monotonic()
    try:
        load_model(find_weights(settings.model), settings.task, 1, 48, None)
    except UserError as error:
        said = str(error)
    assert time.monotonic() - began < 20
    assert not said or str(folder) in said
    assert len(said.splitlines()) <= 1, said
    return said


def _refusal(folder: Path) -> str:
    said = _take_or_refuse(folder)
    assert said
    return said


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_file_that_is_no_json_object_is_named(name: str, copy: Path) -> None:
    for kind, text in TEXTS.items():
        (copy / name).write_bytes(text)
        said = _refusal(copy)
        assert name in said or name == "tokenizer.json", (kind, said)


def test_an_index_that_is_no_json_object_is_named(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    for text in TEXTS.values():
        (copy / "model.safetensors.index.json").write_bytes(text)
        assert "model.safetensors.index.json cannot be read" in _refusal(copy)
    for shard in ("a" * 5000 + ".safetensors", "\ud800.safetensors", "\x1b[2J.safetensors"):
        index = {"weight_map": {"a": shard}}
        (copy / "model.safetensors.index.json").write_text(json.dumps(index))
        assert "which its index names" in _refusal(copy)


def _set(folder: Path, name: str, **keys: Any) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **keys}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 10**400),
        ("num_hidden_layers", None),
        ("num_hidden_layers", []),
        ("hidden_size", 10**400),
        ("hidden_size", "32"),
        ("hidden_size", -1),
        ("vocab_size", 10**400),
        ("max_position_embeddings", 10**400),
        ("intermediate_size", {}),
        ("num_attention_heads", 0),
        ("model_type", None),
        ("model_type", []),
        ("model_type", "../../x"),
        ("model_type", "\ud800"),
        ("hidden_act", "\x1b[2J"),
        ("architectures", 5),
        ("configuration_files", "../x"),
        ("transformers_weights", ["../x"]),
        ("_name_or_path", []),
    ],
)
def test_a_value_that_no_model_has_is_one_sentence(key: str, value: Any, copy: Path) -> None:
    _set(copy, "config.json", **{key: value})
    assert _take_or_refuse(copy) or key in ("architectures", "_name_or_path")


@pytest.mark.parametrize("key", ["num_hidden_layers", "n_layers", "block_sizes", "num_groups"])
def test_a_model_of_a_billion_layers_is_not_begun(key: str, copy: Path) -> None:
    for value in (10**9, 10**400, [2, 10**9]):
        _set(copy, "config.json", **{key: value})
        assert f"config.json has {key}=1000" in _refusal(copy)


@pytest.mark.parametrize(
    "keys",
    [
        {"tokenizer_class": []},
        {"tokenizer_class": "../x"},
        {"added_tokens_decoder": []},
        {"fast_tokenizer_files": ["../x.json"]},
        {"fast_tokenizer_files": {}},
        {"pad_token": None},
        {"pad_token": {"content": [1]}},
        {"model_max_length": "x"},
    ],
)
def test_a_tokenizers_configuration_is_taken_or_refused(keys: dict[str, Any], copy: Path) -> None:
    _set(copy, "tokenizer_config.json", **keys)
    _take_or_refuse(copy)


def test_a_length_as_published_tokenizers_have_it_is_taken(copy: Path) -> None:
    """More than 64 bits: it says that there is none."""
    _set(copy, "tokenizer_config.json", model_max_length=10**30)
    settings = configure(*tiny(copy, "task=rte")).settings
    load_model(find_weights(settings.model), settings.task, 1, 48, None)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json", "tokenizer.json"])
def test_a_pipe_in_a_models_folder_is_not_waited_for(name: str, copy: Path) -> None:
    (copy / name).unlink()
    os.mkfifo(copy / name)
    _take_or_refuse(copy)


@pytest.mark.parametrize("package", ["os.path", "..", "a.b", "", "__main__", "\ud800", "a b"])
def test_a_package_that_is_none_is_refused_by_name(package: str) -> None:
    model = configure("task=rte").settings.model
    wrong = model.model_copy(update={"package": package, "name_or_path": None})
    with pytest.raises(UserError, match="package"):
        find_weights(wrong)
