"""save=model, export= and push=: what a user types, and what is left where something fails."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from results.record import Record, read_all, write
from runners.command import main
from runners.models.about import SOURCE, source_of
from runners.models.weights import find_weights
from tests.conftest import Cli, composed, configure, tiny
from tests.runners.runs.test_full_disk import fill, small_disk  # noqa: F401
from tests.tiny import save_tiny

Folder = Callable[[str], Path]


@dataclass
class _Hub:
    """Stands in for huggingface_hub's HfApi, and records what it is told to do."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    failure: Exception | None = None

    def create_repo(self, repository: str, **more: Any) -> None:
        self.calls.append(("create_repo", {"repo_id": repository, **more}))

    def upload_folder(self, **more: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.calls.append(("upload_folder", more))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> _Hub:
    own = _Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: own)
    return own


def _one(out: Path) -> tuple[Record, Path]:
    [record] = read_all(out)
    return record, out / f"{record.run}.model"


def _card(folder: Path) -> tuple[dict[str, Any], str]:
    _, front, page = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), page


def test_a_run_leaves_its_model_and_a_delta_makes_the_same(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, hub: _Hub
) -> None:
    """Trained once; then made from the delta, by the same command and by export=."""
    out = tmp_path / "out"
    given = tiny(tiny_folder("bert"), "method=lora", "task=rte", f"out={out}", "lr=1e-2")
    assert cli(*given, "save=delta").code == 0
    record, model = _one(out)
    done = cli(*given, "save=model", "push=somebody/rte-lora")
    assert done.code == 0, done.err
    assert "stored result" in done.out
    assert "it runs again" not in done.err
    assert read_all(out) == [record]
    assert [name for name, _ in hub.calls] == ["create_repo", "upload_folder"]
    assert hub.calls[0][1] == {"repo_id": "somebody/rte-lora", "private": True, "exist_ok": True}
    assert hub.calls[1][1] == {"repo_id": "somebody/rte-lora", "folder_path": model}
    from_delta = load_file(model / "model.safetensors")
    made = tmp_path / "made"
    done = cli(f"export={model.with_suffix('.delta')}", f"out={made}", "threads=1")
    assert done.code == 0, done.err
    assert f"{made}: a model that transformers loads" in done.out
    trained = tmp_path / "trained"
    again = [a for a in given if not a.startswith("out=")]
    assert cli(*again, "save=model", f"out={trained}").code == 0
    other, _ = _one(trained)
    assert other.run == record.run
    assert not {"save", "push"} & set(other.config)
    assert other.trained_sha256 == record.trained_sha256  # the check drew nothing
    for folder in (made, trained / f"{record.run}.model"):
        tensors = load_file(folder / "model.safetensors")
        assert {n: t.shape for n, t in tensors.items()} == {
            n: t.shape for n, t in from_delta.items()
        }
        assert all(torch.equal(tensors[n], t) for n, t in from_delta.items())
        facts, page = _card(folder)
        assert facts["tags"] == ["tunebench", "lora", "rte"]
        assert (facts["license"], facts["metrics"]) == ("unknown", ["accuracy"])
        assert f"{100 * record.scores['validation']['accuracy']:.2f}" in page
        assert "model.name_or_path=bert" in page
        assert str(record.environment["commit"]) in page
        assert "generates in the shape of the task" in page
        assert str(tmp_path) not in page
        assert str(tiny_folder("bert").parent) not in page


def test_a_push_that_fails_costs_nothing(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, hub: _Hub
) -> None:
    hub.failure = RuntimeError("401 Client Error:\nnobody is logged in")
    given = tiny(
        tiny_folder("bert"), "method=bitfit", "task=stsb", "save=model", "push=a/${task.name}"
    )
    done = cli(*given)
    assert done.code == 0
    _, model = _one(tmp_path / "runs")
    [warned] = [line for line in done.err.splitlines() if line.startswith("warning: push=")]
    assert "401 Client Error: nobody is logged in" in warned
    assert warned.endswith(f"this sends it: hf upload a/stsb {model}")
    assert json.loads((model / "config.json").read_text())["problem_type"] == "regression"
    hub.failure = None
    done = cli(*given)  # the folder is there: it is only sent
    assert "stored result" in done.out
    assert "sent to the hub: a/stsb" in done.out


