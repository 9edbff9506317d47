"""A board counts what it asked for, and its pages are complete, stable and say what is missing."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from results import places
from results.__main__ import main
from results.errors import UserError
from results.pages.board_folder import write_boards
from results.pages.sheet import score_sheet
from results.record import write
from results.run_list import ListedRun, RunList, read_list, write_list
from results.stats.compare import average, judge
from results.tables.collect import tables
from tests.conftest import ROOT, Cli, tiny
from tests.results.simulated import BASE, grid, simulated

METHODS = ("full", "bitfit", "adapter")


def _board(records: list, methods: tuple[str, ...] = METHODS, seeds: int = 6) -> RunList:
    runs = {(r.methods[0], r.task, r.seed): r.run for r in records}
    listed = [
        ListedRun(row, task, seed, runs.get((m, task, seed), f"none.{m}.{task}.{seed}"))
        for seed in range(1, seeds + 1)
        for task in ("mrpc", "rte")
        for row, m in enumerate(methods)
    ]
    return RunList("try", methods, tuple(listed))


def test_missing_runs_count_and_a_task_without_any_is_a_column() -> None:
    records = grid({"full": 0, "bitfit": -0.1}, ["mrpc"], 4)
    [table] = tables(records, _board(records))
    assert table.tasks == ("mrpc", "rte")
    assert [row.method for row in table.rows] == ["full", "bitfit"]
    cells = table.rows[0].cells
    assert [(len(c.scores), c.planned) for c in cells.values()] == [(4, 6), (0, 6)]
    sheet = score_sheet(table, judge(table))
    assert [e.text for e in sheet.body[0]][2] == "0/6"
    assert "(4/6)" in sheet.body[0][1].text


def test_rows_keep_the_boards_order_and_other_records_stay_out() -> None:
    records = grid({"adapter": 0, "full": 0, "bitfit": 0, "hype": 0}, ["mrpc", "rte"], 6)
    [table] = tables(records, _board(records))
    assert [row.method for row in table.rows] == list(METHODS)


def test_row_of_a_board_is_one_row_though_its_learning_rates_differ_by_task() -> None:
    records = grid({"full": 0}, ["mrpc", "rte"], 3)
    for record in records:
        record.config = {**record.config, "lr": 1e-4 if record.task == "mrpc" else 5e-5}
    [table] = tables(records, _board(records, ("full",), 3))
    assert [row.method for row in table.rows] == ["full"]
    assert len(tables(records)[0].rows) == 2  # without a board nothing says that they belong


def test_pages_are_written_linked_and_the_same_again(tmp_path: Path) -> None:
    records = grid({"full": 0, "bitfit": -0.1}, ["mrpc", "rte"], 6)
    records += [simulated("adapter", "mrpc", 1, None, status="failed")]
    for record in records:
        record.losses = [1 / (i + 1) for i in range(40)]
        write(record, tmp_path / "runs")
    write_list(_board(records), tmp_path / "boards")
    command = ["boards", str(tmp_path / "runs"), "--boards", str(tmp_path / "boards")]
    assert main(command) == 0
    folder = tmp_path / "boards" / "try"
    first = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert set(first) == {
        *("runs.json", "table.md", "table.tex", "table.csv", "index.html"),
        *("seeds.svg", "cost.svg", "learning.svg"),
    }
    (folder / "published.svg").write_text("of an earlier record")
    assert main(command) == 0
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == first
    page = first["index.html"].decode()
    links = re.findall(r'href="([^"]+\.json)"', page)
    assert len(links) == 25
    relative = re.findall(r'href="([^":#]+)"', page)
    assert set(links) < set(relative)
    assert all((folder / link).resolve().is_file() for link in relative)
    assert page.count("data:image/svg+xml;base64,") == 3
    assert "24 of 36 runs" not in page
    assert "25 of 36 runs have a record" in page
    assert main([*command, "--pdf"]) == 0
    assert (folder / "seeds.pdf").read_bytes().startswith(b"%PDF")


def _links(folder: Path) -> list[Path]:
    page = (folder / "index.html").read_text()
    return [
        (folder / unquote(link)).resolve() for link in re.findall(r'href="([^"]+\.json)"', page)
    ]


def test_links_lead_to_each_records_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One's own records, shipped ones, and trials of a search, also in folders of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "_SHIPPED", tmp_path / "results" / "runs")
    records = grid({"full": 0, "bitfit": -0.1}, ["mrpc", "rte"], 2)
    own = {"mrpc": Path("runs"), "rte": Path("runs/on a machine")}
    where = [own[r.task] if r.methods == ["full"] else places.shipped() for r in records]
    paths = {write(r, folder).resolve() for r, folder in zip(records, where, strict=True)}
    write_list(_board(records, ("full", "bitfit"), 2), Path("results/boards"))
    assert main(["boards"]) == 0
    assert {*_links(Path("results/boards/try"))} == paths

    trial = simulated("full", "rte", 9, protocol="select", selected={"score": 0.5, "step": 1})
    searched = write(trial, Path("results/searches/try/seed 9")).resolve()
    both = [write(r, Path("all") / f"seed {r.seed}").resolve() for r in records]
    assert main(["boards", "all"]) == 0
    assert {*_links(Path("results/boards/try"))} == {searched, *both}


def test_page_over_all_boards_says_of_each_what_it_comes_to(tmp_path: Path) -> None:
    records = grid({"full": 0, "bitfit": -0.1, "adapter": 0.001}, ["mrpc", "rte"], 6)
    for record in records:
        write(record, tmp_path / "runs")
    listed = _board(records)
    write_list(listed, tmp_path / "boards")
    write_list(dataclasses.replace(_board([]), name="none_yet"), tmp_path / "boards")
    command = ["boards", str(tmp_path / "runs"), "--boards", str(tmp_path / "boards")]
    assert main(command) == 0
    page = tmp_path / "boards" / "index.html"
    text = page.read_text()
    assert all((page.parent / link).is_file() for link in re.findall('href="([^"]+)"', text))
    _, none, done = text.split("<article")
    assert "0 of 36 runs have a record" in none
    assert "No table yet." in none
    assert "36 of 36 runs have a record" in done
    [table] = tables(records, listed)
    means = {row.method: average(row, table.tasks) for row in table.rows}
    best = sorted(means, key=lambda name: means[name] or 0, reverse=True)
    shown = re.findall(r'class="method">(\w+)</span> ([\d.]+)', done)
    assert shown == [(name, f"{100 * (means[name] or 0):.1f}") for name in best]
    assert "2 rows are in the top group" in done
    assert "Below full: bitfit (" in done
    first = page.read_bytes()
    assert main(command) == 0
    assert page.read_bytes() == first


def test_board_without_any_record_still_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    write_list(_board([]), tmp_path / "boards")
    assert main(["boards", str(tmp_path / "runs"), "--boards", str(tmp_path / "boards")]) == 0
    text = (tmp_path / "boards" / "try" / "table.md").read_text()
    assert "0 of 36 runs have a record. No run yet: full, bitfit, adapter." in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"board": "a", "methods": ["full"]}',
        '{"board": 1, "methods": ["full"], "runs": []}',
        '{"board": "a", "methods": ["full"], "runs": [[1, "rte", 1, "x"]]}',
        '{"board": "a", "methods": ["full"], "runs": [[0, "rte", "1", "x"]]}',
        '{"board": "a", "methods": ["full"], "runs": [[0, "rte", 1]]}',
        '{"board": "../a", "methods": ["full"], "runs": []}',
        '{"board": "a", "records": "/results", "methods": ["full"], "runs": []}',
        '{"board": "a", "records": "results/../..", "methods": ["full"], "runs": []}',
        '{"board": "a", "records": "C:\\\\runs", "methods": ["full"], "runs": []}',
        '{"board": "a", "records": ["results"], "methods": ["full"], "runs": []}',
    ],
)
def test_damaged_list_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"runs\.json is no list of a board's runs"):
        read_list(path)


def test_a_copied_list_is_refused_and_no_picture_of_ones_own_is_removed(tmp_path: Path) -> None:
    """Pages of a board are written where its list lies, beside what else lies there."""
    records = grid({"full": 0, "bitfit": -0.1}, ["rte"], 1)
    listed = _board(records, ("full", "bitfit"), 1)
    write_list(listed, tmp_path)
    shutil.copytree(tmp_path / listed.name, tmp_path / "copied")
    for record in records:
        write(record, tmp_path / "runs")
    old, own = (tmp_path / listed.name / name for name in ("seeds.2.svg", "logo.svg"))
    for path in (old, own):
        path.write_text("<svg/>")
    bad: list[str] = []
    written = write_boards(tmp_path, tmp_path / "runs", bad)
    assert {path.parent for path in written} == {tmp_path, tmp_path / listed.name}
    assert (old.exists(), own.exists()) == (False, True)
    [said] = bad
    assert said.startswith(
        f"{tmp_path / 'copied' / 'runs.json'} is the list of board {listed.name},"
    )


def test_no_board_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").mkdir()
    assert main(["boards", str(tmp_path / "runs"), "--boards", str(tmp_path)]) == 2
    assert "plan=true list=" in capsys.readouterr().err


def _two_folders(tmp_path: Path) -> tuple[list[str], Path]:
    """Write a board with records of its own, and others of the same runs in the usual folder."""
    usual, own = (grid({"full": 0, "bitfit": gain}, ["mrpc", "rte"], 6) for gain in (-0.1, 0.1))
    for record in usual:
        write(record, tmp_path / "results" / "runs")
    for record in own:
        record.environment = {**record.environment, "device": "cuda"}
        write(record, tmp_path / "results" / "gpu")
    boards = tmp_path / "results" / "boards"
    board = _board(usual, ("full", "bitfit"))
    write_list(board, boards)
    write_list(dataclasses.replace(board, name="own", records="results/gpu"), boards)
    return [str(tmp_path / "results" / "runs"), "--boards", str(boards)], boards


def test_a_board_that_names_its_records_is_made_from_them_wherever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, boards = _two_folders(tmp_path)
    assert main(["boards", *command]) == 0
    page, usual = ((boards / name / "index.html").read_text() for name in ("own", "try"))
    assert "../../gpu/" in page
    assert "../../runs/" not in page
    assert "../../runs/" in usual
    assert "fp32 · cuda ·" in page
    assert "cuda" not in usual
    gains = [
        float(line["difference"])
        for name in ("own", "try")
        for line in csv.DictReader((boards / name / "table.csv").open())
        if line["method"] == "bitfit" and line["task"] == "average"
    ]
    assert gains == [pytest.approx(0.1, abs=0.02), pytest.approx(-0.1, abs=0.02)]
    capsys.readouterr()
    assert main(["front", *command[1:], "--board", "own"]) == 0
    assert re.search(r"\+(9|10|11)\.\d", capsys.readouterr().out)
    assert main(["compare", "bitfit", "full", *command[1:], "--board", "own"]) == 0
    assert "above full" in capsys.readouterr().out
    monkeypatch.chdir(boards)
    assert main(["boards", "../runs", "--boards", "."]) == 0
    assert (boards / "own" / "index.html").read_text() == page


def test_only_chooses_among_a_boards_own_records_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, boards = _two_folders(tmp_path)
    shutil.rmtree(boards / "try")
    assert main(["boards", *command, "--only", "seed=1"]) == 0
    assert "4 of 24 runs have a record" in (boards / "own" / "table.md").read_text()
    capsys.readouterr()
    assert main(["front", *command[1:], "--board", "own", "--only", "method=full"]) == 0
    assert "bitfit" not in capsys.readouterr().out


def test_a_board_whose_records_are_nowhere_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, _ = _two_folders(tmp_path)
    shutil.rmtree(tmp_path / "results" / "gpu")
    for more in (["boards"], ["front", "--board", "own"]):
        assert main([more[0], *command[more[0] == "front" :], *more[1:]]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: board own: its records are of ")
        assert "results/gpu, and there is no such folder" in said


def test_a_folder_that_is_typed_and_only_are_of_the_records_that_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The board's own records are of a GPU and better; those of all runs are of a CPU."""
    monkeypatch.chdir(tmp_path)
    of_gpu = {**BASE.environment, "device": "cuda", "device_name": "a GPU"}
    for gain, folder, environment in ((0.0, "runs", BASE.environment), (0.2, "gpu", of_gpu)):
        for record in grid({"full": gain, "bitfit": gain - 0.1}, ["mrpc", "rte"], 6):
            record.environment = environment
            write(record, Path("results") / folder)
    board = _board(grid({"full": 0, "bitfit": -0.1}, ["mrpc", "rte"], 6), ("full", "bitfit"))
    write_list(dataclasses.replace(board, records="results/gpu"), Path("results/boards"))
    write_list(dataclasses.replace(board, name="other"), Path("results/boards"))
    for command in (["front"], ["compare", "bitfit", "full"]):
        said = {}
        for typed in ([], ["results/runs"], ["--only", "device=cuda"]):
            assert main([*command, *typed, "--board", "try"]) == 0
            said[tuple(typed)] = capsys.readouterr().out
        assert said[()] == said["--only", "device=cuda"] != said["results/runs",]
    assert main(["front", "--board", "try", "--only", "device=cpu"]) == 2
    assert "there is cuda" in capsys.readouterr().err
    assert main(["boards", "--only", "device=cuda"]) == 0  # of the other board no record is left
    assert "0 of 24 runs" in Path("results/boards/other/table.md").read_text()
    assert main(["boards", "--only", "device=mps"]) == 2


