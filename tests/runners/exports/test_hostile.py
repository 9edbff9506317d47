"""A delta of an older version is checked as far as it goes, and a hostile one is one sentence."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from results.errors import UserError
from results.record import read_all
from results.sealed import sealed
from runners.exports.delta import load_delta
from tests.conftest import Cli, narrow, tiny

Folder = Callable[[str], Path]
PEFT = ("lora", "ia3", "prefix", "prompt")


def _saved(cli: Cli, folder: Path, out: Path, *arguments: str) -> Path:
    done = cli(*tiny(folder, *arguments, "task=rte", "save=delta", f"out={out}"))
    assert done.code == 0, done.err
    [record] = read_all(out)
    return out / f"{record.run}.delta"


def _about(delta: Path) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((delta / "delta.json").read_text())
    return about


def _as_of_old(delta: Path, tensors: dict[str, torch.Tensor] | None = None) -> None:
    """Make it a delta without hashes of its files and of its description."""
    about = {k: v for k, v in _about(delta).items() if k not in ("files", "content_sha256")}
    path = delta / about["file"]
    if tensors is not None:
        save_file(tensors, path)
        about["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (delta / "delta.json").write_text(json.dumps(about))


def _refusal(folder: Path) -> str:
    with pytest.raises(UserError) as refused:
        load_delta(folder)
    said = str(refused.value)
    assert said.startswith(f"eval={folder}: ")
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize("arguments", [narrow("unipelt"), ["prefix", "projection=true"]])
def test_folded_tensors_are_those_of_the_model(
    arguments: list[str], cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    if len(arguments) == 2 and "=" not in arguments[0]:
        arguments = [f"method={arguments[0]}", f"method.{arguments[0]}.{arguments[1]}"]
    arguments = [*arguments, "method.unipelt.lr=1e-3"] if "unipelt" in arguments[0] else arguments
    delta = _saved(cli, tiny_folder("bert"), tmp_path / "out", *arguments)
    path = delta / _about(delta)["file"]
    tensors = load_file(path)
    [folded] = [n for n in tensors if ":" in n or n == "prompt_embeddings"]
    shape = tuple(tensors[folded].shape)
    for other, said in (
        ({**tensors, folded: tensors[folded].flatten()[:-1]}, "has no place in the model"),
        ({**tensors, folded: tensors[folded].reshape(-1, 1)}, "has no place in the model"),
        ({**tensors, folded: tensors[folded].double()}, "holds torch.float64"),
        ({**tensors, folded: torch.full(shape, torch.nan)}, "holds nan or infinity"),
        ({n: t for n, t in tensors.items() if n != folded}, "1 trained tensors are missing"),
        ({**tensors, "lora:prefixes": tensors[folded]}, "lora:prefixes"),
        ({**tensors, "unipelt:more": tensors[folded]}, "unipelt:more"),
    ):
        _as_of_old(delta, {n: t.clone().contiguous() for n, t in other.items()})
        assert said in _refusal(delta)
    _as_of_old(delta, tensors)
    load_delta(delta)


@pytest.mark.parametrize("method", PEFT)
def test_options_of_peft_are_the_runs_without_a_hash_too(
    method: str, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    delta = _saved(cli, tiny_folder("bert"), tmp_path / "out", f"method={method}")
    _as_of_old(delta)
    load_delta(delta)
    path = delta / "adapter_config.json"
    stored = json.loads(path.read_text())
    others = {
        "lora": {"r": 4, "lora_alpha": 8, "target_modules": ["value"], "use_dora": True},
        "ia3": {"target_modules": ["query"], "feedforward_modules": []},
        "prefix": {"num_virtual_tokens": 3, "num_layers": 1, "prefix_projection": True},
        "prompt": {"num_virtual_tokens": 3, "token_dim": 16},
    }[method]
    for key, value in {**others, "peft_type": "ADALORA", "task_type": "CAUSAL_LM"}.items():
        path.write_text(json.dumps({**stored, key: value}))
        said = _refusal(delta)
        assert f"adapter_config.json has {key}={value!r}" in said
    for text in ("[]", "null", "{", "[" * 9000, '{"r": ' + "9" * 400 + "}", '{"r": NaN}', "\ud800"):
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        assert "adapter_config.json" in _refusal(delta)
    path.unlink()
    load_delta(delta)  # as before: we do not need it


def test_a_mask_beside_the_tensors_is_of_the_model(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    options = ("method=child_tuning_d", "method.child_tuning_d.freeze=true")
    delta = _saved(cli, tiny_folder("bert"), tmp_path / "out", *options)
    _as_of_old(delta)
    path = delta / "child_tuning_d.safetensors"
    masks = load_file(path)
    name = min(masks)
    save_file({**masks, name: masks[name].flatten()[1:].contiguous()}, path)
    assert f"child_tuning_d.safetensors has {name}" in _refusal(delta)
    save_file({**masks, name: torch.full(masks[name].shape, torch.nan)}, path)
    assert "of child_tuning_d.safetensors holds nan" in _refusal(delta)
    path.write_bytes(b"\x80\x04.")
    assert "child_tuning_d.safetensors cannot be read" in _refusal(delta)
    save_file(masks, path)
    load_delta(delta)


def _deep() -> Any:
    node: Any = []
    for _ in range(400):
        node = [node]
    return node


NONE_IS_MEANT = ((("speed",), {}), (("method", "bitfit"), {}), (("method", "bitfit"), None))
TAKEN = [
    (("config", "lr"), None),
    (("config", "lr"), 7),
    (("config", "budget", "max_length"), 7),
    (("config", "model", "package"), "os.path"),  # name_or_path says where the model is
]
HOSTILE: list[tuple[tuple[str, ...], Any]] = [
    *((("config", *place), value)
      for place in ((), ("method",), ("method", "bitfit"), ("task",), ("task", "labels"),
                    ("budget",), ("model",), ("model", "name_or_path"), ("data",), ("speed",),
                    ("optimizer",), ("protocol",), ("lr",), ("budget", "max_length"))
      for value in (None, [], {}, "x", 7, [None], _deep(), 10**400)
      if (place, value) not in NONE_IS_MEANT),
    *((("files",), value) for value in (None, [], "x", {"../delta.json": "a"}, {"/etc/passwd": "a"},
                                        {"": "a"}, {"..": "a"}, {"a" * 5000: "a"}, {"a\0": "a"},
                                        {"\ud800": "a"}, {"delta.safetensors": None})),
    *((("file",), value) for value in (None, [], {}, "../x", "/etc/passwd", "delta.json", 1)),
    *((("weights",), value) for value in (None, [], {}, {"sha256": None}, {"sha256": ["a"]})),
    *((("run",), value) for value in (None, [], 10**400)),
    *((("sha256",), value) for value in (None, [], 5)),
    *((("format",), value) for value in (None, [], {}, float("nan"))),
    (("config", "data", "seed"), float("nan")),
    (("config", "budget", "warmup"), float("inf")),
    (("config", "model", "package"), "os.path"),
    (("config", "model", "name_or_path"), "/dev"),
    (("config", "model", "name_or_path"), "a" * 5000),
    (("config", "method", "\x1b[2J"), {}),
]  # fmt: skip


@pytest.fixture(scope="module")
def bitfit(tiny_folder: Folder, _cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from runners.runs.run import run
    from tests.conftest import configure

    out = tmp_path_factory.mktemp("bitfit")
    given = [*tiny(tiny_folder("bert"), "method=bitfit", "task=rte", "save=delta"), f"out={out}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEBENCH_CACHE", str(_cache))
        assert run(configure(*given), given) == 0
    [delta] = out.glob("*.delta")
    return delta


@pytest.mark.parametrize("hashed", [False, True])
def test_a_hostile_description_is_one_sentence(hashed: bool, bitfit: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run.delta"
    folder.mkdir()
    (folder / "delta.safetensors").symlink_to(bitfit / "delta.safetensors")
    taken: list[tuple[tuple[str, ...], Any]] = []
    for place, value in HOSTILE:
        about = _about(bitfit)
        del about["content_sha256"]
        node = about
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value
        try:
            text = sealed(about) if hashed else json.dumps(about)
        except (ValueError, RecursionError):
            continue  # nan has no hash
        (folder / "delta.json").write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            load_delta(folder)
        except UserError as error:
            said = str(error)
        else:
            taken.append((place, value))
            continue
        assert len(said.splitlines()) == 1, said
        assert "root:" not in said  # of /etc/passwd
        assert said.startswith(f"eval={folder}: ") or "model" in said, (place, value)
    assert taken == TAKEN


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"[]", b"{", b"[" * 100_000, b'{"a": ' + b"9" * 400 + b"}", b"\xff\xfe{}",
     b'{"format": NaN}', b'{"format": "\\ud800"}'],
)  # fmt: skip
def test_a_description_that_is_no_json_is_one_sentence(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "delta.json").write_bytes(text)
    assert "delta.json" in _refusal(tmp_path)


def test_a_description_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "delta.json")
    assert "no delta.json there" in _refusal(tmp_path)
    assert "no delta.json there" in _refusal(tmp_path / ("a" * 5000))


def test_tensors_of_peft_beside_a_method_that_is_not_are_refused(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    delta = _saved(cli, tiny_folder("bert"), tmp_path / "out", "method=lora")
    _as_of_old(delta)
    about = _about(delta)
    about["config"]["method"] = {"bitfit": {}}
    (delta / "delta.json").write_text(json.dumps(about))
    assert "is of one method of peft's, and delta.json names bitfit" in _refusal(delta)
    about["config"]["method"] = {"lora": {"rank": 4}}
    (delta / "delta.json").write_text(json.dumps(about))
    assert "adapter_config.json has r=8, the run 4" in _refusal(delta)


def test_a_hostile_delta_ends_a_command_in_one_line(cli: Cli, bitfit: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("one sentence\n")
    (tmp_path / "delta.json").write_text(json.dumps({**_about(bitfit), "config": []}))
    for act in ("eval", "embed"):
        more = [f"text={text}", f"out={tmp_path}/a.npy"] if act == "embed" else []
        done = cli(f"{act}={tmp_path}", *more)
        assert done.code == 2
        assert len(done.err.splitlines()) == 1, done.err
        assert "delta.json is incomplete" in done.err


def test_labels_that_are_not_the_trained_heads_are_refused(bitfit: Path, tmp_path: Path) -> None:
    (tmp_path / "delta.safetensors").symlink_to(bitfit / "delta.safetensors")
    for labels in (["a", "b", "c"], ["a"], ["a", "a"], ["a", 1]):
        about = {k: v for k, v in _about(bitfit).items() if k not in ("files", "content_sha256")}
        about["config"]["task"]["labels"] = labels
        (tmp_path / "delta.json").write_text(json.dumps(about))
        said = _refusal(tmp_path)
        assert "classifier" in said or "labels" in said
