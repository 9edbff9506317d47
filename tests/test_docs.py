"""The pages say what is true: short front, whole links, files that exist, tables of the records."""

from __future__ import annotations

import importlib
import re
import subprocess
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from methods.registry import ENTRY_POINT_GROUP, composition_problems, method_class
from results.__main__ import main as results_main
from results.pages.text import BEGIN, END, render
from results.record import write
from results.tables.collect import tables
from runners.boards.plan import Board
from runners.config.task import Task
from tests.conftest import ROOT, Cli, committed_records, narrow, tiny
from tests.pages import PAGES, examples, page_name, prose

DOCS = ROOT / "docs"
README = ROOT / "README.md"


def test_front_page_fits_in_120_lines_and_links_every_page() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 120
    assert all(f"({page_name(page)})" in text for page in DOCS.glob("*.md"))
    assert {"make demo", "make test"} <= {
        line.partition("  #")[0].strip()
        for block in examples(README, "console")
        for line in block.splitlines()
    }


def test_demo_is_the_main_job_and_ci_runs_the_tests() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "run.py method=bitfit task=sst2\n" in makefile
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_front_page_shows_the_board_of_the_committed_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for record in committed_records("results/h200"):
        write(record, tmp_path)
    monkeypatch.chdir(ROOT)
    assert results_main(["front", "--board", "low1k", str(tmp_path)]) == 0
    begin, end = "<!-- front: begin -->", "<!-- front: end -->"
    shown = README.read_text().split(begin)[1].split(end)[0]
    assert shown == "\n" + capsys.readouterr().out


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    dead = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            dead.append(link)
    assert dead == []


