"""A run from Python is the command's, and leaves nothing behind where it was called."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tqdm.auto import tqdm

import tunebench
from results.errors import UserError
from results.record import Record, read, read_all
from runners.config.compose import composing
from runners.config.explain import compose_explained
from runners.machine.warm import WARM
from tests.conftest import ROOT, Cli, tiny
from tests.pages import examples

Folder = Callable[[str], Path]
ALIKE = ("run", "status", "scores", "losses", "initial_sha256", "trained_sha256", "predictions")


def _process() -> dict[str, object]:
    """Return what a process has one of, and a run sets."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    return {
        "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "environment": environment,
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "collector": gc.isenabled(),
        "arguments": list(sys.argv),
        "folder": Path.cwd(),
    }


def test_runs_of_one_process_are_those_of_the_command(
    forked_runs: None, tiny_folder: Folder, tmp_path: Path, cli: Cli
) -> None:
    small = tiny(tiny_folder("bert"), "method=hype", "task=rte", "budget.steps=3", "threads=1")
    small.append("speed.onednn=false")  # which a loaded machine may choose either way
    torch.manual_seed(5)
    before = _process()
    runs = [
        tunebench.run([*small, f"seed={seed}", f"out={tmp_path / 'here'}"], show=False)
        for seed in (1, 2)
    ]
    assert _process() == before
    assert [type(record) for record in runs] == [Record, Record]
    assert cli(*small, "seed=2").code == 0
    [command] = read_all(tmp_path / "runs")
    assert [getattr(runs[1], n) for n in ALIKE] == [getattr(command, n) for n in ALIKE]
    assert runs[0].trained_sha256 != command.trained_sha256
    again = tunebench.run([*small, "seed=1", f"out={tmp_path / 'here'}"], show=False)
    assert again == runs[0]  # its stored result
    assert again.whole_seconds == runs[0].whole_seconds


