"""Runs that were made keep their names: today's code gives every committed record its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from results.record import Record
from runners.config.check import RunConfig, from_record
from runners.jobs.identity import Inputs, identity
from runners.jobs.job import Job
from tests.conftest import committed_records, configure

MERGED = [
    "+task.further.qqp.merge.not_equivalent=not_duplicate",
    "+task.further.qqp.merge.equivalent=duplicate",
]


def _here(record: Record, places: dict[str, Any]) -> RunConfig:
    """Return a record's configuration, with its data where it lies on this machine."""
    config = from_record(record.config)
    data = config.settings.data.model_copy(update={**places, "source": record.data["source"]})
    return RunConfig(config.settings.model_copy(update={"data": data}), config.methods)


def _names(records: list[Record], places: dict[str, Any]) -> list[tuple[str, str]]:
    shelf: dict[str, Any] = {}
    return [(Job(_here(r, places), shelf=shelf).name, r.run) for r in records]


def _is_older(record: Record) -> bool:
    """Say whether a record is of an older version of a method: today's run has another name."""
    now = from_record(record.config).method_options()
    return [m["version"] for m in now] != [m["version"] for m in record.config["method"]]


def test_no_shipped_record_is_of_an_older_method() -> None:
    """They are to be run again, and put aside in results/searches."""
    shipped = committed_records() + committed_records("results/h200")
    assert [r.run for r in shipped if _is_older(r)] == []
    aside = committed_records("results/searches/smart-version-1")
    assert len(aside) == 6
    assert all(_is_older(r) for r in aside)


@pytest.mark.real_data
@pytest.mark.parametrize("vectors", [False, True])
def test_records_of_runs_keep_their_names(vectors: bool, real_glue: Path, real_sts: Path) -> None:
    shipped = committed_records() + committed_records("results/h200")
    records = [r for r in shipped if bool(r.config["task"].get("pairs")) == vectors]
    assert len(records) > (10 if vectors else 700)
    folder = real_sts if vectors else real_glue
    names = _names(records, {"dir": str(folder), "glue_dir": str(real_glue)})
    assert [(ours, theirs) for ours, theirs in names if ours != theirs] == []


def test_records_on_embedded_data_keep_their_names() -> None:
    names = _names(committed_records("results/embedded"), {})
    assert len(names) == 8
    assert [(ours, theirs) for ours, theirs in names if ours != theirs] == []


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (["task=mix", "task.mixture.of=[rte,mrpc]"], "mix.full.minilm.s42.103595dc6805"),
        (["task=mlm", "mlm.on=[rte]"], "mlm.full.minilm.s42.5c7b45dca63f"),
        (["task=rte", "protocol=select", "data.train_size=100", "data.seed=3", "budget=smoke"],
         "rte.full.minilm.s42.4bf376bbf26d"),
    ],
)  # fmt: skip
def test_kinds_of_runs_without_a_committed_record_keep_their_names_too(
    typed: list[str], name: str
) -> None:
    budget = ["budget=smoke"] if typed[0] == "task=mix" else []
    assert Job(configure(*typed, *budget, "data=embedded")).name == name


def test_a_stored_mixture_is_of_the_kind_that_it_was_called() -> None:
    config = configure("task=mix", "task.mixture.of=[rte,mrpc]", "data=embedded", "budget=smoke")
    stored = {**config.settings.model_dump(), "method": config.method_options()}
    stored["task"]["kind"] = "mixture"
    assert from_record(stored).settings.task == config.settings.task


def test_the_label_that_f1_of_a_further_set_is_of_is_in_the_name() -> None:
    """A set of another task is scored by that task's metrics, so by its positive label."""

    def name(positive: str | None) -> str:
        config = configure("task=mrpc", "data=embedded", "+task.further.qqp.task=qqp", *MERGED)
        task = config.settings.task
        theirs = task.further["qqp"]
        definition = theirs.definition
        assert definition is not None
        changed = definition.model_copy(update={"positive_label": positive})
        further = {"qqp": theirs.model_copy(update={"definition": changed})}
        settings = config.settings.model_copy(
            update={"task": task.model_copy(update={"further": further})}
        )
        inputs = Inputs("embedded", {"train": "1"}, "2", "3", has_head=False)
        return json.dumps(identity(RunConfig(settings, config.methods), inputs))

    assert name("duplicate") == name(None)  # as in every run before the label was in it
    assert name("not_duplicate") != name("duplicate")
