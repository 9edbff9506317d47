"""Records that are taken among the shipped ones, and those that are not."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from results.__main__ import main as results_main
from results.places import shipped
from results.record import Record, read, write
from runners.jobs.identity import recorded_name
from runners.subcommands.admit import PLACE, moved, problems
from tests.conftest import ROOT, Cli, committed_folders, committed_records

FOLDERS = committed_folders()
SHIPPED = sorted((ROOT / "results" / "runs").glob("rte.bitfit.minilm.s*.json"))[:2]


def test_every_shipped_record_has_the_name_that_its_own_content_makes() -> None:
    records = [record for folder in FOLDERS for record in committed_records(folder)]
    assert len(records) > 1400
    assert [r.run for r in records if recorded_name(r) != r.run] == []


def test_a_record_of_an_older_method_keeps_its_name_and_is_another_run_today() -> None:
    """SMART's divergence was half as large in version 1."""
    aside = ROOT / "results" / "searches" / "smart-version-1"
    path = min(aside.glob("mrpc.smart.minilm.s1.*.json"))
    record = read(path)
    [method] = record.config["method"]
    assert method["version"] == 1
    assert recorded_name(record) == record.run
    newer = {**record.config, "method": [{**method, "version": 2}]}
    assert recorded_name(dataclasses.replace(record, config=newer)) != record.run


def _altered(folder: Path, **changes: Any) -> Path:
    """Write a shipped record with other fields, sealed anew."""
    folder.mkdir()
    record = dataclasses.replace(read(SHIPPED[0]), content_sha256=None, **changes)
    return write(record, folder)


