"""A frame of records holds what the records hold, and compares rows as the command does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from results.__main__ import main
from results.errors import UserError
from results.pages.frame import COLUMNS, compare, load_results
from results.record import Record, write
from results.tables.collect import tables
from tests.conftest import committed_records
from tests.results.simulated import grid, simulated

TASKS = ("cola", "mrpc", "rte", "stsb")


def _written(records: list[Record], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for record in records:
        write(record, folder)
    return folder


def _printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


@pytest.fixture
def gains(tmp_path: Path) -> Path:
    rows = {"full": 0.0, "lora": -0.05, "adapter": -0.03}
    return _written(grid(rows, TASKS, 6), tmp_path / "gains")


def test_comparison_is_the_commands(gains: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = load_results(gains)
    answer = compare(frame, "lora", "full")
    assert str(answer) == repr(answer) == _printed(capsys, "compare", "lora", "full", str(gains))
    [sentence] = answer.sentences
    assert sentence in str(answer)
    assert "points below full on the average of 4 tasks" in sentence
    on_rte = compare(frame, "lora", "adapter", task="rte")
    asked = ("compare", "lora", "adapter", "--task", "rte", str(gains))
    assert str(on_rte) == _printed(capsys, *asked)


def test_part_of_a_frame_is_compared_as_those_records_alone(
    gains: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = load_results(gains)
    part = frame[(frame.task == "rte") & (frame.method != "adapter")]
    alone = tmp_path / "alone"
    alone.mkdir()
    for place in part.file:
        (alone / Path(place).name).write_bytes(Path(place).read_bytes())
    expected = _printed(capsys, "compare", "lora", "full", str(alone))
    assert str(compare(part, "lora", "full")) == expected
    part.to_csv(tmp_path / "part.csv")
    import pandas

    assert str(compare(pandas.read_csv(tmp_path / "part.csv"), "lora", "full")) == expected


def test_rows_hold_what_records_and_tables_say(tmp_path: Path) -> None:
    records = [r for r in committed_records() if r.task in ("rte", "mrpc", "stsb") and r.seed < 3]
    records += [
        replace(simulated("lora", "rte", 7, 0.5, options={"r": r}), run=f"rte.lora.r{r}")
        for r in (4, 16)
    ]
    records.append(simulated("lora", "rte", 8, None, options={"r": 4}))
    frame = load_results(_written(records, tmp_path / "all")).set_index("run")
    assert len(frame) == len(records)
    by_run = {
        point.run: (table.conditions.heading(), row.method)
        for table in tables(records)
        for row in table.rows
        for cell in row.cells.values()
        for point in cell.points
    }
    for record in records:
        line = frame.loc[record.run]
        assert (line["table"], line["method"]) == by_run[record.run]
        assert (line["task"], line["seed"], line["status"]) == (
            record.task, record.seed, record.status,
        )  # fmt: skip
        for split, metrics in record.scores.items():
            for metric, value in metrics.items():
                assert line[f"{split}/{metric}"] == value
        assert line["trainable"] == record.parameters["trainable"]
        assert line["precision"] == record.config["precision"]
        assert line["training_seconds"] == record.training_seconds
    assert frame["method"][["rte.lora.r4", "rte.lora.r16"]].tolist() == [
        "lora (r=4)",
        "lora (r=16)",
    ]
    assert set(frame.reset_index().columns) >= set(COLUMNS)


def test_what_is_no_record_is_a_warning_and_an_empty_folder_an_empty_frame(
    tmp_path: Path, gains: Path
) -> None:
    (gains / "bad.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"passed over: .*bad\.json"):
        assert len(load_results(gains)) == 72
    (tmp_path / "none").mkdir()
    frame = load_results(tmp_path / "none")
    assert (len(frame), list(frame.columns)) == (0, list(COLUMNS))
    with pytest.raises(UserError, match="no records yet"):
        compare(frame, "lora", "full")
    with pytest.raises(UserError, match="no such folder of records"):
        load_results(tmp_path / "nowhere")


def test_mistakes_are_those_of_the_command(gains: Path) -> None:
    frame = load_results(gains)
    with pytest.raises(UserError, match="no row is called loar; did you mean lora"):
        compare(frame, "loar", "full")
    with pytest.raises(UserError, match="these are one row"):
        compare(frame, "full", "full")
    with pytest.raises(UserError, match="no such column"):
        compare(frame, "lora", "full", task="rta")
    with pytest.raises(UserError, match="needs a frame of load_results"):
        compare(frame.drop(columns="file"), "lora", "full")


def test_a_joined_frame_names_each_record_once_and_all_of_its_rows_one(gains: Path) -> None:
    frame = load_results(gains)
    pairs = pandas.DataFrame({"method": ["lora", "lora"], "family": ["added", "low rank"]})
    joined = frame.merge(pairs, on="method", how="left")
    assert len(joined) > len(frame)
    assert str(compare(joined, "lora", "full")) == str(compare(frame, "lora", "full"))
    papers = pandas.DataFrame({"method": ["lora", "dylora"], "year": [2021, 2023]})
    outer = frame.merge(papers, on="method", how="outer")
    with pytest.raises(UserError, match=rf"1 of {len(outer)} rows of the frame are of no record"):
        compare(outer, "lora", "full")
    again = compare(outer.dropna(subset=["file"]), "lora", "full")
    assert str(again) == str(compare(frame, "lora", "full"))