def test_the_folder_of_a_boards_records_comes_from_its_definition(
    cli: Cli, tmp_path: Path, tiny_folder: Callable[[str], Path]
) -> None:
    few = [a for a in tiny(tiny_folder("bert")) if not a.startswith("out=")]
    plan = [
        "board=smoke",
        f"out={tmp_path / 'runs'}",
        *few,
        f"list={tmp_path}",
        "plan=true",
        "estimate=false",
    ]
    done = cli(*plan, "+board.records=results/gpu")
    assert done.code == 0, done.err
    board = read_list(tmp_path / "smoke" / "runs.json")
    assert board.records == "results/gpu"
    assert board.to_json() == (tmp_path / "smoke" / "runs.json").read_text()
    assert not (tmp_path / "results").exists()
    done = cli(*plan, "+board.records=../gpu")
    assert done.code == 2
    assert "../gpu is no folder in the project" in done.err


def test_list_comes_from_the_boards_plan(cli: Cli, tmp_path: Path, tiny_folder) -> None:
    few = [a for a in tiny(tiny_folder("bert")) if not a.startswith("out=")]
    command = ["board=smoke", f"out={tmp_path / 'runs'}", *few]
    done = cli(*command, f"list={tmp_path}")
    assert done.code == 2
    assert "goes with plan=true" in done.err
    done = cli(*command, f"list={tmp_path}", "plan=true", "estimate=false")
    assert done.code == 0, done.err
    board = read_list(tmp_path / "smoke" / "runs.json")
    assert board.methods == ("full", "bitfit")
    assert [(a.row, a.task, a.seed) for a in board.runs] == [
        (0, "rte", 1), (1, "rte", 1), (0, "rte", 2), (1, "rte", 2),
    ]  # fmt: skip
    assert all(a.run.startswith(f"rte.{board.methods[a.row]}.") for a in board.runs)
    assert json.loads((tmp_path / "smoke" / "runs.json").read_text())["board"] == "smoke"


def test_committed_pages_are_what_the_records_give(tmp_path: Path) -> None:
    """What `make tables` writes, in the places it writes to: links lead from there."""
    committed = ROOT / "results" / "boards"
    (tmp_path / "results").mkdir()
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "boards.md", tmp_path / "docs")
    for listed in committed.glob("*/runs.json"):
        folder = tmp_path / "results" / "boards" / listed.parent.name
        folder.mkdir(parents=True)
        shutil.copy(listed, folder)
    written = tmp_path / "results" / "boards"

    named = {read_list(listed).records for listed in committed.glob("*/runs.json")} - {None}
    for records in (*map(str, named), "results/runs", "results/searches"):
        shutil.copytree(ROOT / records, tmp_path / records)
    assert main(["boards", str(tmp_path / "results" / "runs"), "--boards", str(written)]) == 0
    for path in sorted(p for p in written.rglob("*") if p.is_file()):
        there = committed / path.relative_to(written)
        assert there.read_bytes() == path.read_bytes(), f"{there}: run make tables"
    assert {p.name for p in written.iterdir()} == {p.name for p in committed.iterdir()}
