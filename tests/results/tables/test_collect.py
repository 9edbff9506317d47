"""Tables compare only what may be compared, and count what did not finish."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from results.__main__ import main
from results.errors import UserError
from results.pages.text import BEGIN, END, render
from results.record import Record, read, read_copy, write
from results.tables.collect import tables
from tests.conftest import ROOT
from tests.results.simulated import simulated

_BASE = read_copy(Path(__file__).parents[1] / "golden" / "schema_1.json")


def _record(
    method: str = "full", task: str = "mrpc", seed: int = 1, score: float | None = 0.5, **more: Any
) -> Record:
    config = {**_BASE.config, "method": [{"name": method, "version": 1}], **more.pop("config", {})}
    data = more.pop("data", _BASE.data)
    status = more.pop("status", "finished")
    scores = {} if score is None else {"validation": {"accuracy": score}}
    more = {"scores": scores, "predictions": {}, **more}
    record = dataclasses.replace(
        _BASE,
        methods=[method],
        task=task,
        seed=seed,
        score=score,
        status=status,
        config=config,
        data=data,
        **more,
    )
    record.run = f"{task}.{method}.{seed}.{abs(hash(repr(dataclasses.astuple(record))))}"
    return record


def test_cell_is_mean_and_sample_standard_deviation_over_seeds() -> None:
    [table] = tables([_record(seed=s, score=v) for s, v in ((1, 0.80), (2, 0.82), (3, 0.87))])
    cell = table.rows[0].cells["mrpc"]
    assert cell.mean == pytest.approx(0.83)
    assert cell.sd == pytest.approx(0.036056, abs=1e-6)
    assert "83.0 ± 3.6" in render([table], "text")


def test_failed_seed_shows_and_is_never_averaged_away() -> None:
    found = [_record(seed=s) for s in range(1, 5)]
    found.append(_record(seed=5, score=None, status="diverged"))
    text = render(tables(found), "text")
    assert "4/5" in text
    only_failed = render(tables([_record(score=None, status="failed")]), "text")
    assert "failed" in only_failed
    assert "0/1" in only_failed


@pytest.mark.parametrize(
    "other",
    [
        {"data": {**_BASE.data, "source": "local"}},
        {"config": {"precision": "bf16"}},
        {"config": {"budget": {**_BASE.config["budget"], "steps": 9}}},
        {"protocol": "select", "config": {"protocol": {"name": "select", "fraction": 0.1}}},
        {"model": "other"},
        {"weights": {**_BASE.weights, "sha256": "0" * 64}},
    ],
)
def test_what_may_not_be_compared_is_never_in_one_table(other: dict[str, Any]) -> None:
    found = tables([_record(), _record("bitfit", **other)])
    assert [len(t.rows) for t in found] == [1, 1]


def test_two_subsets_of_one_task_have_columns_of_their_own() -> None:
    splits = {name: {**facts, "sha256": "1" * 64} for name, facts in _BASE.data["splits"].items()}
    [table] = tables([_record(), _record(seed=2, data={**_BASE.data, "splits": splits})])
    assert table.tasks == ("mrpc", "mrpc#2")


def test_two_learning_rates_are_two_rows() -> None:
    [table] = tables([_record(), _record(seed=2), _record(config={"lr": 0.5})])
    assert [r.method for r in table.rows] == ["full (lr=0.0001)", "full (lr=0.5)"]


def test_subset_of_real_data_is_marked() -> None:
    splits = {k: {**v, "complete": False} for k, v in _BASE.data["splits"].items()}
    data = {**_BASE.data, "source": "local", "splits": splits}
    assert "mrpc: subset: train 48, validation 4" in render(tables([_record(data=data)]), "text")


def test_average_is_shown_only_for_a_full_row() -> None:
    found = [
        _record(task="mrpc", score=0.8),
        _record(task="cola", score=0.4),
        _record("bitfit", score=0.7),
    ]
    lines = render(tables(found), "md", differences=False).splitlines()
    [full] = [line for line in lines if line.startswith("| full")]
    [bitfit] = [line for line in lines if line.startswith("| bitfit")]
    assert "| 60.0 |" in full
    assert bitfit.count("–") == 4  # no cola, no average, no sum of seconds, no peak


def test_same_records_give_the_same_text_in_any_order() -> None:
    found = [_record(m, t, s) for m in ("full", "bitfit") for t in ("mrpc", "cola") for s in (1, 2)]
    assert render(tables(found), "md") == render(tables(found[::-1]), "md")


@pytest.mark.parametrize(
    "other",
    [{"device_name": "another processor"}, {"threads": 64}, {"runs_beside": 3},
     {"shared_device": True}, {"onednn_products": True}],
)  # fmt: skip
def test_times_of_different_devices_threads_or_sharing_are_not_shown(other: dict) -> None:
    changed = {**_BASE.environment, **other}
    text = render(tables([_record(), _record("bitfit", environment=changed)]), "text")
    assert "Seconds and memory are left out" in text
    assert "training seconds" not in text
    assert "training seconds" in render(tables([_record(), _record("bitfit")]), "text")


def test_a_row_made_otherwise_takes_no_seconds_from_the_others() -> None:
    changed = {**_BASE.environment, "device_name": "another processor"}
    rows = [_record(), _record("bitfit"), _record("adapter", environment=changed)]
    lines = render(tables(rows), "md", differences=False).splitlines()
    costs = {c[1].strip(): c[-3:-1] for c in (line.split("|") for line in lines) if len(c) > 8}
    assert costs["adapter"] == [" – ", " – "]
    assert costs["full"] != [" – ", " – "] != costs["bitfit"]
    [note] = [line for line in lines if "left out" in line]
    assert "Seconds and memory of adapter are left out" in note
    assert "another processor" in note


def test_a_row_of_two_devices_is_timed_nowhere() -> None:
    changed = {**_BASE.environment, "device_name": "another processor"}
    both = [_record("adapter", seed=1, environment=changed), _record("adapter", seed=2)]
    others = [_record(m, seed=s) for m in ("full", "bitfit") for s in (1, 2)]
    [table] = tables([*others, *both])
    assert table.untimed == ("adapter",)
    assert set(table.timed) == {"full", "bitfit"}
    [mixed] = tables([*both, *(r for r in others if r.methods == ["full"])])
    assert mixed.timed == ()


def test_seconds_of_runs_that_changed_as_they_went_on_stand_beside_none() -> None:
    """Two rows of such runs had one device in words, and threads may have changed in each."""
    changed = {**_BASE.environment, "changed": {"threads": [1, 2]}}
    found = [_record(environment=changed), _record("bitfit", environment=changed)]
    [table] = tables(found)
    assert table.timed == ()
    assert not table.rows[0].costs_beside(table.rows[1])
    assert "training seconds" not in render([table], "text")
    [three] = tables([*found, _record("adapter")])
    assert three.timed == ()


@pytest.mark.parametrize(
    ("kind", "speed", "said"),
    [
        ("cpu", {"fast_dropout": False}, "torch's dropout"),
        ("cpu", {}, "torch's dropout"),
        ("cpu", {"fast_dropout": True, "first_token": True}, "last layer for the first token"),
        ("cpu", {"fast_dropout": True, "trim_vocabulary": True}, "rows of its own tokens"),
        ("cpu", {"fast_dropout": True, "release_memory": True}, "memory given back"),
        ("cuda", {"prefetch": False}, "no prefetching"),
        ("cuda", {"prefetch": True, "resident": True}, "splits on the device"),
    ],
    ids=str,
)
def test_times_of_different_speed_settings_are_not_shown(kind: str, speed: dict, said: str) -> None:
    place = {**_BASE.environment, "device": kind}
    ways = [{"fast_dropout": True, "prefetch": True}, speed]
    found = [
        _record(name, config={"speed": way}, environment=place)
        for name, way in zip(("full", "bitfit"), ways, strict=True)
    ]
    text = render(tables(found), "text")
    assert "training seconds" not in text
    assert said in text


def test_times_with_and_without_padding_are_not_shown_side_by_side() -> None:
    """What was at work tells, as a switch is on for methods too that it does nothing for."""
    skipped = _record("bitfit", environment={**_BASE.environment, "skip_padding": True})
    text = render(tables([_record("full"), skipped]), "text")
    assert "training seconds" not in text
    assert "padding left out" in text
    both = [_record(name, environment=skipped.environment) for name in ("full", "lora")]
    assert "training seconds" in render(tables(both), "text")


def test_switches_that_change_no_score_make_no_row_of_their_own() -> None:
    ways = ({"first_token": True, "prefetch": True}, {"first_token": False}, {})
    found = [_record(seed=s, config={"speed": way}) for s, way in enumerate(ways, start=1)]
    [table] = tables(found)
    assert [(row.method, row.cells["mrpc"].seeds) for row in table.rows] == [("full", (1, 2, 3))]


def test_rows_whose_answers_depend_on_a_batch_say_its_size() -> None:
    def of(method: str, size: int, **options: str) -> Record:
        budget = {**_BASE.config["budget"], "eval_batch_size": size}
        return simulated(method, seed=size, config={"budget": budget}, options=options)

    [table] = tables([of(m, size) for m in ("full", "lily") for size in (8, 64)])
    assert [row.method for row in table.rows] == [
        "full", "lily (budget.eval_batch_size=64)", "lily (budget.eval_batch_size=8)",
    ]  # fmt: skip
    [table] = tables([of("peft", size, tuner="lily") for size in (8, 64)])
    assert len(table.rows) == 2


def test_one_method_task_and_seed_twice_is_refused_by_name() -> None:
    first, second = _record(), _record(train_seconds=3.0)
    with pytest.raises(UserError, match=f"{first.run}.*the same method, task and seed"):
        tables(sorted([first, second], key=lambda r: r.run != first.run))


def test_a_copy_of_a_record_is_said_to_be_one() -> None:
    with pytest.raises(UserError, match=f"^{_record().run}: two files are a record of this run"):
        tables([_record(), _record()])


def test_another_setting_of_the_code_makes_another_row() -> None:
    found = [_record(config={"speed": {"fast_dropout": x}}) for x in (True, False)]
    [table] = tables(found)
    assert {r.method for r in table.rows} == {
        "full (speed.fast_dropout=False)",
        "full (speed.fast_dropout=True)",
    }
    older = _record(seed=2)
    older.config.pop("speed", None)
    [table] = tables([found[0], older])  # a record of before that setting is the same row
    assert [r.method for r in table.rows] == ["full"]


def test_mixed_records_are_refused_with_what_differs_or_split_or_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(_record(), tmp_path)
    write(_record(config={"precision": "bf16"}, model="other"), tmp_path)
    assert main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "2 records cannot stand in one table" in said
    assert "precision: bf16: 1; fp32: 1" in said
    assert "model: minilm: 1; other: 1" in said or "model: other: 1" in said
    assert "--split" in said
    assert main([str(tmp_path), "--split"]) == 0
    assert capsys.readouterr().out.count("method") == 2
    assert main([str(tmp_path), "--only", "precision=bf16"]) == 0
    assert "bf16" in capsys.readouterr().out
    assert main([str(tmp_path), "--only", "precision=fp8"]) == 2
    assert "there is bf16, fp32" in capsys.readouterr().err
    assert main([str(tmp_path), "--only", "colour=red"]) == 2
    assert "KEY one of data, model" in capsys.readouterr().err


def test_runs_of_two_versions_of_the_harness_never_share_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record of before it was said is of version 2, as one that says so."""
    records = [_record(seed=1), _record(seed=2), _record("bitfit")]
    for record, harness in zip(records, (None, 2, 3), strict=True):
        said = {} if harness is None else {"harness": harness}
        record.environment = {**record.environment, **said}
        write(record, tmp_path)
    old, new = tables(records)
    assert [row.method for row in old.rows] == ["full"]
    assert [len(row.cells["mrpc"].points) for row in old.rows] == [2]
    assert "harness" not in old.conditions.heading()
    assert new.conditions.heading().endswith("· harness 3")
    assert main([str(tmp_path)]) == 2
    assert "harness: 2: 2; 3: 1" in capsys.readouterr().err
    assert main([str(tmp_path), "--only", "harness=3"]) == 0
    assert "bitfit" in capsys.readouterr().out


