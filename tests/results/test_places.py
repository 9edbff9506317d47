"""Runs go to a folder of one's own, and shipped records count there too."""

from __future__ import annotations

from pathlib import Path

import pytest

from results import places
from results.__main__ import main
from results.errors import UserError
from results.record import find_record, read_each_for_boards, write
from tests.conftest import ROOT
from tests.results.simulated import simulated

RUN = sorted((ROOT / "results" / "runs").glob("rte.bitfit.minilm.s*.json"))[0]


def test_a_shipped_record_is_known_in_the_own_folder_and_in_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert places.stored(Path("runs") / RUN.name) == RUN
    assert places.stored(tmp_path / "runs" / RUN.name) == tmp_path / "runs" / RUN.name
    assert places.stored(Path("runs/none.json")) == Path("runs/none.json")
    Path("runs").mkdir()
    (Path("runs") / RUN.name).write_text("{}")
    assert places.stored(Path("runs") / RUN.name) == Path("runs") / RUN.name
    monkeypatch.chdir(ROOT)
    assert places.shipped() == Path("results/runs")


def test_a_record_is_looked_for_in_the_typed_folder_then_among_the_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_record(RUN.stem, tmp_path) == RUN
    (tmp_path / f"{RUN.stem}.json").write_text("{}")
    assert find_record(RUN.stem, tmp_path) == tmp_path / RUN.name
    (tmp_path / f"{RUN.stem}-old.json").write_text("{}")
    assert find_record(RUN.stem, tmp_path) == tmp_path / RUN.name
    assert find_record(f"{RUN.stem}-o", tmp_path) == tmp_path / f"{RUN.stem}-old.json"


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("/none/run.json", "start=/none/run.json: no such file; name"),
        ("/none/run", "start=/none/run: no such file; name"),
        ("a**b", "start=a**b: no such record in"),
        ("rte.b?tfit", "start=rte.b?tfit: no such record in"),
        ("*", "start=*: no such record in"),
        ("[", "start=[: no such record in"),
        ("..", "start=..: no such record in"),
    ],
)
def test_what_is_no_record_is_told_in_a_sentence(named: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        find_record(named, tmp_path, "start")
    assert str(refused.value).startswith(said)


def test_tables_are_of_the_own_folder_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert places.read_where(None) == places.shipped()
    for seed in (1, 2):
        write(simulated("mine", "rte", seed, 0.5 + seed / 10), Path("runs"))
    assert places.read_where(None) == Path("runs")
    assert places.read_where(tmp_path) == tmp_path
    assert main([]) == 0
    assert "mine" in capsys.readouterr().out
    write(simulated("mine", "rte", 1, None), Path("runs/gpu"))  # no copy is dropped
    both = read_each_for_boards(None)
    mine = {str(p.parent) for p, r in both if r.seed == 1 and r.methods == ["mine"]}
    assert mine == {"runs", "runs/gpu"}
    assert {record.methods[0] for _, record in both} > {"mine", "bitfit"}
    assert len(read_each_for_boards(Path("runs"))) == 3
