"""`~` is the home folder wherever a path is named, and a record names no home folder."""

from __future__ import annotations

import csv
import dataclasses
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from results.__main__ import main as results_main
from results.errors import UserError
from results.record import read_all, write
from runners.config.acts import Acts, Sweep
from runners.config.check import from_record
from runners.config.compose import compose
from runners.config.places import naming, portable, portable_all
from runners.config.settings import Settings
from runners.config.typed import check_typed, readable
from runners.contract.parts import configure
from runners.jobs.job import Job
from tests.conftest import SMALL, Cli, tiny

Folder = Callable[[str], Path]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home folder with a blank and an accent in its name."""
    folder = tmp_path / "homes" / "jean luc é"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{home}", "~"),
        ("out={home}/runs", "out=~/runs"),
        ("a '{home}/a b', {home}.", "a '~/a b', ~."),
        ("[{home}/a,{home}/b]", "[~/a,~/b]"),
        ("file://{home}/a", "file:~/a"),
        ("{doubled}/a", "~/a"),
        ("{escaped}/a", "~/a"),
        ("{real}/a", "~/a"),
        ("{home}2/a {home}.old {home}-x", "{home}2/a {home}.old {home}-x"),
        ("/mnt{home}/a", "/mnt{home}/a"),
        ("hub:name", "hub:name"),
    ],
)
def test_the_home_folder_is_a_tilde_and_nothing_else_is(
    text: str, shown: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "linked"
    link.symlink_to(home)
    monkeypatch.setenv("HOME", str(link if "{real}" in text else home))
    filled = {
        "home": str(home),
        "real": str(home),
        "doubled": str(home).replace("/homes/", "//homes/./"),
        "escaped": str(home).replace(" ", "\\ "),
    }
    assert portable(text.format(**filled)) == shown.format(**filled)
    assert portable_all({"a": [text.format(**filled), 3, None]})["a"][1:] == [3, None]


def test_a_root_or_no_home_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    assert portable("/a/b") == "/a/b"
    assert naming("/").sub("x", "/a") == "/a"


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("out=~/a b", "~/a b"),
        ("out='~/a'", "~/a"),
        ("out=/tmp/données é/x", "/tmp/données é/x"),
        ("out=~/a\\ b", "~/a b"),
        ("data.text=[/a/b,~/c]", ["/a/b", "~/c"]),
        (
            "+task.local.report={validation: ~/x.csv, more: y}",
            {"validation": "~/x.csv", "more": "y"},
        ),
        ("lr=1e-3", 1e-3),
        ("~task.local", None),
    ],
)
def test_what_hydra_cannot_read_is_put_in_quotes(typed: str, value: object) -> None:
    assert OverridesParser.create().parse_override(readable(typed)).value() == value


def test_every_place_is_expanded(home: Path) -> None:
    """In what is typed, in files and in stored configurations alike."""
    given = ["out=~/o", "data.dir=~/d", "data.glue_dir=~/g", "data.text=[~/a,hub:b]"]
    files = [
        "task.local.train=~/t",
        "+task.local.report={validation: ~/v}",
        "+task.local.where_present.w=~/w",
    ]
    settings = configure(*given, *files, "model.name_or_path=~/my model").settings
    assert (settings.out, settings.data.dir) == (f"{home}/o", f"{home}/d")
    assert (settings.data.glue_dir, settings.data.text) == (f"{home}/g", [f"{home}/a", "hub:b"])
    assert settings.model.name_or_path == f"{home}/my model"
    local = settings.task.local
    assert local is not None
    assert (local.train, local.report, local.where_present) == (
        *(f"{home}/t", {"validation": f"{home}/v"}, {"w": f"{home}/w"}),
    )
    pairs = configure("task=sts", "method=simcse", "+task.pairs.own={file: ~/p.tsv}").settings
    assert pairs.task.pairs["own"].file == f"{home}/p.tsv"
    stored = {**settings.model_dump(), "method": {"full": {"lr": 1.0}}, "lr": 1.0}
    assert stored["data"]["text"] == ["~/a", "hub:b"]
    assert "jean" not in str(stored)
    assert from_record(stored).settings.data == settings.data
    named = {
        "eval": "~/e",
        "export": "~/x",
        "verify": "~/v",
        "embed": "~/m",
        "predict": "~/p",
        "text": "~/t",
    }
    acts = Acts(**named, submission="~/a,~/b")
    assert acts.model_dump() == {**named, "submission": ["~/a", "~/b"]}
    assert acts.submission == [f"{home}/a", f"{home}/b"]
    assert acts.verify == f"{home}/v"
    sweep = {k: v for k, v in compose(["list=~/l"]).items() if k in Sweep.model_fields}
    assert Sweep.model_validate(sweep).list == f"{home}/l"


def _keys(schema: Any = Settings, prefix: str = "") -> list[str]:
    keys = []
    for name, field in schema.model_fields.items():
        inner = field.annotation
        nested = hasattr(inner, "model_fields")
        keys += _keys(inner, f"{prefix}{name}.") if nested else [f"{prefix}{name}"]
    return keys


@pytest.mark.parametrize("empty", ["", " ", "''", '""'])
def test_an_empty_value_is_refused_for_every_key(empty: str, cli: Cli) -> None:
    keys = [*_keys(), *Acts.model_fields, *Sweep.model_fields, "task", "method", "board", "+x"]
    assert {"out", "data.dir", "model.name_or_path", "budget.steps", "list", "eval"} <= {*keys}
    for key in keys:
        with pytest.raises(UserError, match=r"= is empty; give it a value, null for none, or leav"):
            check_typed(["a=b", f"{key}={empty}"])
    done = cli("model.name_or_path=", "data=embedded")
    assert (done.code, done.err.count("\n")) == (2, 1)


def test_an_empty_value_in_a_file_is_refused_but_for_labels_and_columns() -> None:
    given = ["task.local.columns={sentence1: '', label: b}", "task.labels=['',x]"]
    configure("task=rte", *given)
    with pytest.raises(UserError, match=r"^2 problems .*data\.dir='' \(must not be empty; null is"):
        configure(
            "task=rte",
            'data={source: auto, dir: "", seed: 0}',
            "+task.local.report={validation: ' '}",
        )


def _write(path: Path, rows: list[tuple[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("title", "topic"), *rows])


def _own_task(home: Path) -> None:
    rows = [(f"{word} {i}", word) for i in range(12) for word in ("politics", "sport")]
    _write(home / "data" / "train.csv", rows)
    _write(home / "data" / "dev.csv", rows[:8])
    (home / "configs" / "task").mkdir(parents=True)
    (home / "configs" / "task" / "topics.yaml").write_text(
        "name: topics\ntext: [headline]\nlabels: [politics, sport]\nmetrics: [accuracy]\nlocal:\n"
        f"  train: {home}/data/train.csv\n  report: {{validation: dev.csv}}\n"
        "  columns: {headline: title, label: topic}\n"
    )


def test_a_record_names_no_home_and_is_verified_scored_and_run_again(
    cli: Cli,
    home: Path,
    tiny_folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Data, model, configurations and results lie in it; an old record named it."""
    _own_task(home)
    shutil.copytree(tiny_folder("bert"), home / "my model")
    given = [
        *("--config-dir", f"{home}/configs", "task=topics", f"data.dir={home}/data", "seed=1"),
        *(f"model.name_or_path={home}/my model", f"out={home}/runs", "budget=smoke", "device=cpu"),
        *("save=delta", "method=lora", "method.lora.rank=2"),  # which peft writes too
    ]
    assert cli(*given).code == 0
    [path] = (home / "runs").glob("*.json")
    [delta] = (home / "runs").glob("*.delta")
    for file in (path, *delta.iterdir()):
        assert b"jean" not in file.read_bytes(), file
        assert str(tmp_path).encode() not in file.read_bytes(), file
    [record] = read_all(home / "runs")
    assert record.config["data"]["dir"] == "~/data"
    assert record.config["task"]["local"]["train"] == "train.csv"
    assert record.weights["name_or_path"] == record.config["model"]["name_or_path"] == "~/my model"
    command = shlex.split(record.command)[2:]
    assert command[:2] == ["--config-dir", "~/configs"]
    again = cli(*command)
    assert f"stored result of {path}" in again.out, again.err
    assert "equal to the bit: data" in cli(f"verify={path.stem}", "out=~/runs").out
    assert "predictions equal the record's" in cli(f"eval=~/runs/{delta.name}").out
    old = record.config | {
        "data": {**record.config["data"], "dir": f"{home}/data"},
        "model": {**record.config["model"], "name_or_path": f"{home}/my model"},
    }
    write(dataclasses.replace(record, config=old), tmp_path / "runs")
    assert "equal to the bit: data" in cli(f"verify={path.stem}").out
    assert results_main(["~/runs", "--out=~/table.txt"]) == 0
    assert "topics" in (home / "table.txt").read_text()

    def fail(*_: object) -> None:
        raise RuntimeError(f"{home}/data/train.csv, {home}/runs/x, {home}/y{'.' * 3000}")

    monkeypatch.setattr("runners.runs.train.train_and_score", fail)
    assert cli(*given, "out=~/failed").code == 1
    [failed] = read_all(home / "failed")
    assert failed.error is not None
    assert failed.error["message"].startswith("DATA_DIR/train.csv, ~/runs/x, ~/y...")
    assert len(failed.error["message"]) == 2000
    assert "jean" not in failed.to_json()


