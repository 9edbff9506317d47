"""Nothing is loaded that the hashes do not cover, and nothing is unpickled."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from results.errors import UserError
from runners.models.pretrained import load_model
from runners.models.weights import Weights, find_weights, text_files
from tests.conftest import Cli, architectures, configure, tiny

Folder = Callable[[str], Path]


@pytest.fixture
def copy(tiny_folder: Folder, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder("bert"), tmp_path / "copy"))


def _find(folder: Path) -> Weights:
    return find_weights(configure(*tiny(folder)).settings.model)


def _load(folder: Path, task: str = "rte") -> dict[str, torch.Tensor]:
    method = "embedding" if task == "sts" else "full"
    settings = configure(*tiny(folder, f"task={task}", f"method={method}")).settings
    loaded = load_model(find_weights(settings.model), settings.task, 1, 48, None)
    return dict(loaded.model.named_parameters())


def _set(path: Path, **keys: Any) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**content, **keys}))


def _split_in_two(folder: Path, second: str = "model-2.safetensors") -> None:
    """Write the weights as two shards with an index; the second gets this name."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], second: names[1::2]}
    for file, part in parts.items():
        (folder / file).parent.mkdir(exist_ok=True)
        save_file({n: tensors[n] for n in part}, folder / file, {"format": "pt"})
    weight_map = {name: file for file, part in parts.items() for name in part}
    _set(folder / "model.safetensors.index.json", weight_map=weight_map, metadata={})
    (folder / "model.safetensors").unlink()