def test_command_prints_and_places_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(_record(), tmp_path / "runs")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main([str(tmp_path / "runs"), "--format", "md", "--into", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| full |" in text
    assert main([str(tmp_path / "runs"), "--format", "md", "--into", str(page)]) == 0
    assert page.read_text() == text
    page.write_text("no marks")
    assert main([str(tmp_path / "runs"), "--into", str(page)]) == 2
    assert main([str(tmp_path / "none")]) == 2
    assert "no such folder of records" in capsys.readouterr().err


def test_results_import_no_runner() -> None:
    code = (
        "import sys, results.__main__;"
        "print([m for m in sys.modules if m.startswith(('runners', 'torch'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def _vectors(method: str = "simcse", seed: int = 1, **more: Any) -> Record:
    facts = {"rows": 9, "sha256": "a" * 64}
    splits = {"train": {**facts, "rows": more.pop("drawn", 60)}, "SICK-R": facts, "STS-B": facts}
    text = {"kind": "sentences", "rows": 60}
    return _record(
        method,
        "sts",
        seed,
        score=0.6,
        scores={"SICK-R": {"spearmanr": 0.7}, "STS-B": {"spearmanr": 0.5}},
        config={"task": {"kind": "similarity", "pairs": {"STS-B": {"file": "stsb.tsv"}}}},
        data={"source": "local", "splits": splits, "text": text},
        train_seconds=10.0,
        **more,
    )


def test_a_set_of_similarity_is_a_column_and_never_beside_regression() -> None:
    local = {**_BASE.data, "source": "local"}
    found = tables([_vectors(seed=1), _vectors(seed=2), _record(task="stsb", data=local)])
    assert sorted(table.tasks for table in found) == [("STS-B", "SICK-R"), ("stsb",)]
    [vectors] = [table for table in found if table.conditions.vectors]
    text = render([vectors], "text")
    assert "sentence vectors, Spearman" in text
    [line] = [line for line in text.splitlines() if re.match(r"simcse +\d", line)]
    fields = line.split()
    assert fields[1:3] == ["50.0", "±"]
    assert fields[-2] == "10"  # seconds of a run, not of each set
    assert "60.0" in fields


def test_rows_that_trained_on_other_text_say_so() -> None:
    [table] = tables([_vectors(), _vectors(seed=2, drawn=7)])
    assert {row.method for row in table.rows} == {
        "simcse (text=60 sentences)",
        "simcse (text=7 sentences)",
    }


def test_text_of_another_kind_is_no_record(tmp_path: Path) -> None:
    for text in ([], {"kind": "sentences"}, {"kind": 1, "rows": 2}):
        record = _vectors()
        record.run = "a"
        record.data["text"] = text
        with pytest.raises(UserError, match=r"data\.text"):
            read(write(record, tmp_path))


def test_pass_over_the_training_set_before_the_first_step_is_counted() -> None:
    found = tables([_record(train_seconds=100.0, preparation_seconds=25.0)])
    assert found[0].rows[0].cells["mrpc"].cost("training_seconds") == 125.0
    lines = render(found, "text").splitlines()
    [head] = [line for line in lines if "training seconds" in line]
    row = lines[lines.index(head) + 2]
    end = head.index("training seconds") + len("training seconds")
    assert row[:end].endswith(" 125")
    assert "passes before the first step included" in lines[-1]


def test_parameters_are_a_mean_over_tasks_whatever_seeds_each_has() -> None:
    """A head of one label and one of two: equal weights for both, though one has three seeds."""
    records = [simulated("full", "mrpc", seed) for seed in (1, 2, 3)] + [simulated("full", "stsb")]
    for record in records:
        trainable = 1000 if record.task == "mrpc" else 500
        record.parameters = {"total": 2000, "trainable": trainable, "trainable_without_head": 0}
        record.stored_bytes = 4 * trainable
    [table] = tables(records)
    [row] = table.rows
    assert (row.trainable, row.trainable_share, row.stored_bytes) == (750, 37.5, 3000)