def test_vectors_and_exports_of_a_run_in_the_home_folder(
    cli: Cli, home: Path, tiny_folder: Folder
) -> None:
    shutil.copytree(tiny_folder("bert"), home / "model")
    (home / "text.txt").write_text("one\ntwo\n")
    given = ("task=sts", "method=embedding", "model.name_or_path=~/model", "out=~/runs")
    given = (*given, "save=sentence-transformers")
    assert cli(*(a for a in SMALL if "train" not in a), *given).code == 0
    [path] = (home / "runs").glob("*.json")
    files = [file for file in (home / "runs").rglob("*") if file.is_file()]
    assert len(files) > 5
    assert [file.name for file in files if b"jean" in file.read_bytes()] == []
    done = cli(f"embed=~/runs/{path.name}", "text=~/text.txt", "out=~/v.npy", "device=cpu")
    assert done.code == 0, done.err
    assert (home / "v.npy").is_file()


@pytest.mark.parametrize(
    "given",
    [
        ["model.name_or_path=~nobody-here/x"],
        ["data=local", "data.dir=~nobody-here/x"],
        ["start=~nobody-here/x"],
        ["data.pseudo.teacher=~nobody-here/x", "data.train_size=9"],
        ["task=mlm", "data.text=~nobody-here/x"],
    ],
)
def test_the_home_of_nobody_is_a_mistake_in_a_sentence(
    given: list[str], tiny_folder: Folder
) -> None:
    with pytest.raises(UserError, match="~nobody-here/x"):
        _ = Job(configure(*tiny(tiny_folder("bert"), *given))).name
