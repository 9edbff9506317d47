"""A board of a user's own runs as a shipped one does, and what is wrong in it is a line."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from results.record import read_all
from runners.boards.plan import Board
from tests.conftest import ROOT, Cli
from tests.methods.shake import shake_installed
from tests.runners.boards.test_board import WORKERS, Folder


def test_a_users_own_board_runs_as_a_shipped_one_does(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its task and its method lie beside it; every folder has a blank and an accent."""
    configs, out = tmp_path / "mes réglages", Path("les résultats")
    (tmp_path / "un dossier à moi").mkdir()
    monkeypatch.chdir(tmp_path / "un dossier à moi")
    for group in ("board", "method", "task"):
        (configs / group).mkdir(parents=True)
    (configs / "method" / "small.yaml").write_text(
        "# @package method.bitfit\ndefaults: [bitfit]\nlr: ${oc.select:model.lr.small,5e-3}\n"
    )
    shipped = (ROOT / "configs" / "task" / "rte.yaml").read_text()
    (configs / "task" / "again.yaml").write_text(shipped)
    (configs / "board" / "mine.yaml").write_text(
        "name: another\nmethods: [small, '[hype,bitfit]']\ntasks: [again]\nseeds: [1]\n"
        "set: [budget=smoke, data=embedded, data.train_size=32, data.eval_size=20]\n"
    )
    model = f"model.name_or_path={tiny_folder('bert')}"
    given = ["--config-dir", "../mes réglages", "board=mine", model, "device=cpu", f"out={out}"]
    listed = cli(*given, "plan=true", "estimate=false")
    assert listed.code == 0, listed.err
    joined = cli(f"--config-dir={configs}", *given[2:], "plan=true", "estimate=false")
    assert joined.out == listed.out
    commands = [shlex.split(x.partition("python run.py ")[2]) for x in listed.out.splitlines()]
    assert len(commands) == 2
    done = cli(*given, *WORKERS)
    assert done.code == 0, done.err
    records = read_all(out)
    assert len(records) == 2
    for own, record in zip(commands, sorted(records, key=lambda r: len(r.methods)), strict=True):
        assert own[:2] == ["--config-dir", str(configs)]
        assert shlex.split(record.command)[2:] == [*own, "threads=1"]
        again = cli(*own)
        assert again.code == 0, again.err
        assert f"{record.run}.json; force=true" in again.out
    assert "0 to do" in cli(*given, *WORKERS).err
    assert records[0].config["method"][0]["name"] == "bitfit"
    assert records[0].config["lr"] == 5e-3
    searching = cli(*given, "search=true")
    assert (searching.code, searching.err.count("\n")) == (2, 1)
    assert "error: board=mine has no search" in searching.err
    # The hint for a search is a command, and its trials lie where the board looks for them.
    search = "+board.search={lr: [1e-4, 1e-3, 1e-2], seed: 9}"
    waits = cli(*given, search, "plan=true", "estimate=false").err
    hint = shlex.split(waits.partition("learning rate: python run.py ")[2].partition(" finds")[0])
    assert {"board=mine", "search=true", search, f"out='{out}'"} <= set(hint)
    assert cli(*hint, *WORKERS).code == 0
    chosen = cli(*given, search, "plan=true", "estimate=false")
    assert "wait for a learning rate" not in chosen.err
    assert chosen.out.count(" lr=") == 2
    # A sweep takes the same files, and the method of a package.
    (configs / "method" / "shake.yaml").write_text("# @package method.shake\nstrength: 0.25\n")
    small_runs = ["task=again", "budget=smoke", "data=embedded", "data.train_size=32"]
    with shake_installed():
        swept = cli(
            *("-m", *given[:2], "method=small,shake", "own_process=false", *given[3:]), *small_runs
        )
    assert swept.code == 0, swept.err
    assert {r.methods[0] for r in read_all(out)} == {"bitfit", "hype", "shake"}
    # What a shipped file hides is not read, and said so.
    (configs / "method" / "lora.yaml").write_text("# @package method.lora\nrank: 3\n")
    hidden = cli(*given)
    assert (hidden.code, hidden.err.count("\n")) == (2, 1)
    assert f"{configs}/method/lora.yaml is not read: there is a shipped method of" in hidden.err


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("methods: full", "board.methods='full' (must be a list, as [a, b])"),
        ("methods: [3]", "board.methods.0=3 (must be text: write it in quotes"),
        ("methods: [{method: full, st: [lr=1]}]", "no key called 'board.methods.0.st'; did you me"),
        ("methods: [{set: [lr=1]}]", "board.methods.0.method is missing"),
        ("seeds: [1.5]", "board.seeds.0=1.5 (must be a whole number)"),
        ("name: a b", "board.name='a b' (must match ^[A-Za-z0-9_-]+$)"),
        ("set: [lr]", "board.set.0: lr sets nothing of a run; list KEY=VALUE"),
        ("set: ['stages=[mnli,rte]']", "board.set.0: stages=[mnli,rte] sets nothing of a run"),
        ("set: ['stages.0.lr=1']", "board.set.0: stages.0.lr=1 sets nothing of a run"),
        ("set: [push=a/b]", "board.set.0: push=a/b sets nothing of a run"),
        ("set: [seed=3]", "board.set.0: seed=3: a board lists its seeds; name it there"),
        ("set: [task=sst2]", "board.set.0: task=sst2: a board lists its tasks"),
        (
            "methods: [{method: full, set: [method=bitfit]}]",
            "board.methods.0.set.0: method=bitfit: a board lists its methods",
        ),
        (
            "search: {seed: 1, lr: [1.0, 2.0]}",
            "board.search.lr=[1.0, 2.0] (must hold at least 3)",
        ),
        (
            "search: {lr: [1.0, 2.0, 3.0]}",
            "seed is one seed, seeds are several: give one of the two",
        ),
        ("seed: 1", "no key called 'board.seed'; did you mean seeds?"),
    ],
)
def test_a_fault_of_a_board_of_ones_own_is_told_with_its_file(
    given: str, sentence: str, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "board").mkdir()
    path = tmp_path / "board" / "mine.yaml"
    whole = {"name": "b", "methods": "[full]", "tasks": "[rte]", "seeds": "[1]"}
    key, _, value = given.partition(": ")
    path.write_text("".join(f"{k}: {v}\n" for k, v in (whole | {key: value}).items()))
    found = cli("--config-dir", str(tmp_path), "board=mine")
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert found.err.startswith(f"error: {path}: ")
    assert sentence in found.err
    typed = cli("--config-dir", str(tmp_path), "board=mine", "board.seeds=[a]")
    assert str(path) not in typed.err


