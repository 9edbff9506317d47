"""Hydra's launchers only execute: a killed worker costs its run, and nothing is done twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from results.record import read_all
from tests.conftest import ROOT, Cli, in_soak, tiny

LAUNCHERS = {
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "ray": ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"],
}


def _environment() -> dict[str, str]:
    return {**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}


def _claims(out: Path) -> dict[str, int]:
    """Return the process of each run that is being done."""
    found = {}
    for path in out.glob(".claims/*.claim"):
        try:
            found[path.name] = int(json.loads(path.read_text())["pid"])
        except (OSError, ValueError, KeyError):
            continue
    return found


def _until(true: Callable[[], bool], sweep: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 240
    while not true():
        assert time.monotonic() < end
        assert sweep.poll() is None, "it ended too early"
        time.sleep(0.02)


def _workers() -> list[int]:
    """Return the processes of joblib or Ray that wait for runs."""
    workers = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes()
            if b"LokyProcess" in command or command.startswith(b"ray::"):
                workers.append(int(path.parent.name))
    return workers


@pytest.mark.usefixtures("forked_runs")
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("launcher", ["joblib", pytest.param("ray", marks=in_soak)])
def test_killed_worker_costs_one_run_and_the_same_command_does_only_that(
    launcher: str, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    out, log = tmp_path / "runs", tmp_path / "log"
    small = tiny(tiny_folder("bert"), "task=rte", "budget.steps=150", f"out={out}")
    command = [sys.executable, "run.py", "-m", *LAUNCHERS[launcher], *small, "threads=1"]
    command += ["method=full,bitfit"]

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as stream:
            return subprocess.Popen(
                command, cwd=ROOT, env=_environment(), stdout=stream, stderr=stream,
                start_new_session=True,
            )  # fmt: skip

    sweep = start()
    try:
        _until(lambda: len(_claims(out)) == 2, sweep)
        victim = next(iter(_claims(out).values()))
        os.kill(victim, signal.SIGSTOP)
        _until(lambda: len(list(out.glob("*.json"))) == 1, sweep)
        before = {p.name: p.stat().st_mtime_ns for p in out.glob("*.json")}
        workers = _workers()
        assert workers
        for worker in workers:  # of which one waits for the victim
            os.kill(worker, signal.SIGKILL)
        os.kill(victim, signal.SIGCONT)  # it finds that nobody waits for it, and ends
        sweep.wait(240)
    finally:
        if sweep.poll() is None:
            os.killpg(sweep.pid, signal.SIGKILL)
    again = start()
    assert again.wait(240) == 0, log.read_text(errors="replace")[-3000:]
    records = read_all(out)
    assert len(records) == 2
    assert {r.status for r in records} == {"finished"}
    untouched = {p.name: p.stat().st_mtime_ns for p in out.glob("*.json") if p.name in before}
    assert untouched == before
    assert not list(out.glob(".claims/*.claim"))


@in_soak
def test_runs_of_a_sweep_are_shared_by_the_nodes_of_a_ray_cluster(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes of one core each: two runs at a time are one on each."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster

    out = tmp_path / "runs"
    small = tiny(tiny_folder("bert"), "task=rte", "budget.steps=150", f"out={out}", "threads=1")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        where = [f"+hydra.launcher.ray.init.address={cluster.address}"]
        where += ["+hydra.launcher.ray.init.object_store_memory=null"]
        command = [sys.executable, "run.py", "-m", "hydra/launcher=ray", *where, *small]
        log = (tmp_path / "log").open("ab")
        sweep = subprocess.Popen(
            [*command, "method=full,bitfit"], cwd=ROOT, env=_environment(), stdout=log, stderr=log
        )
        _until(lambda: len(_claims(out)) == 2, sweep)
        assert sweep.wait(240) == 0, (tmp_path / "log").read_text()[-3000:]
    finally:
        cluster.shutdown()
    records = read_all(out)
    assert {r.status for r in records} == {"finished"}
    assert {m for r in records for m in r.methods} == {"full", "bitfit"}


@in_soak
def test_submitit_does_here_what_slurm_would(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    small = tiny(tiny_folder("bert"), "task=rte", "budget.steps=2", f"out={out}")
    command = [sys.executable, "run.py", "-m", "hydra/launcher=submitit_local", *small]
    command += [f"hydra.launcher.submitit_folder={tmp_path / 'jobs'}", "method=full,bitfit"]
    done = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    records = read_all(out)
    assert {r.status for r in records} == {"finished"}
    assert {m for r in records for m in r.methods} == {"full", "bitfit"}
    assert list((tmp_path / "jobs").rglob("*_result.pkl"))


def test_slurms_configuration_composes(cli: Cli) -> None:
    done = cli(
        "--cfg", "hydra", "-p", "hydra.launcher", "hydra/launcher=submitit_slurm",
        "hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=1",
        "hydra.launcher.timeout_min=120", "hydra.launcher.array_parallelism=8",
    )  # fmt: skip
    assert done.code == 0, done.err
    for part in ("submitit_launcher.SlurmLauncher", "partition: gpu", "array_parallelism: 8"):
        assert part in done.out


@pytest.mark.usefixtures("forked_runs")
def test_sweep_gives_each_run_a_process_its_own_command_and_the_worst_exit_code(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    configs = tmp_path / "configs" / "task"
    configs.mkdir(parents=True)
    shipped = (ROOT / "configs" / "task" / "rte.yaml").read_text()
    (configs / "mine.yaml").write_text(shipped.replace("name: rte", "name: rte", 1))
    out = tmp_path / "runs"
    small = tiny(tiny_folder("bert"), f"out={out}", "budget.steps=2")
    command = [sys.executable, "run.py", "--config-dir", str(tmp_path / "configs"), "-m", *small]
    command += ["task=mine", "method=[hype,bitfit]", "lr=-1,1e-3"]
    done = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert (
        done.stderr.count("error: lr=-1") == 1
    )  # the wrong job is named, and the one after it is done
    [record] = read_all(out)
    assert record.command.startswith("python run.py ")
    assert " -m " not in record.command
    assert "lr=0.001" in record.command or "lr=1e-3" in record.command
    assert "'method=[hype,bitfit]'" in record.command


def test_a_run_alone_equals_it_as_the_fifth_of_a_sweep_in_one_process(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """What a launcher that uses its processes again relies on."""
    small = tiny(tiny_folder("bert"), "task=rte", "threads=1")
    sweep = ["method=full,lora,[hype,bitfit],rdrop,child_tuning_d", "seed=3", "own_process=false"]
    assert cli("-m", *small, *sweep, f"out={tmp_path / 'sweep'}").code == 0
    assert cli(*small, "method=child_tuning_d", "seed=3", f"out={tmp_path / 'alone'}").code == 0
    [alone] = read_all(tmp_path / "alone")
    [fifth] = [r for r in read_all(tmp_path / "sweep") if r.methods == ["child_tuning_d"]]
    assert len(read_all(tmp_path / "sweep")) == 5
    for name in ("run", "losses", "scores", "predictions", "initial_sha256", "trained_sha256"):
        assert getattr(fifth, name) == getattr(alone, name)
