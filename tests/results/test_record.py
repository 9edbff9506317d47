"""Records are whole, readable for ever, and refused when they are something else."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from results.errors import UserError
from results.record import (
    Record,
    Status,
    check_writable,
    from_mapping,
    read,
    read_all,
    read_copy,
    write,
)

GOLDEN = Path(__file__).parent / "golden"


def test_records_of_schema_1_still_load() -> None:
    record = read_copy(GOLDEN / "schema_1.json")
    assert record.schema_version == 1
    assert record.status == "finished"
    assert record.scores == {"validation": {"accuracy": 0.75, "f1": 0.5}}
    assert record.predictions["validation"]["references"] == [1, 0, 1, 1]
    # A record of the first schema is a subset of today's fields: nothing it holds was dropped.
    content = json.loads((GOLDEN / "schema_1.json").read_text())
    assert {k: getattr(record, k) for k in content} == content


def _whole() -> Record:
    """Return the golden record; its predictions were cut short, so its F1 is not theirs."""
    record = read_copy(GOLDEN / "schema_1.json")
    predictions = {"validation": {"predictions": [1, 1, 0, 0], "references": [1, 0, 1, 0]}}
    scores = {"validation": {"accuracy": 0.5, "f1": 0.5}}
    return dataclasses.replace(record, predictions=predictions, scores=scores, score=0.5)


def test_written_record_is_read_back_equal(tmp_path: Path) -> None:
    record = _whole()
    path = write(record, tmp_path)
    assert read(path) == record
    assert [p.name for p in tmp_path.iterdir()] == [f"{record.run}.json"]
    written, golden = (json.loads(p.read_text()) for p in (path, GOLDEN / "schema_1.json"))
    # What the golden file does not have was added later, and is unset in a record so old.
    changed = {"predictions", "scores", "score"}
    assert {k: v for k, v in written.items() if k in golden and k not in changed} == {
        k: v for k, v in golden.items() if k not in changed
    }
    assert {k for k, v in written.items() if v and k not in golden} == {"content_sha256"}


def test_any_flipped_bit_of_a_record_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = write(_whole(), tmp_path)
    raw, content = path.read_bytes(), json.loads(path.read_text())
    for place in range(0, 8 * len(raw), 13):
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with contextlib.suppress(UserError):
            read(path)
            # A space, or the name of the hash itself.
            kept = json.loads(path.read_text())
            assert {k: kept[k] for k in content if k != "content_sha256"} == {
                k: v for k, v in content.items() if k != "content_sha256"
            }


def test_a_hash_outlives_another_layout_of_the_same_content(tmp_path: Path) -> None:
    path = write(_whole(), tmp_path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content, indent=3))
    assert read(path) == _whole()
    path.write_bytes(write(_whole(), tmp_path / "b").read_bytes().replace(b"\n", b"\r\n"))
    assert read(path) == _whole()
    path.write_text(json.dumps({**content, "train_loss": 9.0}))
    with pytest.raises(UserError, match="is damaged or was changed"):
        read(path)


def test_what_is_written_behind_the_hash_is_not_believed(tmp_path: Path) -> None:
    """JSON takes the last of two keys, and a record of before a field lacks it."""
    path = write(_whole(), tmp_path)
    text = path.read_text()
    for more, said in (
        ('"train_seconds": 1.0', "the key 'train_seconds' stands twice"),
        ('"of_the_future": 1', "is damaged or was changed"),
        ('"content_sha256": null', "the key 'content_sha256' stands twice"),
    ):
        path.write_text(text.rstrip().removesuffix("}").rstrip() + f",\n  {more}\n}}\n")
        with pytest.raises(UserError, match=said):
            read(path)
    path.write_text(text.replace('"epochs":', '"epochs": 1, "epochs":', 1))
    with pytest.raises(UserError, match="the key 'epochs' stands twice"):
        read(path)


@pytest.mark.parametrize(
    ("metric", "stored"),
    [("accuracy", 0.999), ("f1", 0.5001), ("macro_f1", 0.4), ("matthews_correlation", 0.1)],
)
def test_scores_that_are_not_the_predictions_are_refused(
    metric: str, stored: float, tmp_path: Path
) -> None:
    """In a record without a hash too; a metric that follows is believed."""
    from runners.tasks.glue_metrics.values import score

    record = _whole()
    kept = record.predictions["validation"]
    true = score([metric], kept["predictions"], kept["references"])[0][metric]
    for value, said in ((true, ""), (stored, f"it says validation {metric} {stored}")):
        record.scores, record.score = {"validation": {metric: value}}, value
        content = {k: v for k, v in json.loads(record.to_json()).items() if k != "content_sha256"}
        path = tmp_path / f"{record.run}.json"
        path.write_text(json.dumps(content))
        if said:
            with pytest.raises(UserError, match=said):
                read(path)
        else:
            assert read(path).score == true
    path.write_text(json.dumps({**content, "scores": {"validation": {metric: true}}}))
    with pytest.raises(UserError, match="it says score"):
        read(path)


@pytest.mark.parametrize("kind", ["regression", "similarity"])
@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-8])
def test_correlations_of_rounded_predictions_are_believed(kind: str, spread: float) -> None:
    from results.rescored import check_scores
    from runners.tasks.glue_metrics.values import score

    rng = np.random.Generator(np.random.PCG64(3))
    record = _whole()
    pairs = {"validation": {"file": "pairs.tsv"}} if kind == "similarity" else {}
    record.config["task"] = {"kind": kind, "pairs": pairs}
    for _ in range(20):
        gold = np.round(rng.uniform(0, 5, 300), 1)
        predicted = 0.7 + spread * (0.1 * gold + rng.normal(0, 0.3, 300))
        if kind == "regression":
            predicted = predicted.astype(np.float32).astype(float)
        scores = score(["pearson", "spearmanr"], predicted.tolist(), gold.tolist())[0]
        kept = [float(f"{p:.9g}") for p in predicted]
        record.predictions = {"validation": {"predictions": kept, "references": gold.tolist()}}
        record.scores, record.score = {"validation": scores}, sum(scores.values()) / 2
        check_scores(record, "here")
        if spread == 1.0:
            record.scores["validation"]["spearmanr"] += 2e-3
            with pytest.raises(UserError, match="spearmanr"):
                check_scores(record, "here")


def test_another_runs_record_is_not_read_at_a_runs_path(tmp_path: Path) -> None:
    path = write(_whole(), tmp_path)
    other = path.rename(tmp_path / "mrpc.full.minilm.s1.0123456789ab.json")
    with pytest.raises(UserError, match=f"holds the record of another run, {_whole().run}"):
        read(other)
    assert read_copy(other) == _whole()


def test_path_of_odd_bytes_costs_no_record(tmp_path: Path) -> None:
    record = dataclasses.replace(_whole(), command="python run.py out=\udcff")
    assert read(write(record, tmp_path)).command == "python run.py out=?"


def test_nan_never_gets_into_a_record() -> None:
    record = read_copy(GOLDEN / "schema_1.json")
    record.score = math.nan
    with pytest.raises(ValueError, match="JSON"):
        record.to_json()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read as a record"),
        ("[]", "is no record"),
        ('{"a": 1}', "is no record: schema_version=None"),
        ('{"schema_version": 99}', "has schema 99"),
        (
            GOLDEN.joinpath("schema_1.json").read_text().replace('"run": "', '"run": "../'),
            "is no name of a run",
        ),
        ('{"schema_version": 1, "run": "x"}', "is no complete record: missing"),
    ],
)
def test_file_that_is_no_record_is_named(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=said.replace("(", r"\(")) as caught:
        read_all(tmp_path)
    assert "x.json" in str(caught.value)


def test_unknown_fields_of_a_record_are_passed_over() -> None:
    content = json.loads((GOLDEN / "schema_1.json").read_text())
    assert isinstance(from_mapping({**content, "of_the_future": 1}, "here"), Record)


# For a value of each JSON type, others that do not stand for it: nothing is converted.
UNLIKE: dict[type, list[Any]] = {
    str: [1, True, ["x"]],
    int: [True, 1.0, "1", [1]],
    float: [True, "1", math.nan, math.inf, 10**400],
    list: [{}, "x", 1],
    dict: [[], "x", 1],
}


# What is read below a record's fields; the fields themselves are taken from the golden file.
BELOW = (
    *(f"config.{key}" for key in ("budget", "precision", "protocol", "method", "lr")),
    *(f"config.budget.{key}" for key in ("name", "epochs", "batch_size", "max_length", "schedule")),
    *(f"config.budget.{key}" for key in ("warmup", "weight_decay", "max_grad_norm")),
    *("config.method.0", "config.method.0.name", "data.source", "data.splits", "data.splits.train"),
    *("data.splits.train.rows", "data.splits.train.sha256", "weights.sha256", "parameters.total"),
    *("scores.validation", "scores.validation.f1", "methods.0", "predictions.validation"),
    *("predictions.validation.predictions", "evaluations.0"),
)


def _fields() -> list[str]:
    golden = json.loads((GOLDEN / "schema_1.json").read_text())
    return [name for name, value in golden.items() if value is not None]


@pytest.mark.parametrize("place", [*_fields(), *BELOW])
def test_value_of_another_kind_is_refused_by_its_key(place: str) -> None:
    content = json.loads((GOLDEN / "schema_1.json").read_text())
    *above, last = (int(key) if key.isdigit() else key for key in place.split("."))
    node = content
    for key in above:
        node = node[key]
    for other in UNLIKE[type(node[last])]:
        node[last] = other
        with pytest.raises(UserError, match=r"^here is no record: ") as caught:
            from_mapping(content, "here")
        assert place.replace(".0", "[0]") in str(caught.value)


def test_whole_numbers_stay_whole_where_a_fraction_may_stand() -> None:
    content = json.loads((GOLDEN / "schema_1.json").read_text())
    record = from_mapping({**content, "score": 1, "train_seconds": 2}, "here")
    assert (type(record.score), type(record.train_seconds)) == (int, int)


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("parameters", {"total": 5, "trainable": 1}, "parameters lacks a count"),
        ("parameters", dict.fromkeys(("total", "trainable", "trainable_without_head"), 0), "is 0"),
        ("status", "done", "status='done'"),
        ("losses", [0.5, None], r"losses\[1\]=None is no number"),
    ],
)
def test_part_that_no_table_could_use_is_refused(part: str, value: Any, said: str) -> None:
    content = json.loads((GOLDEN / "schema_1.json").read_text())
    with pytest.raises(UserError, match=f"here is no record: .*{said}"):
        from_mapping({**content, part: value}, "here")


def test_part_that_is_missing_is_named() -> None:
    content = json.loads((GOLDEN / "schema_1.json").read_text())
    del content["config"]["budget"]["epochs"]
    with pytest.raises(UserError, match=r"here is no record: config\.budget\.epochs is missing"):
        from_mapping(content, "here")


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        check_writable(tmp_path / "file" / "runs")
    check_writable(tmp_path / "new" / "runs")
    assert list((tmp_path / "new" / "runs").iterdir()) == []


@pytest.mark.parametrize("standing", [*get_args(Status), "damaged", "of a later version"])
@pytest.mark.parametrize("status", get_args(Status))
def test_record_never_takes_the_place_of_a_better_one(
    standing: str, status: Status, tmp_path: Path
) -> None:
    new = dataclasses.replace(_whole(), status=status)
    path = tmp_path / f"{new.run}.json"
    if standing in get_args(Status):
        write(dataclasses.replace(new, status=standing), tmp_path)  # type: ignore[arg-type]
    else:
        path.write_text('{"schema_version": 99}' if standing != "damaged" else "{")
    before = path.read_bytes()
    order = ["failed", "diverged", "finished", "damaged", "of a later version"]
    stays = status != "finished" and order.index(standing) > order.index(status)
    written = write(dataclasses.replace(new, end="later"), tmp_path)
    assert written == (path.with_name(f"{path.name}.{status}") if stays else path)
    assert (path.read_bytes() == before) == stays
    assert json.loads(written.read_text())["end"] == "later"
    bad: list[str] = []
    assert len(read_all(tmp_path, bad)) + len(bad) == 1  # what lies beside is no record
