"""Every command on a page works: run small, or checked where it needs hours, a GPU or Slurm."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser

from methods import registry
from methods.registry import default_options
from results.__main__ import main as results_main
from results.record import read_all
from runners.boards.plan import Board, expand, expand_search
from runners.config.acts import Sweep, acts_of, is_chain
from runners.config.check import check
from runners.config.compose import Composer, resolved
from runners.config.spelling import spelled_out
from runners.root import CONFIGS
from runners.subcommands.help import short_help
from runners.subcommands.words import WORDS
from tests.conftest import REAL_GLUE, ROOT, Cli, narrow, tiny
from tests.pages import PAGES, commands, examples, page_name
from tests.tiny import save_gpt

TYPED = sorted({(page_name(page), line) for page in PAGES for line in commands(page)})
RUN_PY = sorted({line for _, line in TYPED if line.startswith("python run.py ")})
OF_A_WORD = [line for line in RUN_PY if line.split()[2] in WORDS]
RUNS = [line for line in RUN_PY if line not in OF_A_WORD]
HUB = r"^(?!.*stages=).*mlm_prompt"  # a head that predicts tokens, and its vocabulary
LONG = re.compile(rf"--help|board=low1k|board=embedded|board=mining|board=NAME$|launcher=|{HUB}")
SHORT = [line for line in RUNS if not LONG.search(line)]
OF_A_RUN = re.compile(r"(eval|embed|export|verify|start|predict|submission|teacher)=(?!stage)")
OTHERS = sorted({line for _, line in TYPED} - set(RUN_PY))
RECORD = next((ROOT / "results" / "runs").glob("rte.bitfit.*.json"))
FOLDERS = ("data.dir=STS", "data.glue_dir=GLUE")


def _arguments(line: str, tmp_path: Path) -> list[str]:
    """Return what a page types for run.py, with its placeholders filled in."""
    line = line.replace("board=NAME", "board=smoke").replace("norms,other", "norms,hype")
    given = shlex.split(line)[2:]
    if "--config-dir" in given:
        folder = tmp_path / "configs" / "task"
        folder.mkdir(parents=True, exist_ok=True)
        pages = [ROOT / "docs" / name for name in ("tasks.md", "unlabelled.md")]
        for example in (one for page in pages for one in examples(page, "yaml")):
            name = example.splitlines()[0].rpartition("/")[2]
            (folder / name).write_text(example.replace("/data/", f"{tmp_path}/"))
        words = [(word, i) for i in range(30) for word in ("politics", "sport")]
        rows = "\n".join(f"{word} {i}. {i} of {word},{word}" for word, i in words)
        for split in ("train", "dev"):
            (tmp_path / f"{split}.csv").write_text(f"title,topic\n{rows}\n")
        given[given.index("--config-dir") + 1] = str(folder.parent)
    return given


@pytest.fixture(autouse=True)
def _norms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Install the README's method, as a package of somebody else would."""
    [method] = examples(ROOT / "README.md", "python")
    (tmp_path / "norms_example.py").write_text(method)
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("norms", "norms_example:Norms", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    brought = project["entry-points"]["tunebench.results"].items()  # as a fresh installation has it
    ours = [EntryPoint(name, value, "tunebench.results") for name, value in brought]
    monkeypatch.setattr("results.__main__.entry_points", lambda group: ours)
    registry.registered.cache_clear()
    norms = registry.registered()["norms"]
    store = ConfigStore.instance()
    store.store(group="method", name="norms", node=default_options(norms), package="method.norms")
    yield
    registry.registered.cache_clear()
    store.repo["method"].pop("norms.yaml", None)
    sys.modules.pop("norms_example", None)


def _jobs(arguments: list[str]) -> list[list[str]]:
    """Return what each job of a command is given, its launcher's settings left in."""
    given = spelled_out([a for a in arguments if a != "-m"])
    if "--config-dir" in given:
        at = given.index("--config-dir")
        given[at : at + 2] = [f"hydra.searchpath=[file://{given[at + 1]}]"]
    if "-m" not in arguments:
        return [given]
    parsed = OverridesParser.create().parse_overrides(given)
    [jobs] = BasicSweeper.split_arguments(parsed, None)
    return [list(job) for job in jobs]


def _check(arguments: list[str]) -> int:
    """Compose and check all that a command would do, without data; return how many runs it has."""
    count = 0
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for job in _jobs(arguments):
            composed = hydra.compose("config", overrides=job, return_hydra_config=True)
            configuration = resolved(_without_hydra(composed), ())
            if configuration.get("board") is None:
                acts_of(configuration)
                stands_in = configuration["control"]["equal"] and is_chain(configuration)
                check({**configuration, "control": {}} if stands_in else configuration)
                count += 1
            else:
                count += _check_board(configuration, job)
    return count


def _check_board(configuration: dict[str, Any], job: list[str]) -> int:
    """Compose and check one run of each row and each task of a board; return how many."""
    Sweep.model_validate({key: configuration[key] for key in Sweep.model_fields})
    board, compose = Board.model_validate(configuration["board"]), Composer()
    slots = expand(board, job)
    if configuration["search"]:
        assert board.search is not None
        slots = expand_search(board, board.search, job)
    chosen = {slot.task: slot for slot in slots} | {slot.row: slot for slot in slots}
    for slot in chosen.values():
        check(compose(slot.overrides))
    return len(chosen)


def _without_hydra(composed: Any) -> Any:
    from omegaconf import open_dict

    with open_dict(composed):
        del composed["hydra"]
    return composed


@pytest.mark.parametrize("line", [line for line in RUNS if "--help" not in line])
def test_run_of_a_page_is_composed_and_checked_as_it_stands(line: str, tmp_path: Path) -> None:
    assert _check(_arguments(line, tmp_path)) >= 1


def _small(arguments: list[str], model: Path, tmp_path: Path) -> list[str] | None:
    """Return a run made small; None where it needs data that is not here."""
    kept = [a for a in arguments if a not in FOLDERS]
    few = tiny(model, "budget.steps=2", "budget.max_length=48", "own_process=false")
    if any(a.startswith("data.shots=") for a in kept):
        few = [a for a in few if not a.startswith("data.train_size=")]
    methods = [a.removeprefix("method=") for a in kept if a.startswith("method=")]
    few += [a for name in methods if name in ("attributes", "unimc") for a in narrow(name)]
    if any("mix.of=" in a for a in kept):  # its tasks have options of their own
        few = [a for a in few if not re.match(r"method\.unimc\.(options|question)=", a)]
    if any(a.endswith(".control=updates") and a.startswith("data.") for a in kept):
        few = [*(a for a in few if a != "budget.steps=2"), "budget.steps=null"]
    if "data.generated.generator=GPT2" in kept:
        gpt = save_gpt(tmp_path / "gpt2")
        kept = [a.replace("=GPT2", f"={gpt}") for a in kept]
        few += ["data.generated.max_tokens=8", "data.generated.epochs=1", "data.generated.most=1"]
        few = ["data.train_size=4" if a.startswith("data.train_size") else a for a in few]
        kept = [a for a in kept if not a.startswith("data.train_size")]
    if "data.text=FILE" in kept:
        text = tmp_path / "text.txt"
        text.write_text("".join(f"It is {word}. Row {word}.\n" for word in ("good", "bad")) * 2)
        with text.open("a") as stream:
            stream.writelines(f"One {w}. {w}, two {w}.\n" for w in ("Yes", "Also", "No"))
            said = {"good": "great", "bad": "terrible"}  # as the task's descriptions have it
            stream.writelines(f"It is {w}. This movie is {t}.\n" for w, t in said.items())
        kept = [f"data.text={text}" if a == "data.text=FILE" else a for a in kept]
        few = [a for a in few if not a.startswith("data.train_size")]
    if "data=local" in kept or "--config-dir" in kept:
        few = [a for a in few if a != "data=embedded"]
    if "data.dir=GLUE" in kept:
        if not REAL_GLUE.is_dir():
            return None
        kept = [f"data.dir={REAL_GLUE}" if a == "data.dir=GLUE" else a for a in kept]
    chain = [a for a in spelled_out(kept) if "stages=" in a or a.endswith("teacher=stage")]
    if "plan=true" in kept and not chain:
        few.append("estimate=false")
    kept = [f"list={tmp_path / 'boards'}" if a.startswith("list=") else a for a in kept]
    named = {a.split("=")[0] for a in kept}
    return [*kept, *(a for a in few if a.split("=")[0] not in named)]


@pytest.mark.usefixtures("forked_runs")
@pytest.mark.parametrize("line", [x for x in SHORT if not OF_A_RUN.search(x)])
def test_run_of_a_page_runs(
    line: str,
    cli: Cli,
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each command as it stands, with a tiny model and few steps added."""
    arguments = _small(_arguments(line, tmp_path), tiny_folder("bert"), tmp_path)
    if arguments is None:
        return  # checked above
    done = cli(*arguments)
    assert done.code == 0, done.err
    planned = "plan=true" in arguments
    assert "missing" in done.out if planned else read_all(tmp_path / "runs")


@pytest.mark.parametrize("line", [x for x in SHORT if OF_A_RUN.search(x)])
def test_what_a_page_does_with_a_finished_run(
    line: str, cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    chosen = ("method=embedding", "task=sts") if "embed=" in line else ("method=bitfit", "task=rte")
    small = tiny(tiny_folder("bert"), *chosen, "save=delta", "threads=1")
    assert cli(*small).code == 0
    [run] = (tmp_path / "runs").glob("*.json")
    (tmp_path / "sentences.txt").write_text("one\ntwo\n")
    pairs = "sentence1,sentence2\none,two\nthree,four\n"
    (tmp_path / "rows.csv").write_text(pairs)
    (tmp_path / "GLUE" / "RTE").mkdir(parents=True)
    (tmp_path / "GLUE" / "RTE" / "test.tsv").write_text(pairs.replace(",", "\t"))
    line = line.replace("[RUN,RUN]", "[RUN]").replace("GLUE", f"{tmp_path}/GLUE data.eval_size=2")
    filled = line.replace("runs/RUN", str(run.with_suffix(""))).replace("RUN", run.stem)
    arguments = [
        re.sub(r"(?<==)(?=sentences|vectors|FOLDER|rows|answers|glue)", f"{tmp_path}/", a)
        for a in shlex.split(filled)[2:]
    ]
    if "start=" in line:
        arguments = [*tiny(tiny_folder("bert")), *arguments]
    if "teacher=" in line:
        few = ["data.train_size=48", "data.pseudo.pool=40", "data.pseudo.balance=false"]
        arguments = [*tiny(tiny_folder("bert")), *arguments, *few]
    if "out=" in line and "export=" not in line:
        arguments = [a.replace(run.stem, str(run)) for a in arguments]
    done = cli(*arguments, *([] if "export=" in line else ["device=cpu"]))
    assert done.code == 0, done.err


@pytest.mark.parametrize("line", OF_A_WORD)
def test_what_is_no_run_works(
    line: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    shutil.copy(RECORD, tmp_path / "runs")
    (tmp_path / "FOLDER").mkdir()
    monkeypatch.chdir(tmp_path)
    done = cli(*shlex.split(re.sub("RECORD…?", str(RECORD), line))[2:])
    assert done.code == 0, done.err
    assert done.out


def test_help_is_named_on_a_page_and_printed(cli: Cli) -> None:
    assert "python run.py --help" in RUNS
    assert cli("--help").code == 0


@pytest.mark.parametrize("line", OTHERS)
def test_command_of_a_page_works(line: str, tmp_path: Path) -> None:
    """Dispatch by program; what no test here knows is a failure."""
    words = shlex.split(line)
    if words[0] == "make":
        _make(words[1:], tmp_path)
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        named = re.findall(r"\[(\w+)\]$", words[-1])
        assert set(named) <= extras["optional-dependencies"].keys()
        assert named or words[-1] == "."
    elif words[0] == "ray":
        from ray.scripts.scripts import cli as rays

        known = {name for option in rays.commands[words[1]].params for name in option.opts}
        assert {word.partition("=")[0] for word in words[2:]} <= known
    elif words == ["python", "run.py"]:
        short_help()
    elif words[:2] == ["python", "-m"]:
        _module(words[2], words[3:], tmp_path)
    else:
        pytest.fail(f"no test knows how to try: {line}")


def _make(arguments: list[str], tmp_path: Path) -> None:
    """Let make say what it would do; what it gives to our programs is tried as if typed."""
    dry = subprocess.run(
        ["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert dry.returncode == 0, dry.stderr
    for line in dry.stdout.splitlines():
        python = re.match(r"(?:\w+=\S+ )*\S*/bin/python (run\.py|-m) ([^$]*)$", line)
        if python is None or python[2].split()[0] in ("venv", "pip", "pytest", "ruff", "mypy"):
            continue
        if python[1] == "run.py":
            assert _check(shlex.split(python[2])) >= 1
        elif f"python -m {python[2]}".strip() not in OTHERS:
            module, *given = shlex.split(python[2])
            _module(module, given, tmp_path)


def _module(module: str, arguments: list[str], tmp_path: Path) -> None:
    """Try `python -m MODULE ARGUMENTS`: run it, or let it read its arguments only."""
    if module == "pytest":
        named = [a for a in arguments if "runners" in a or "/" in a]
        assert all((ROOT / a.replace(".", "/")).is_dir() for a in named)
        filled = ["bitfit" if a == "NAME" else a for a in arguments]
        assert pytest.main(["--markers", *filled]) == pytest.ExitCode.OK
    elif module == "results":
        assert results_main(_placed(arguments, tmp_path)) == 0
    elif arguments or module in ("tests.benchmarks.overhead", "tests.benchmarks.bench"):
        _parse_only(importlib.import_module(module), arguments)
    else:
        source = importlib.util.find_spec(module)
        assert source is not None
        assert source.origin is not None
        assert '__name__ == "__main__"' in Path(source.origin).read_text()


def _placed(arguments: list[str], tmp_path: Path) -> list[str]:
    """Fill placeholders in, and turn what would be written to copies."""
    filled = {"FOLDER": "results/embedded", "RECORD…": str(RECORD), "RECORD": str(RECORD)}
    given = [filled.get(argument, argument) for argument in arguments]
    for flag in ("--into", "--out"):
        if flag in given:
            at = given.index(flag) + 1
            copy = tmp_path / Path(given[at]).name
            if flag == "--into":
                shutil.copy(ROOT / given[at], copy)
            given[at] = str(copy)
    if given[:1] == ["boards"]:
        shutil.copytree(ROOT / "results/boards/vectors3k", tmp_path / "boards/vectors3k")
        given += ["--boards", str(tmp_path / "boards")]
    return given


class _Parsed(Exception):
    """The arguments were understood."""


def _parse_only(program: Any, arguments: list[str]) -> None:
    """Let a program of hours read its arguments, and stop it there."""
    parse = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, *_: Any) -> None:
        parse(self, arguments)
        raise _Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(_Parsed):
            program.main()