def test_files_of_every_export_are_for_everyone(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    before = os.umask(0o077)
    try:
        small = tiny(tiny_folder("bert"), "method=full", "task=rte")
        for save in ("delta", "model", "logits"):
            assert cli(*small, f"save={save}", "force=true").code == 0
        vectors = tiny(tiny_folder("bert"), "method=simcse", "task=sts")
        assert cli(*vectors, "save=sentence-transformers").code == 0
    finally:
        os.umask(before)
    exports = [p for p in (tmp_path / "runs").iterdir() if p.is_dir() and p.name[0] != "."]
    assert {p.suffix for p in exports} == {".delta", ".model", ".sentence-transformers"}
    for path in (q for p in exports for q in (p, *p.rglob("*"))):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path
    [logits] = (tmp_path / "runs").glob("*.npz")
    assert stat.S_IMODE(logits.stat().st_mode) == 0o644


def test_a_full_disk_leaves_no_half_model(
    cli: Cli,
    tiny_folder: Folder,
    small_disk: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    given = tiny(tiny_folder("bert"), "method=bitfit", "task=rte")
    assert cli(*given, "save=delta", f"out={tmp_path / 'kept'}").code == 0
    [delta] = (tmp_path / "kept").glob("*.delta")
    out = small_disk / "runs"
    out.mkdir()
    ballast = fill(small_disk)
    with ballast.open("r+b") as stream:
        stream.truncate(ballast.stat().st_size - 64 * 1024)  # the record has room, a model has not
    done = cli(*given, "save=model", f"out={out}")
    assert done.code == 0, done.err
    assert "could not be written (" in done.err
    assert "No space left" in done.err
    assert [p.suffix for p in out.iterdir() if p.name[0] != "."] == [".json"]
    done = cli(f"export={delta}", f"out={small_disk / 'model'}")
    assert done.code == 2
    assert f"error: out={small_disk / 'model'}: cannot be written (" in done.err
    assert done.err.count("\n") == 1
    assert not (small_disk / "model").exists()
    assert not list(small_disk.glob("**/*.tmp"))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["task=rte", "method=prefix", "save=model"], "method=prefix leaves keys and values"),
        (["task=rte", "method=[hype,adapter]", "save=model"], "method=adapter leaves bottlenecks"),
        (["task=sts", "method=simcse", "save=model"], "use save=sentence-transformers"),
        (["mix=[rte,mrpc]", "save=model"], "has the outputs of 2 tasks in one head"),
        (["task=cola", "budget.truncate=head_tail", "save=model"], "keeps both ends"),
        (["task=rte", "push=a/b"], "push= sends the folder that save=model writes"),
        (["task=rte", "save=delta", "push=a/b"], "add save=model"),
        (["task=rte", "save=model", "push=a/b/c"], "push=a/b/c: no repository of the hub"),
        (["task=rte", "save=model", "push=a--b"], "give OWNER/NAME"),
        (["board=smoke", "save=model", "push=a/b"], "board= makes many runs"),
        (["stages=[rte,mrpc]", "save=model", "push=a/b"], "stages= makes many runs"),
        (["-m", "task=rte,cola", "save=model", "push=a/b"], "push=a/b: -m makes many runs"),
        (["export=x"], "export=x needs out=FOLDER"),
        (["export=x", "lr=1"], "lr= would change nothing: export="),
        (["export=nothing", "out=new"], "export=nothing: no delta.json there"),
    ],
)
def test_mistakes_are_named_before_any_work(
    typed: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py", *typed])
    assert main() == 2
    err = capfd.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_export_does_not_write_over_a_folder_nor_make_what_would_answer_otherwise(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = tiny(tiny_folder("bert"), "method=prompt", "task=rte", "save=delta")
    assert cli(*given, "method.prompt.length=2").code == 0
    [delta] = (tmp_path / "runs").glob("*.delta")
    done = cli(f"export={delta}", f"out={tmp_path / 'runs'}")
    assert (done.code, "is there already; name a new folder" in done.err) == (2, True)
    done = cli(f"export={delta}", f"out={tmp_path / 'new'}")
    assert done.code == 2
    assert f"error: export={delta}: method=prompt leaves vectors before the text" in done.err
    assert not (tmp_path / "new").exists()


def test_a_damaged_delta_has_the_run_done_again(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = tiny(tiny_folder("bert"), "method=bitfit", "task=rte")
    assert cli(*given, "save=delta").code == 0
    [delta] = (tmp_path / "runs").glob("*.delta")
    (delta / "delta.safetensors").unlink()
    done = cli(*given, "save=model")
    assert done.code == 0
    assert "delta.safetensors is missing" in done.err
    assert "it runs again for that" in done.err
    assert (_one(tmp_path / "runs")[1] / "model.safetensors").is_file()


def test_the_packaged_encoders_name_on_the_hub_is_told(tmp_path: Path, cli: Cli) -> None:
    """It is in a card and in peft's file, in no record and no delta's configuration."""
    small = ("data=embedded", "data.train_size=8", "data.eval_size=8", "budget=smoke")
    given = ("method=lora", "task=rte", "device=cpu", "budget.steps=1", *small)
    assert cli(*given, "save=delta").code == 0
    assert cli(*given, "save=model").code == 0
    record, model = _one(tmp_path / "runs")
    known = "sentence-transformers/all-MiniLM-L6-v2"
    delta = model.with_suffix(".delta")
    assert _card(model)[0]["base_model"] == known
    peft = json.loads((delta / "adapter_config.json").read_text())
    assert peft["base_model_name_or_path"] == known
    assert "hub" not in record.config["model"]
    assert known not in (delta / "delta.json").read_text()
    assert composed(("task=rte",))["model"]["hub"] == known


def test_a_model_of_another_folder_has_no_base_in_its_card(
    tmp_path: Path, cli: Cli, tiny_folder: Folder
) -> None:
    folder = save_tiny("bert", tmp_path / "a | folder")
    done = cli(*tiny(folder, "method=linear", "task=rte", "save=model"))
    assert done.code == 0, done.err
    facts, page = _card(_one(tmp_path / "runs")[1])
    assert "base_model" not in facts
    assert str(tmp_path) not in page


def test_a_card_has_no_scores_of_other_weights(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """The record beside a delta may be of the run as it was done again, with force=true."""
    out = tmp_path / "out"
    given = tiny(tiny_folder("bert"), "method=bitfit", "task=rte", f"out={out}")
    assert cli(*given, "save=delta").code == 0
    record, model = _one(out)
    write(replace(record, trained_sha256="0" * 64), out)
    done = cli(f"export={model.with_suffix('.delta')}", f"out={tmp_path / 'made'}")
    assert done.code == 0, done.err
    assert f"{100 * record.scores['validation']['accuracy']:.2f}" not in _card(tmp_path / "made")[1]


def test_a_model_of_other_weights_than_its_record_is_not_used(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, hub: _Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a run was done again on another machine, with force=true and without save=model."""
    out = tmp_path / "out"
    given = tiny(tiny_folder("bert"), "method=bitfit", "task=rte", f"out={out}")
    assert cli(*given, "save=model").code == 0
    record, model = _one(out)
    (model / SOURCE).write_text(source_of(record.run, "0" * 64))
    (rows := tmp_path / "t.csv").write_text("sentence1,sentence2\na,b\n")
    predict = [f"text={rows}", f"out={tmp_path / 'o.csv'}"]
    done = cli(f"predict={out / record.run}.json", *predict)
    assert (done.code, f"{model} holds other weights than the record" in done.err) == (2, True)
    assert "run it again with save=model" in done.err
    assert cli(f"predict={model}", *predict).code == 0  # named itself
    done = cli(*given, "save=model", "push=a/b")
    assert "runs again for that" in done.err
    assert [name for name, _ in hub.calls] == ["create_repo", "upload_folder"]
    assert cli(f"predict={out / record.run}.json", *predict).code == 0
    assert "stored result" in cli(*given, "save=model").out

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    source = json.loads((model / SOURCE).read_text())
    (model / SOURCE).write_text(source_of(source["run"], "0" * 64))
    monkeypatch.setattr("runners.runs.train.export_model", full)
    done = cli(*given, "save=model", "push=a/b")
    assert "so nothing was sent" in done.err
    assert len(hub.calls) == 2
    (model / SOURCE).write_text(source_of(source["run"], "0" * 64).replace("0", "1", 1))
    done = cli(f"predict={out / record.run}.json", *predict)
    assert (done.code, f"{SOURCE} is damaged or was changed" in done.err) == (2, True)
    (model / SOURCE).unlink()  # an older one does not say whose weights it holds
    assert cli(f"predict={out / record.run}.json", *predict).code == 0
    assert "stored result" in cli(*given, "save=model").out


def test_vectors_of_other_weights_than_their_record_are_made_again(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    given = tiny(tiny_folder("bert"), "method=[bitfit,simcse]", "task=sts")
    given = [*given, "save=sentence-transformers"]
    assert cli(*given).code == 0
    [record] = read_all(out)
    assert "stored result" in cli(*given).out
    vectors = out / f"{record.run}.sentence-transformers"
    (vectors / SOURCE).write_text(source_of(record.run, "0" * 64))
    assert "runs again for that" in cli(*given).err
    assert "stored result" in cli(*given).out


def test_whose_weights_a_model_holds_changes_no_run_of_it(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder("bert"), tmp_path / "copy"))
    model = configure("task=rte", f"model.name_or_path={folder}").settings.model
    before = find_weights(model)
    (folder / SOURCE).write_text(source_of("RUN", "0" * 64))
    assert find_weights(model) == before