def test_records_that_fit_are_copied_to_the_byte_and_again_without_harm(
    cli: Cli, tmp_path: Path
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    for _ in range(2):
        done = cli("admit", *map(str, SHIPPED), "--into", str(into))
        assert done.code == 0, done.err
        assert {p.name: p.read_bytes() for p in into.iterdir()} == {
            path.name: path.read_bytes() for path in SHIPPED
        }


def test_results_admits_where_the_package_brings_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """python -m results knows the command by its entry point only."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    brought = project["entry-points"]["tunebench.results"]
    points = [EntryPoint(name, value, "tunebench.results") for name, value in brought.items()]
    monkeypatch.setattr("results.__main__.entry_points", lambda group: points)
    into = tmp_path / "into"
    into.mkdir()
    assert results_main(["admit", str(SHIPPED[0]), "--into", str(into)]) == 0
    assert [path.name for path in into.iterdir()] == [SHIPPED[0].name]
    assert results_main(["admit", str(tmp_path / "none.json"), "--into", str(into)]) == 2


def _environment(**changes: Any) -> dict[str, Any]:
    return {"environment": {**read(SHIPPED[0]).environment, **changes}}


CHANGES: dict[str, dict[str, Any]] = {
    "makes another name": {"seed": 2, "config": {**read(SHIPPED[0]).config, "seed": 77}},
    "it ran on cuda, not on cpu": _environment(device="cuda"),
    "the code was changed": _environment(dirty=True),
    "or has none": _environment(commit=None),
    "not deterministic": _environment(deterministic=False),
    "a place of the machine, /home/me/x": _environment(where="/home/me/x"),
    "the run is failed": {"status": "failed"},
}


@pytest.mark.parametrize("said", CHANGES)
def test_a_record_that_does_not_fit_is_named_and_none_is_taken(
    said: str, cli: Cli, tmp_path: Path
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    bad = _altered(tmp_path / "bad", **CHANGES[said])
    done = cli("admit", str(SHIPPED[1]), str(bad.parent), "--into", str(into))
    assert done.code == 2
    assert said in done.err
    assert f"{bad}: " in done.err
    assert "Traceback" not in done.err
    assert not list(into.iterdir())


GPU = min((ROOT / "results" / "h200").glob("rte.bitfit.minilm.s5.*.json"))


def test_a_folder_has_the_device_of_its_records_and_an_empty_one_of_the_first_given(
    cli: Cli, tmp_path: Path
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    mixed = cli("admit", str(GPU), str(SHIPPED[0]), "--into", str(into))
    assert (mixed.code, mixed.err.count("\n"), list(into.iterdir())) == (2, 1, [])
    assert f"{SHIPPED[0]}: it ran on cpu, not on cuda (--device); give a device's" in mixed.err
    assert cli("admit", str(GPU), "--into", str(into)).code == 0
    other = cli("admit", str(SHIPPED[0]), "--into", str(into))
    assert (other.code, "it ran on cpu, not on cuda (--device)" in other.err) == (2, True)
    assert [path.name for path in into.iterdir()] == [GPU.name]
    assert cli("admit", str(SHIPPED[0]), "--into", str(into), "--device", "cpu").code == 0
    several = cli("admit", str(GPU), "--into", str(into))
    assert several.code == 2
    assert "its records ran on cpu and cuda; say by --device which" in several.err
    assert cli("admit", str(GPU), "--into", str(into), "--device", "cuda").code == 0


def test_shipped_records_take_their_own_device(cli: Cli) -> None:
    """The GPU's record is there already, so that nothing is written."""
    assert cli("admit", str(GPU), "--into", str(ROOT / "results" / "h200")).code == 0
    refused = cli("admit", str(GPU))
    assert (refused.code, "it ran on cuda, not on cpu (--device)" in refused.err) == (2, True)


def test_records_of_generated_data_have_a_folder_of_their_own(tmp_path: Path) -> None:
    generated = committed_records("results/embedded")[0]
    assert [p for p in problems(generated, shipped()) if "its data is generated" in p]
    assert not problems(generated, tmp_path)


def test_a_command_names_the_folder_of_the_records_and_no_place_of_a_machine(
    cli: Cli, tmp_path: Path
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    typed = "python run.py out=/a/b task=rte start.run=/a/b/x.json out.more=/a/bc"
    record = dataclasses.replace(read(SHIPPED[0]), command=typed)
    assert moved(record, ROOT / "results/cft").command == (
        "python run.py out=results/cft task=rte start.run=results/cft/x.json out.more=/a/bc"
    )
    for name in ("100k", "0", "a b"):  # digits are no part of a pattern
        (tmp_path / name).mkdir()
        assert f"out={name}" in shlex.split(moved(record, tmp_path / name).command)
    assert any("a place of the machine, /a/bc" in p for p in problems(moved(record, into), into))
    typed = typed.removesuffix(" out.more=/a/bc")
    bad = write(dataclasses.replace(record, command=typed), tmp_path / "made")
    assert cli("admit", str(bad), "--into", str(into)).code == 0
    taken = read(into / bad.name)
    assert taken.command == "python run.py out=into task=rte start.run=into/x.json"
    assert taken.predictions == record.predictions
    assert cli("admit", str(bad), "--into", str(into)).code == 0  # once more: it is there


def test_a_whole_path_of_the_data_is_written_as_typed_and_the_name_stays(
    cli: Cli, tmp_path: Path
) -> None:
    original = read(SHIPPED[0])
    config = {**original.config, "data": {**original.config["data"], "dir": "/d/glue"}}
    command = "python run.py task=rte data.dir=/d/glue/ data.text=/d/glue/x.txt"
    whole = write(dataclasses.replace(original, config=config, command=command), tmp_path / "made")
    assert "place of the machine, /d/glue" in cli("admit", str(whole), "--into", str(tmp_path)).err
    given = cli("admit", str(whole), "--into", str(tmp_path), "--data-dir", "../glue")
    assert given.code == 0, given.err
    taken = read(tmp_path / whole.name)
    assert taken.command == "python run.py task=rte data.dir=../glue/ data.text=../glue/x.txt"
    assert taken.config["data"]["dir"] == "../glue"
    assert taken == dataclasses.replace(original, config=taken.config, command=taken.command)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_shipped_record_names_a_place_of_a_machine(folder: str) -> None:
    texts = {r.run: r.to_json() for r in committed_records(folder)}
    assert texts
    assert not [run for run, text in texts.items() if PLACE.search(text)]


def test_another_record_of_a_run_that_is_there_is_refused(cli: Cli, tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    shutil.copy(SHIPPED[0], into)
    other: Record = read(SHIPPED[0])
    bad = _altered(tmp_path / "bad", train_seconds=(other.train_seconds or 0) + 1)
    done = cli("admit", str(bad), "--into", str(into))
    assert (done.code, "is there and is another record" in done.err) == (2, True)
    assert (into / bad.name).read_bytes() == SHIPPED[0].read_bytes()


def test_two_records_of_one_run_are_not_taken_by_one_command(cli: Cli, tmp_path: Path) -> None:
    (into := tmp_path / "into").mkdir()
    seconds = (read(SHIPPED[0]).train_seconds or 0) + 1
    other = _altered(tmp_path / "other", train_seconds=seconds)
    done = cli("admit", *map(str, [*SHIPPED, other]), "--into", str(into))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{other}: {SHIPPED[0]} is another record of the run" in done.err
    assert not list(into.iterdir())
    same = shutil.copy(SHIPPED[0], tmp_path / "other" / SHIPPED[0].name)
    assert cli("admit", str(SHIPPED[0]), str(same), "--into", str(into)).code == 0


def test_scores_that_are_not_those_of_the_predictions_are_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    stored = json.loads(SHIPPED[0].read_text())
    stored["predictions"]["validation"]["predictions"][0] += 1
    stored.pop("content_sha256", None)
    bad = tmp_path / SHIPPED[0].name
    bad.write_text(json.dumps(stored))
    done = cli("admit", str(bad), "--into", str(tmp_path / "into"))
    assert done.code == 2
    assert "is damaged" in done.err