def test_what_a_run_says_is_shown_and_a_bar_where_one_can_be(
    forked_runs: None,
    tiny_folder: Folder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bars = []

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: object, **more: object) -> None:
            super().__init__(*args, **more)
            bars.append(self)

    monkeypatch.setattr("runners.library._bars", lambda: Bar)
    small = tiny(tiny_folder("bert"), "method=bitfit", "task=rte", "budget.steps=3")
    tunebench.run([*small, f"out={tmp_path / 'runs'}"])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "DATA: EMBEDDED" in printed.err
    assert "step 3/3" in printed.err
    [bar] = bars
    assert (bar.total, bar.disable) == (3, True)  # pytest's standard error is no terminal
    tunebench.run([*small, "seed=2", f"out={tmp_path / 'runs'}"], show=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["method=bitft"], "no method called 'bitft'; did you mean bitfit?"),
        ("lr=-1", r"lr=-1 \(must be > 0\)"),
        ("seed=1,2", "seed"),
        ("nokey=1", "no key called 'nokey'"),
        ("method=[lora,bitfit]", "both choose which parameters train"),
        ("board=smoke", "run.. does one run, and board= is for the command"),
        ("stages=[mnli,rte]", "run.. does one run, and stages= is for the command"),
        ("data.pseudo.teacher=stage data.train_size=9", "run.. does one run, and a teacher=stage"),
        ("predict=RUN", "run.. does one run, and predict= is for the command"),
        (["-m", "seed=1"], "takes keys and values, as method=bitfit, not '-m'"),
        ("results", "takes keys and values"),
        ("keep=true", "keep= would change nothing"),
        ([], "takes keys and values, as method=bitfit task=rte, and was given none"),
        ("", "and was given none"),
    ],
)
def test_what_is_no_run_is_refused_in_a_sentence(
    overrides: list[str] | str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runners.library.start", None)  # no process begins
    with pytest.raises(UserError, match=why):
        tunebench.run(overrides)


def test_a_folder_of_files_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config_dir=.*: no such folder"):
        tunebench.run("method=bitfit", config_dir=tmp_path / "none")


def test_threads_may_ask_for_runs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[int] = []

    def compose(typed: object, folder: object) -> object:
        inside.append(1)
        time.sleep(0.05)
        assert inside == [1]
        inside.pop()
        return compose_explained(["task=rte"], None)

    monkeypatch.setattr("runners.library.compose_explained", compose)
    monkeypatch.setattr("runners.library.start", lambda *given: Ended(3))
    with ThreadPoolExecutor(3) as pool:
        each = [pool.submit(tunebench.run, "task=rte", show=False) for _ in range(3)]
    assert [type(one.exception()) for one in each] == [UserError] * 3


def test_it_composes_inside_of_another_hydra_application() -> None:
    from hydra.core.global_hydra import GlobalHydra

    with composing():
        theirs = GlobalHydra.instance().hydra
        with pytest.raises(UserError, match="lr=-1"):
            tunebench.run("lr=-1")
        assert GlobalHydra.instance().hydra is theirs


class Ended:
    """A process that has ended, after it said and noted something."""

    def __init__(self, code: int) -> None:
        self.code = code

    def poll(self) -> int:
        return self.code


def _ending(monkeypatch: pytest.MonkeyPatch, code: int, said: str, noted: str = "") -> None:
    def start(arguments: object, environment: dict[str, str], out: int, errors: int) -> Ended:
        os.write(errors, said.encode())
        if noted:
            Path(environment["TUNEBENCH_SWEEP"]).write_text(noted)
        return Ended(code)

    monkeypatch.setattr("runners.library.start", start)


def test_each_end_of_a_process_is_told_as_an_exception(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _ending(monkeypatch, 2, "DATA: x\nerror: task=rte: no file\nsecond line\n")
    with pytest.raises(UserError) as refused:
        tunebench.run("task=rte", show=False)
    assert str(refused.value) == "task=rte: no file\nsecond line"
    _ending(monkeypatch, 3, "rte.x is being done by process 7\n")
    with pytest.raises(UserError, match="is being done by process 7"):
        tunebench.run("task=rte", show=False)
    _ending(monkeypatch, -9, "so far\n")
    with pytest.raises(tunebench.RunFailed, match="exit code -9: so far") as killed:
        tunebench.run("task=rte", show=False)
    assert killed.value.record is None
    golden = read(next((ROOT / "results" / "runs").glob("rte.bitfit.*.json")))
    for status in ("failed", "diverged"):
        golden.status, golden.error = status, {"type": "E", "message": "out of rows"}
        golden.content_sha256 = None
        place = tmp_path / status / f"{golden.run}.json"
        place.parent.mkdir()
        place.write_text(golden.to_json())
        _ending(monkeypatch, 1, "", f'{{"record": "{place}"}}\n')
        if status == "diverged":
            assert tunebench.run("task=rte", show=False).status == "diverged"
            continue
        with pytest.raises(tunebench.RunFailed, match="exit code 1: out of rows") as failed:
            tunebench.run("task=rte", show=False)
        assert failed.value.record is not None
        assert failed.value.record.status == "failed"


def test_an_interruption_ends_the_run_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Going:
        def poll(self) -> None:
            raise KeyboardInterrupt

    ended: list[object] = []
    monkeypatch.setattr("runners.library.start", lambda *given: Going())
    monkeypatch.setattr("runners.library.end", ended.extend)
    with pytest.raises(KeyboardInterrupt):
        tunebench.run("task=rte", show=False)
    assert [type(one) for one in ended] == [Going]


def test_the_library_costs_nothing_until_it_is_used() -> None:
    code = (
        "import sys, tunebench; light = set(sys.modules)\n"
        "from tunebench import compare, load_results, run, warm\n"
        "print(sorted({'torch', 'pandas', 'transformers', 'tqdm.notebook'} & set(sys.modules)))\n"
        "print(sorted({'hydra', 'numpy', 'pydantic'} & light))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "[]\n[]\n"
    assert set(tunebench.__all__) <= set(dir(tunebench))
    with pytest.raises(AttributeError, match="no attribute 'rune'"):
        _ = tunebench.rune


def test_the_example_of_the_page_runs(
    forked_runs: None, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = examples(ROOT / "docs" / "library.md", "python")[0]
    small = " ".join(tiny(tiny_folder("bert"), f"out={tmp_path / 'runs'}", "budget.steps=1"))
    here = (
        example.replace("data=local data.dir=GLUE", small)
        .replace("(1, 2)", "(1,)")
        .replace('"runs"', f'"{tmp_path}/runs"')
    )
    assert small in here
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert WARM in os.environ
    names: dict[str, object] = {}
    exec(here, names)
    frame = names["frame"]
    assert len(frame) == 2  # type: ignore[arg-type]
    assert "lora and full" in str(names["answer"])


def test_the_trainer_of_the_page_trains(tiny_folder: Folder, tmp_path: Path) -> None:
    example = examples(ROOT / "docs" / "library.md", "python")[1]
    assert len(list(filter(None, example.splitlines()))) <= 15
    names: dict[str, Any] = {}
    here = example.replace("bert-base-uncased", str(tiny_folder("bert")))
    exec(here.replace('"out', f'"{tmp_path}/out'), names)
    assert names["trainer"].state.global_step == 12
    assert (tmp_path / "out" / "delta" / "delta.safetensors").is_file()
