"""A user's mistake is one line (asked, wrong, instead), exit code 2, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from results import record as records
from tests.conftest import Cli, Outcome, tiny


def _one_line(done: Outcome, *said: str) -> None:
    assert done.code == 2, (done.out, done.err)
    lines = [line for line in done.err.splitlines() if line and not line.startswith("DATA:")]
    assert len(lines) == 1, done.err
    assert lines[0].startswith("error: ")
    for words in said:
        assert words in lines[0]


def _nothing_written(folder: Path) -> None:
    assert not folder.exists() or list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["method=bitft"], ["no method called 'bitft'; did you mean bitfit?"]),
        (["method=zzz"], ["no method called 'zzz'; known: adalora, adapter, "]),
        (["method=[bitfit,ful]"], ["no method called 'ful'; did you mean full?"]),
        (["method=[full,bitfit]"], ["full and bitfit both choose which parameters train"]),
        (["method=[]"], ["no method is named"]),
        (
            ["method={lora:{rank:4}}"],
            ["an option of a method is a key of its own; type method=lora method.lora.rank=4"],
        ),
        (
            ["method=[hype,{lora:{rank:4,alpha:8}}]"],
            ["type method=[hype,lora] method.lora.rank=4 method.lora.alpha=8"],
        ),
        (["method=[lora,{rank:4}]"], ["type method=NAME method.NAME.OPTION=VALUE"]),
        (["budget=[{epochs:1}]"], ["budget=[{epochs:1}]: {'epochs': 1} is no name; type budget="]),
        (
            [f"model.name={240 * 'm'}"],
            [f"{240 * 'm'}: the run's name has 266 bytes", "215; give model.name= a shorter one"],
        ),
        (["model.lr=3"], ["model.lr: it is one value, and model.lr.full is read from it"]),
        (
            ["task.labels.x=3"],
            ["task.labels.x: task.labels is a list; type all of it, as in task."],
        ),
        (["task=mrcp"], ["no task called 'mrcp'; did you mean mrpc?"]),
        (["task=ax"], ["'ax'", "report-only split of task=mnli"]),
        (["model=bert-base"], ["no model called 'bert-base'; did you mean bert-base-uncased?"]),
        (["budget=big"], ["no budget called 'big'; known: default, paper, sentences, smoke"]),
        (["data=locl"], ["no data called 'locl'; did you mean local?"]),
        (["task=123"], ["task=123: 123 is no name; type task=NAME, or task=\"'NAME'\" where"]),
        (["budget=true"], ["budget=true: true is no name; type budget=NAME"]),
        (["method=[full,3]"], ["method=[full,3]: 3 is no name"]),
        (["task=[[rte]]"], ["task=[[rte]]: ['rte'] is no name"]),
        (["-m", "task=null,rte"], ["task=null,rte: null is no name"]),
        (["board=null"], ["board=null: null is no name"]),
        (["task='123'"], ["no task called '123'"]),
        (["=3"], ["=3 names no key; write KEY=VALUE"]),
        (["sed=1"], ["no key called 'sed'; did you mean seed?"]),
        (["epochs=3"], ["no key called 'epochs'; did you mean budget.epochs?"]),
        (["budget.epoch=3"], ["no key called 'budget.epoch'; did you mean budget.epochs?"]),
        (["+extra=3"], ["no key called 'extra'"]),
        (
            ["method=bitfit", "method.bitfit.subst=all"],
            ["no key called 'method.bitfit.subst'", "method.bitfit.subset"],
        ),
        (
            ["method=bitfit", "method.bitfit.subset=al"],
            ["method.bitfit.subset='al'", "did you mean all?"],
        ),
        (["lr=-1"], ["lr=-1 (must be > 0)"]),
        (["lr=0"], ["lr=0 (must be > 0)"]),
        (["lr=nan"], ["lr=nan (must be a finite number)"]),
        (["lr=inf"], ["lr=inf (must be a finite number)"]),
        (["lr=fast"], ["lr='fast' (must be a number)"]),
        (["method=bitfit", "method.bitfit.lr=-1"], ["method.bitfit.lr=-1 (must be > 0)"]),
        (["budget.batch_size=0"], ["budget.batch_size=0 (must be ≥ 1)"]),
        (["budget.epochs=1.5"], ["budget.epochs=1.5 (must be a whole number)"]),
        (["budget.epochs=true"], ["budget.epochs=True (must be a whole number)"]),
        (["budget.evaluate=0"], ["evaluate must be epoch, end, or a number of steps"]),
        (["budget.evaluate=never"], ["budget.evaluate='never'"]),
        (["budget.dropout=1"], ["budget.dropout=1 (must be < 1)"]),
        (["precision=fp16"], ["precision='fp16'", "fp32, bf16"]),
        (["seed=-1"], ["seed=-1 (must be ≥ 0)"]),
        (["seed=abc"], ["seed='abc' (must be a whole number)"]),
        (["device=tpu"], ["device='tpu'"]),
        (["device=cuda:99"], ["device=cuda:99", "use device=cpu"]),
        (["threads=0"], ["threads=0 (must be ≥ 1)"]),
        (["protocol.fraction=0.1"], ["fraction is set for protocol=select"]),
        (["protocol=select", "protocol.fraction=2"], ["protocol.fraction=2 (must be < 1)"]),
        (["data.train_size=99999"], ["data.train_size=99999", "1600 examples"]),
        (["task=mnli", "data.train_size=2"], ["data.train_size=2 has no example labelled"]),
        (["data.eval_size=5000"], ["data.eval_size=5000", "ask for fewer"]),
        (["budget.max_length=100"], ["budget.max_length=100", "64 tokens at most"]),
        (["seed=[1"], ["cannot read 'seed=[1'"]),
        (["seed"], ["seed"]),
        (["task.metrics=[f2]"], ["task.metrics", "'f2'", "f1"]),
        (["task=stsb", "task.metrics=[accuracy]"], ["do not suit kind=regression"]),
        (["task.metrics=[f1]"], ["positive_label"]),
        (["data=local"], ["data=local needs data.dir=FOLDER"]),
        (["data=local", "data.dir=/no/such"], ["data.dir=/no/such: no such folder"]),
        (["model.name_or_path=/no/such"], ["/no/such: no such folder", "model=minilm"]),
        (["method.full=3"], ["method.full=3 takes its options away"]),
        (["method=bitfit", "method.bitfit=null"], ["method.bitfit=None takes its options away"]),
        (["out=/dev/null/runs"], ["out=/dev/null/runs: cannot be written"]),
    ],
)
def test_argument_is_refused_in_one_line(
    arguments: list[str],
    said: list[str],
    cli: Cli,
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    small = [
        a
        for a in tiny(tiny_folder("bert"))
        if not a.startswith(("data.train_size", "data.eval_size"))
    ]
    if any(a.startswith("data=") for a in arguments):
        small = [a for a in small if not a.startswith("data=")]
    given = {a.split("=")[0] for a in arguments}
    small = [a for a in small if a.split("=")[0] not in given]
    _one_line(cli(*(["task=rte"] if "task" not in given else []), *small, *arguments), *said)
    _nothing_written(tmp_path / "runs")


def test_all_problems_are_named_at_once(cli: Cli) -> None:
    done = cli("lr=-1", "budget.epochs=-1", "seed=x", "method=bitfit", "method.bitfit.pooler=3")
    _one_line(
        done,
        "4 problems in this config: ",
        "lr=-1 (must be > 0)",
        "budget.epochs=-1 (must be ≥ 0)",
        "seed='x'",
        "method.bitfit.pooler=3 (must be true or false)",
    )


_GOOD = "index\tsentence1\tsentence2\tlabel\n" + "".join(
    f"{i}\ta {i}\tb {i}\t{('entailment', 'not_entailment')[i % 2]}\n" for i in range(8)
)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (None, ["train.tsv is missing"]),
        ("", ["train.tsv is empty"]),
        (_GOOD.splitlines()[0] + "\n", ["has a header and no rows"]),
        (_GOOD[: _GOOD.rindex("\t")], ["train.tsv line 9 has 3 fields, expected 4", "cut off"]),
        (_GOOD[:-6], ["line 9", "'not_entai'", "known: entailment, not_entailment"]),
        (_GOOD.replace("entailment", "yes", 1), ["line 2: 'yes' is not a label of this task"]),
        (_GOOD.replace("not_entailment", "entailment"), ["no example labelled not_entailment"]),
        (
            _GOOD.replace("sentence2", "sentence_2"),
            ["no column 'sentence2'; did you mean sentence_2?"],
        ),
        (_GOOD.replace("a 3", "a\0"), ["NUL byte"]),
        (_GOOD.encode("utf-16"), ["is not UTF-8"]),
        ("x" * 200, ["no column 'sentence1'"]),
    ],
)
def test_damaged_tsv_is_named_with_its_line(
    train: str | bytes | None,
    said: list[str],
    cli: Cli,
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "glue" / "RTE"
    folder.mkdir(parents=True)
    (folder / "dev.tsv").write_text(_GOOD)
    if train is not None:
        (folder / "train.tsv").write_bytes(train if isinstance(train, bytes) else train.encode())
    model = f"model.name_or_path={tiny_folder('bert')}"
    done = cli("task=rte", "data=local", f"data.dir={folder.parent}", "budget=smoke", model)
    _one_line(done, "task=rte", *said)
    _nothing_written(tmp_path / "runs")


@pytest.mark.parametrize("score", ["5.5", "-1", "nan", "high", ""])
def test_score_outside_its_range_is_named_with_its_line(
    score: str, cli: Cli, tmp_path: Path
) -> None:
    folder = tmp_path / "glue" / "STS-B"
    folder.mkdir(parents=True)
    for name in ("train.tsv", "dev.tsv"):
        (folder / name).write_text(f"sentence1\tsentence2\tscore\na\tb\t1.5\nc\td\t{score}\n")
    done = cli("task=stsb", "data=local", f"data.dir={folder.parent}", "budget=smoke")
    _one_line(done, f"train.tsv line 3: '{score}' is not a score from 0 to 5")


def test_csv_with_broken_quotes_is_named_with_its_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('sentence,label\n"good,1\nbad,0\n')
    done = cli("task=sst2", "data=local", f"data.dir={tmp_path}", "task.local.train=t.csv")
    _one_line(done, "t.csv line", "check its quotes")


def _damage_weights(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _other_shapes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 65}))


def _missing_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _short_vocabulary(folder: Path) -> None:
    """Weights of a model with fewer words than its tokenizer has."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    save_file({**weights, name: weights[name][:50].clone()}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 50}))