class _Opened:
    """Says that it was unpickled, by a file beside the pickle."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def _pickled_shard(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Opened(folder / "unpickled")))
    _set(folder / "model.safetensors.index.json", weight_map={"a": "pytorch_model.bin"})
    (folder / "model.safetensors").unlink()


def _weights_elsewhere(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "other.safetensors")
    _set(folder / "config.json", transformers_weights="other.safetensors")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: _set(f / "adapter_config.json", peft_type="LORA"), "merge_and_unload"),
        (_pickled_shard, "names 'pytorch_model.bin', which is no safetensors file"),
        (lambda f: _split_in_two(f, "../second.safetensors"), "'../second.safetensors'"),
        (lambda f: _split_in_two(f, "sub/second.safetensors"), "'sub/second.safetensors'"),
        (lambda f: _split_in_two(f, str(f / "second.safetensors")), "/copy/second.safetensors'"),
        (_weights_elsewhere, "its weights in 'other.safetensors' (transformers_weights)"),
        (
            lambda f: _set(f / "config.json", configuration_files=["config.4/../../a.json"]),
            "names files of another folder (configuration_files)",
        ),
        (
            lambda f: _set(
                f / "tokenizer_config.json", fast_tokenizer_files=["../tokenizer.4.json"]
            ),
            "names files of another folder (fast_tokenizer_files)",
        ),
    ],
)
def test_a_folder_that_names_what_is_not_hashed_is_refused(
    harm: Callable[[Path], object], said: str, copy: Path, cli: Cli, tmp_path: Path
) -> None:
    harm(copy)
    done = cli(*tiny(copy, "task=rte"))
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1, done.err
    assert not (copy / "unpickled").exists()
    assert not list((tmp_path / "runs").glob("*.json"))


@pytest.mark.parametrize(
    "index",
    [
        {},
        {"weight_map": []},
        {"weight_map": {}},
        {"weight_map": {"a": 1}},
        {"weight_map": {"a": [".safetensors"]}},
        {"weight_map": {"a": ".safetensors"}},
        {"weight_map": {"a": "..\\x.safetensors"}},
        {"weight_map": {"a": "x\0.safetensors"}},
        [],
    ],
)
def test_an_index_of_another_shape_is_refused(index: Any, copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"save the model with save_pretrained"):
        _find(copy)


def test_shards_hold_the_model_that_one_file_holds(copy: Path) -> None:
    whole, before = _load(copy), _find(copy)
    _split_in_two(copy)
    split, after = _load(copy), _find(copy)
    assert [p.name for p in after.files] == ["model-1.safetensors", "model-2.safetensors"]
    assert before.sha256 != after.sha256
    assert all(torch.equal(whole[name], split[name]) for name in whole)


def _decoys(folder: Path) -> None:
    """Put beside a model what transformers or peft would load in other circumstances."""
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(_Opened(folder / "unpickled")))
    tensors = {n: t + 1 for n, t in load_file(folder / "model.safetensors").items()}
    for name in ("adapter_model.safetensors", "other.safetensors", "model.fp16.safetensors"):
        save_file(tensors, folder / name, {"format": "pt"})
    (folder / "modeling_other.py").write_text("raise SystemExit(9)")
    _set(folder / "config.json", auto_map={"AutoModel": "modeling_other.Other"})
    _set(folder / "generation_config.json", max_length=3)
    (folder / "chat_template.jinja").write_text("{{ messages }}")


READ: list[str] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes):
        READ.append(str(arguments[0]))


@pytest.fixture(scope="module", autouse=True)
def _watch() -> None:
    sys.addaudithook(_note)  # for good, as none can be taken away


@pytest.mark.parametrize("architecture", architectures("xlnet"))
@pytest.mark.parametrize("task", ["rte", "sts"])
def test_what_lies_beside_the_hashed_files_is_not_read(
    architecture: str, task: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder(architecture), tmp_path / "copy"))
    before = _load(folder, task)
    _decoys(folder)
    weights = _find(folder)
    READ.clear()
    after = _load(folder, task)
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    hashed = {p.name for p in [*weights.files, *text_files(folder)]}
    read = {Path(p).name for p in READ if p.startswith(str(folder))}
    assert "config.json" in read
    assert read <= hashed | {"chat_template.jinja"}  # which no run's text passes through
    assert not (folder / "unpickled").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "tokenizer.json", "tokenizer_config.json", "added_tokens.json"),
        *("vocab.txt", "merges.txt", "spm.model", "sentencepiece.bpe.model", "bpe.codes"),
        *("prophetnet.tokenizer", "tokenizer.model", "tekken.json", "special_tokens_map.json"),
    ],
)
def test_every_file_of_a_tokenizer_is_in_the_hash(name: str, copy: Path) -> None:
    before = _find(copy).files_sha256
    with (copy / name).open("ab") as stream:
        stream.write(b" ")
    assert _find(copy).files_sha256 != before


def test_the_hashes_of_texts_cover_all_that_tokenizers_are_made_of() -> None:
    """No tokenizer of transformers reads a file with a suffix that the hash passes over."""
    import re

    import transformers

    suffixes = set()
    for path in Path(transformers.__file__).parent.glob("models/*/tokenization_*.py"):
        for block in re.findall(r"VOCAB_FILES_NAMES = \{(.*?)\}", path.read_text(), re.DOTALL):
            suffixes |= {Path(n).suffix for n in re.findall(r':\s*"([^"]+)"', block)}
    assert {".json", ".txt", ".model", ".codes"} <= suffixes
    from runners.models.weights import _TEXTS

    assert suffixes <= set(_TEXTS)


def test_a_folder_whose_tokenizer_is_one_sentencepiece_file_is_taken(
    tiny_folder: Folder, tmp_path: Path, cli: Cli
) -> None:
    """XLM-R's and CamemBERT's older checkpoints hold no other file of a tokenizer."""
    import transformers

    from runners.contract.tiny import IDS, SIZES, save_random

    pieces = tiny_folder("deberta-v2") / "spm.model"
    sizes: dict[str, Any] = {**SIZES, "max_position_embeddings": 66, "vocab_size": 100}
    ids = {**IDS, "pad_token_id": 1}
    save_random(transformers.XLMRobertaConfig(**{**sizes, **ids}), tmp_path / "model")
    shutil.copy(pieces, tmp_path / "model" / "sentencepiece.bpe.model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    first, second = (tokenizer(text).input_ids for text in ("the plot is dull", "some cats"))
    assert len(set(first) & set(second)) < len(set(second)) - 1  # it knows words
    done = cli(*tiny(tmp_path / "model", "task=rte"))
    assert done.code == 0, done.err