@cache
def _tree() -> tuple[frozenset[str], frozenset[str]]:
    """Return the paths of all files and folders, and their last parts."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = [Path(name) for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    paths = {path.as_posix() for file in files for path in (file, *file.parents)}
    return frozenset(paths), frozenset(path.rpartition("/")[2] for path in paths)


def _is_there(named: str) -> bool:
    paths, names = _tree()
    name = named.rstrip("/")
    if re.search(r"NAME|KEY|RUN|FOLDER", named):
        return name.rpartition("/")[0] in paths
    return name in paths if "/" in name else name in names


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    """A path from the root, or a file's or a room's name alone."""
    rooted = r"(?:configs|methods|runners|results|tests|docs)/[\w./*-]*"
    named = re.findall(rf"`({rooted}|\w+\.(?:py|yaml|md)|\w+/)`", prose(page))
    others = ("CoLA/", "SST-2/", "runs/RUN.delta/", "methods/norms.py")
    assert [name for name in named if name not in others and not _is_there(name)] == []


@pytest.mark.parametrize(("top", "contract"), [("runners", "rooms"), ("results", "results")])
def test_floors_are_drawn_as_the_imports_are_held_to(top: str, contract: str) -> None:
    drawings = examples(DOCS / "architecture.md", "text")
    [picture] = [drawing for drawing in drawings if drawing.startswith(f"{top}/\n")]
    cells = [re.split(r"\s{2,}", line.strip())[0] for line in picture.splitlines()[1:]]
    drawn = [{name.strip() for name in cell.split("│")} for cell in cells]
    assert [name for floor in drawn for name in floor if not (ROOT / top / name).exists()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    [held] = [c for c in project["tool"]["importlinter"]["contracts"] if c["id"] == contract]
    plain = [{name.removesuffix("/").removesuffix(".py") for name in floor} for floor in drawn]
    assert plain == [set(layer.split(" | ")) for layer in held["layers"]]


def test_choices_are_listed() -> None:
    running, methods = (DOCS / "running.md").read_text(), (DOCS / "methods.md").read_text()
    boards = (DOCS / "boards.md").read_text()
    pages = {"method": methods, "board": boards}
    for group in ("method", "board", "task", "model", "data", "budget", "protocol", "optimizer"):
        for path in (ROOT / "configs" / group).glob("*.yaml"):
            assert f"`{path.stem}`" in pages.get(group, running), f"{group}={path.stem}"


def test_every_page_of_a_board_is_linked_in_the_list_of_boards() -> None:
    linked = re.findall(
        r"\]\(\.\./(results/boards/\w+/table\.md)\)", (DOCS / "boards.md").read_text()
    )
    pages = (ROOT / "results" / "boards").glob("*/table.md")
    assert sorted(linked) == sorted(page.relative_to(ROOT).as_posix() for page in pages)


def test_every_lever_has_its_line() -> None:
    speed = yaml.safe_load((ROOT / "configs" / "config.yaml").read_text())["speed"]
    named = re.findall(r"^\| `speed\.(\w+)=`", (DOCS / "speed.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(speed)


def test_methods_page_shows_the_table_of_the_registered_methods() -> None:
    from runners.catalogue import BEGIN, END, table

    shown = (DOCS / "methods.md").read_text().split(BEGIN)[1].split(END)[0]
    assert shown == "\n" + table()


def test_methods_page_lists_every_hook() -> None:
    from methods.method import Method

    hooks = {name for name, value in vars(Method).items() if callable(value) and name[0] != "_"}
    [text] = [part for part in (DOCS / "methods.md").read_text().split("## ") if "| hook |" in part]
    listed = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*)\|", text, re.MULTILINE)))
    assert sorted(listed) == sorted(hooks)


def test_tables_page_shows_the_tables_of_the_committed_records() -> None:
    shown = (DOCS / "tables.md").read_text().split(BEGIN)[1].split(END)[0]
    assert shown == "\n" + render(tables(committed_records()), "md", differences=False)


def test_yaml_and_toml_examples_are_valid() -> None:
    written = [yaml.safe_load(e) for page in PAGES for e in examples(page, "yaml")]
    boards = [Board.model_validate(one) for one in written if "seeds" in one]
    assert [board.name for board in boards] == ["inference"]
    tasks = [Task.model_validate(one) for one in written if "seeds" not in one]
    kinds = ["classification"] * 5 + ["multiple_choice", "regression"]
    assert sorted(task.kind for task in tasks) == kinds
    [entry] = [example for page in PAGES for example in examples(page, "toml")]
    assert list(tomllib.loads(entry)["project"]["entry-points"]) == [ENTRY_POINT_GROUP]


def test_method_of_the_front_page_trains_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [method] = examples(README, "python")
    (tmp_path / "norms_front.py").write_text(method)
    monkeypatch.syspath_prepend(str(tmp_path))
    norms = importlib.import_module("norms_front").Norms
    import torch

    from methods.method import Setting

    model = torch.nn.ModuleDict({"norm": torch.nn.LayerNorm(2), "dense": torch.nn.Linear(2, 2)})
    head = frozenset({"dense.bias"})
    norms().prepare(model, Setting(head, torch.Generator(), 2, False, 1, 48))
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"norm.weight", "norm.bias", "dense.bias"}
    wd_pre, llrd = method_class("wd_pre"), method_class("llrd")
    [said] = composition_problems([norms(), wd_pre()])
    assert "wd_pre acts on the encoder's matrices that train, and norms trains none" in said
    assert composition_problems([norms(), llrd()]) == []


@pytest.mark.parametrize(
    ("page", "task"), [("records.md", "rte"), ("vectors.md", "sts"), ("predict.md", "rte")]
)
def test_python_examples_of_the_pages_run(
    page: str, task: str, cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    method = "simcse" if task == "sts" else "bitfit"
    assert cli(*tiny(tiny_folder("bert"), *narrow(method), f"task={task}", "save=delta")).code == 0
    [delta] = (tmp_path / "runs").glob("*.delta")
    [example] = examples(DOCS / page, "python")
    names: dict[str, object] = {}
    exec(example.replace("runs/RUN.delta", str(delta)), names)
    assert {"records.md": "model", "vectors.md": "embed", "predict.md": "predicted"}[page] in names


def test_python_examples_of_exported_models_run(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    small = tiny(tiny_folder("bert"), "method=lora", "task=rte")
    assert cli(*small, "save=delta").code == 0
    assert cli(*small, "save=model").code == 0
    [run] = (tmp_path / "runs").glob("*.json")
    whole, theirs = examples(DOCS / "export.md", "python")
    whole, theirs = (e.replace("runs/RUN", str(run.with_suffix(""))) for e in (whole, theirs))
    base = theirs.replace("sentence-transformers/all-MiniLM-L6-v2", str(tiny_folder("bert")))
    names: dict[str, Any] = {}
    exec(f"{whole}\nlabel = classify('the plot', top_k=1)[0]['label']", names)
    assert names["label"] in ("entailment", "not_entailment")
    exec(base, names)
    assert names["model"].peft_config["default"].r == 8
