"""Every method, in two processes and in two orders, comes to the same record, times apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from results.record import Record, read_all
from tests.anew import anew
from tests.conftest import EACH_KIND, Cli, narrow, task_of, tiny


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            k: _without_times(v)
            for k, v in value.items()
            if "second" not in k
            and k not in ("command", "content_sha256", "start", "end", "peak_bytes")
        }
    return value


def test_every_method_is_equal_in_two_processes_whatever_ran_before(
    tiny_folder: Callable[[str], Path], tmp_path: Path, cli: Cli
) -> None:
    """Every method in one process, and again in another one in the opposite order.

    A score is the task of one of them.
    """
    found: list[dict[str, Record]] = []
    for i, order in enumerate((list(EACH_KIND), list(EACH_KIND)[::-1])):
        small = tiny(tiny_folder("bert"), "threads=1", f"out={tmp_path / str(i)}")
        usual = {m: "stsb" if m == "full" else "rte" for m in order}
        runs = [[*small, f"task={task_of(m, usual[m])}", *narrow(m)] for m in order]
        if i:
            done = anew(runs, tmp_path, PYTHONHASHSEED="1")
        else:
            done = [cli(*arguments) for arguments in runs]
        assert [(o.code, o.err) for o in done if o.code] == []
        found.append({"+".join(r.methods): r for r in read_all(tmp_path / str(i))})
    first, second = found
    assert set(first) == set(second) == {*EACH_KIND}
    for method, record in first.items():
        assert record.status == "finished", method
        assert record.predictions, method
        ours, theirs = _without_times(asdict(record)), _without_times(asdict(second[method]))
        assert ours == theirs, method


def test_two_seeds_differ(tiny_folder: Callable[[str], Path], tmp_path: Path, cli: Any) -> None:
    small = tiny(tiny_folder("bert"), "task=rte", "own_process=false")
    assert cli("-m", *small, "seed=1,2").code == 0
    one, two = read_all(tmp_path / "runs")
    assert one.initial_sha256 != two.initial_sha256
    assert one.losses != two.losses
