"""Records are whole, readable for ever, and refused when they are something else."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from results.errors import UserError
from results.record import Record, check_writable, from_mapping, read, read_all, write

GOLDEN = Path(__file__).parent / "golden"


def test_records_of_schema_1_still_load() -> None:
    record = read(GOLDEN / "schema_1.json")
    assert record.schema_version == 1
    assert record.status == "finished"
    assert record.scores == {"validation": {"accuracy": 0.75, "f1": 0.5}}
    assert record.predictions["validation"]["references"] == [1, 0, 1, 1]
    # A record of the first schema is a subset of today's fields: nothing it holds was dropped.
    content = json.loads((GOLDEN / "schema_1.json").read_text())
    assert {k: getattr(record, k) for k in content} == content


def test_written_record_is_read_back_equal(tmp_path: Path) -> None:
    record = read(GOLDEN / "schema_1.json")
    path = write(record, tmp_path)
    assert read(path) == record
    assert [p.name for p in tmp_path.iterdir()] == [f"{record.run}.json"]
    written, golden = (json.loads(p.read_text()) for p in (path, GOLDEN / "schema_1.json"))
    # What the golden file does not have was added later, and is unset in a record so old.
    assert {k: v for k, v in written.items() if k in golden} == golden
    assert all(not v for k, v in written.items() if k not in golden)


def test_nan_never_gets_into_a_record() -> None:
    record = read(GOLDEN / "schema_1.json")
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


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        check_writable(tmp_path / "file" / "runs")
    check_writable(tmp_path / "new" / "runs")
    assert list((tmp_path / "new" / "runs").iterdir()) == []