@pytest.mark.parametrize(
    ("typed", "instead"),
    [
        (["method=[bitfit,hype]"], "'board.methods=[\"[bitfit,hype]\"]'"),
        (["task=mrpc"], "'board.tasks=[mrpc]'"),
        (["seed=2"], "'board.seeds=[2]'"),
        (["++seed=2"], "'board.seeds=[2]'"),
    ],
)
def test_what_a_board_lists_is_not_typed_beside_it(
    typed: list[str], instead: str, cli: Cli
) -> None:
    """A run of another seed stood in the list, and in its tables, as one of the board's own."""
    one = ("board.methods=[full]", "board.tasks=[rte]", "board.seeds=[1]")
    done = cli("board=smoke", *one, "plan=true", "estimate=false", *typed)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"board=smoke {typed[0]}: a board lists its " in done.err
    assert done.err.endswith(f"type {instead}\n")


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"set": ["lr=1e-3"]}, "lr"),
        ({"methods": ["full", {"method": "lora", "set": ["lr=1e-3"]}]}, "lr"),
        (
            {"methods": [{"method": "[hype,lora]", "set": ["method.lora.rank=2"]}]},
            "method.lora.rank",
        ),
        ({"methods": [{"method": "full", "set": ["method.lora.rank=2"]}]}, ""),
        ({"methods": [{"method": "lora", "set": ["method.lora.alpha=2"]}]}, ""),
    ],
)
def test_what_a_search_tries_is_set_by_no_row(given: dict[str, object], key: str) -> None:
    """It was taken, and stood in the row's name, while the runs had what the search chose."""
    search = {"lr": [1e-4, 1e-3, 1e-2], "seed": 1, "options": {"lora": {"rank": [4, 8]}}}
    board = {"name": "b", "methods": ["lora"], "tasks": ["rte"], "seeds": [1], "search": search}
    if not key:
        assert Board.model_validate(board | given)
        return
    with pytest.raises(ValueError, match=rf"search tries values of {key}=: leave it out"):
        Board.model_validate(board | given)
