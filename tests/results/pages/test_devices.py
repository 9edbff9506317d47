"""Two devices are compared by runs of the same names, and by nothing else."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from results.__main__ import main
from results.pages.devices import devices
from results.record import Record, read, read_all, write
from results.stats.paired import compare
from tests.conftest import ROOT, committed_records
from tests.results.simulated import BASE, simulated

TASKS = ("mrpc", "rte")


def _two(folder: Path, shift: float = 0.0, wide: float = 1.0, **more: object) -> list[str]:
    """Write records of eight seeds of two methods from a CPU and a GPU; return their folders."""
    rng = np.random.default_rng(5)
    for device in ("cpu", "cuda"):
        for task in TASKS:
            for method in ("full", "bitfit"):
                for seed in range(1, 9):
                    noise = rng.normal(0, 0.01)
                    moved = shift + noise * wide if device == "cuda" else noise
                    _write(folder / device, device, method, task, seed, 0.6 + moved, **more)
    return [str(folder / "cpu"), str(folder / "cuda")]


def _write(
    folder: Path,
    device: str,
    method: str,
    task: str,
    seed: int,
    score: float | None,
    **more: object,
) -> Record:
    environment = {**BASE.environment, "device": device, "device_name": f"one {device}"}
    record = simulated(
        method, task, seed, score, environment=environment, trained_sha256=None, **more
    )
    write(record, folder)
    return record


def _said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["devices", *arguments]) == 0
    return capsys.readouterr().out


def _line(text: str, task: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(f"{task} ")]
    return re.split(r"\s{2,}", line)


def test_devices_of_one_distribution_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = _said(capsys, *_two(tmp_path))
    assert "No difference between the devices is to be seen, in mean or spread, on any task" in text
    assert "after Holm over 4 questions" in text
    assert _line(text, "all")[1:3] == ["32", "0"]
    assert "(one cuda) minus" in text
    assert "(one cpu)" in text


def test_numbers_are_those_of_the_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = _two(tmp_path, 0.03)

    one, two = (
        {r.run: r.score or 0 for r in read_all(Path(f)) if r.task == "rte"} for f in folders
    )
    gap = compare([two[run] for run in sorted(one)], [one[run] for run in sorted(one)])
    assert gap.interval is not None
    low, high = gap.interval
    shown = _line(_said(capsys, *folders), "rte")
    assert shown[1:4] == [
        "16", "0", f"{100 * gap.mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]",
    ]  # fmt: skip
    assert shown[5] == f"{100 * (gap.sd or 0):.1f}"


def test_a_shift_and_a_wider_spread_are_found_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shifted = _said(capsys, *_two(tmp_path / "shifted", 0.03))
    assert "The devices differ in the mean of mrpc" in shifted
    assert "the mean of rte" in shifted
    wider = _said(capsys, *_two(tmp_path / "wider", wide=5.0))
    assert "The devices differ in the spread of mrpc" in wider
    assert "the mean of" not in wider.split("\n\n")[1]


def test_equal_scores_are_said_to_be_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for device in ("cpu", "cuda"):
        for seed in (1, 2, 3):
            _write(tmp_path / device, device, "full", "rte", seed, 0.5 + seed / 100)
    text = _said(capsys, str(tmp_path / "cpu"), str(tmp_path / "cuda"))
    assert "Both devices have equal scores in each of 3 pairs." in text


def test_few_pairs_are_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for device, score in (("cpu", 0.5), ("cuda", 0.6)):
        _write(tmp_path / device, device, "full", "rte", 1, score)
    text = _said(capsys, str(tmp_path / "cpu"), str(tmp_path / "cuda"))
    assert "1 pair(s) are too few" in text


def test_methods_that_came_to_the_same_weights_are_one_pair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = _two(tmp_path)
    for folder in folders:
        for path in sorted(Path(folder).glob("*.json")):
            method, seed = path.name.split(".")[1], path.name.split(".")[3]
            record = dataclasses.replace(read(path), trained_sha256=f"{folder}{seed}")
            assert method in ("full", "bitfit")
            write(record, Path(folder))
    assert _line(_said(capsys, *folders), "all")[1] == "16"


def test_runs_of_one_side_alone_are_counted_and_unlike_kinds_are_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = _two(tmp_path)
    for folder, device in zip(folders, ("cpu", "cuda"), strict=True):
        for seed in range(1, 9):
            _write(Path(folder), device, "hype", "rte", seed, 0.5 + seed / 100,
                   config={"precision": "bf16"})  # fmt: skip
    lost = _write(tmp_path / "other", "cuda", "bitfit", "rte", 1, None)
    shutil.copy(tmp_path / "other" / f"{lost.run}.json", folders[1])
    _write(Path(folders[0]), "cpu", "lora", "rte", 1, 0.5)
    text = _said(capsys, *folders, "--format", "md")
    assert text.count("| task |") == 2
    assert "· bf16 ·" in text
    assert text.count("2 run(s) finished in one of the folders alone") == 1


def test_other_rows_of_one_task_are_a_column_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = _two(tmp_path)
    small = {"train": {"rows": 100, "sha256": "3" * 64, "complete": False}}
    for folder, device in zip(folders, ("cpu", "cuda"), strict=True):
        for seed in range(1, 9):
            _write(Path(folder), device, "full", "rte", seed, 0.2 + seed / 100,
                   splits=small, peak_bytes=2)  # fmt: skip
    text = _said(capsys, *folders)
    assert _line(text, "rte")[1] == "16"
    assert _line(text, "rte#2")[1] == "8"


def test_one_pair_of_each_of_many_tasks_is_too_few(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for device in ("cpu", "cuda"):
        for i, task in enumerate(("cola", "sst2", "mrpc", "qqp", "qnli", "rte")):
            moved = i / 100 if device == "cuda" else 0
            _write(tmp_path / device, device, "full", task, 1, 0.5 + moved)
    text = _said(capsys, str(tmp_path / "cpu"), str(tmp_path / "cuda"))
    assert "6 pair(s) are too few to say whether the devices agree" in text


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "devices needs two folders of records: python -m results devices"),
        (["cpu"], "devices needs two folders of records"),
        (["cpu", "cuda", "cpu"], "devices needs two folders of records"),
        (["cpu", "cpu"], "this is one folder; name two"),
        (["cpu", "cpu/../cpu"], "this is one folder; name two"),
        (["cpu", "link"], "this is one folder; name two"),
        (["cpu", "none"], "none: no such folder of records"),
        (["cpu", "empty"], "no run is finished in both; they need runs of the same names"),
        (["cpu", "mixed"], "are of cpu and cuda; name a folder of one kind of device"),
        (["copied", "cuda"], "has two records in one of the folders; name folders that hold one"),
        (["cpu", "cuda", "--only", "seed=77"], "--only seed=77: no record"),
        (["cpu", "cuda", "--format", "tex"], "--format tex is for tables; devices has text and md"),
        (["cpu", "cuda", "--split"], "--split does nothing with devices"),
    ],
    ids=str,
)
def test_bad_input_is_one_clear_error(
    arguments: list[str], error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    _two(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("link").symlink_to("cpu")
    _write(Path("mixed"), "cpu", "full", "rte", 1, 0.5)
    _write(Path("mixed"), "cuda", "full", "rte", 2, 0.5)
    shutil.copytree("cpu", "copied/one")
    shutil.copytree("cpu", "copied/two")
    assert main(["devices", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert error in said.err
    assert len(said.err.splitlines()) == 1


def test_numbers_in_the_docs_are_those_of_the_committed_records() -> None:
    folders = ("results/runs", "results/h200")
    sides = [(Path(folder), committed_records(folder)) for folder in folders]
    text = devices(sides[0], sides[1], "md")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    page = (ROOT / "docs" / "records.md").read_text()
    assert len(rows) == 5
    assert [row for row in rows if row not in page] == []
    assert re.findall(r"smallest p \.\d+ after Holm over \d questions", text)[0] in page