def _lost_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "holds no model.safetensors"),
        (lambda f: (f / "config.json").unlink(), "holds no config.json"),
        (
            lambda f: (f / "config.json").write_text("{"),
            "config.json holds no JSON object that can be read",
        ),
        (
            lambda f: (f / "config.json").write_text('{"model_type": "alien"}'),
            "not one of a known model",
        ),
        (_pickled, "pickles can run code"),
        (_damage_weights, "the file may be damaged"),
        (_other_shapes, "encoder.layer.0.intermediate.dense.bias is [64] in"),
        (_missing_shard, "lacks model-00001-of-00001.safetensors"),
        (lambda f: [p.unlink() for p in f.glob("token*")], "holds no tokenizer"),
        (_short_vocabulary, "token ids up to"),
        (_lost_tensor, "1 of the encoder's tensors are not in"),
    ],
)
def test_damaged_model_folder_is_refused(
    harm: Callable[[Path], object],
    said: str,
    cli: Cli,
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder("bert"), folder)
    harm(folder)
    _one_line(cli(*tiny(folder, "task=rte")), said)
    _nothing_written(tmp_path / "runs")


def test_other_weights_than_the_pinned_ones_are_refused(cli: Cli, tmp_path: Path) -> None:
    done = cli("data=embedded", "budget=smoke", f"model.sha256={'0' * 64}")
    _one_line(done, "has sha256 53aa51172d142c89", "expected 0000")
    _nothing_written(tmp_path / "runs")


def test_gpu_that_is_not_there_is_refused(cli: Cli, tiny_folder: Callable[[str], Path]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    arguments = [a for a in tiny(tiny_folder("bert"), "task=rte") if not a.startswith("device")]
    _one_line(cli(*arguments, "device=cuda"), "device=cuda: torch sees 0 GPUs here")


def test_full_disk_loses_nothing(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record cannot be written: what stood there stays, and it is kept elsewhere."""
    arguments = tiny(tiny_folder("bert"), "task=rte")
    assert cli(*arguments).code == 0
    [path] = (tmp_path / "runs").iterdir()
    before = path.read_bytes()
    flush, spare = os.fsync, tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr("results.record.tempfile.gettempdir", lambda: str(spare))

    def full(descriptor: int) -> None:
        if str(tmp_path / "runs") in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    done = cli(*arguments, "force=true")
    assert done.code == 2
    assert "No space left on device" in done.err
    assert f"kept at {spare}" in done.err
    assert path.read_bytes() == before
    assert [p.name for p in (tmp_path / "runs").iterdir()] == [path.name]
    assert records.read(spare / path.name).status == "finished"
