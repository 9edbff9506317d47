"""The hub's code path, for models and data, against a stand-in server on localhost."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pytest

from results import record as records
from tests.conftest import ROOT, SMALL
from tests.hub_server import COMMIT, serve
from tests.tiny import save_tiny

_MNLI = ("entailment", "neutral", "contradiction")


def _write_glue(folder: Path) -> None:
    """Write rte, mnli and ax as nyu-mll/glue holds them: parquet files and a card."""
    names = {"rte": ["entailment", "not_entailment"], "mnli": list(_MNLI), "ax": list(_MNLI)}
    splits = {
        "rte": ["train", "validation"],
        "mnli": ["train", "validation_matched", "validation_mismatched"],
        "ax": ["test"],
    }
    card = ["---", "configs:"]
    for config, found in splits.items():
        first, second = ("sentence1", "sentence2") if config == "rte" else ("premise", "hypothesis")
        card += [f"- config_name: {config}", "  data_files:"]
        for split in found:
            rows = 60 if split == "train" else 12
            labels = (
                [-1] * rows if config == "ax" else [i % len(names[config]) for i in range(rows)]
            )
            features = datasets.Features(
                {
                    first: datasets.Value("string"),
                    second: datasets.Value("string"),
                    "label": datasets.ClassLabel(names=names[config]),
                    "idx": datasets.Value("int32"),
                }
            )
            table = datasets.Dataset.from_dict(
                {
                    first: [f"the {split} dog number {i} sleeps" for i in range(rows)],
                    second: [f"a dog sleeps {i % 7} times" for i in range(rows)],
                    "label": labels,
                    "idx": list(range(rows)),
                },
                features=features,
            )
            (folder / config).mkdir(parents=True, exist_ok=True)
            table.to_parquet(folder / config / f"{split}-00000-of-00001.parquet")
            card += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    (folder / "README.md").write_text("\n".join([*card, "---", "GLUE"]))


def _write_pairs(folder: Path) -> None:
    """Write a set as mteb holds it: test.jsonl, columns sentence1, sentence2, score."""
    folder.mkdir(parents=True)
    rows = [
        {"sentence1": f"a dog sleeps {i} times", "sentence2": f"dogs sleep {i % 3}", "score": i / 2}
        for i in range(8)
    ]
    rows.append({"sentence1": "not", "sentence2": "scored", "score": None})
    card = ["---", "configs:", "- config_name: default", "  data_files:"]
    card += ["  - split: test", "    path: test.jsonl", "---", ""]
    (folder / "README.md").write_text("\n".join(card))
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@dataclass
class Hub:
    """A stand-in hub, and a way to run run.py against it as a user's machine would."""

    url: str
    log: list[str]
    home: Path
    root: Path
    out: Path
    extra: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        settings = {
            **{k: v for k, v in os.environ.items() if not k.startswith("HF_")},
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **environment,
        }
        small = [a for a in SMALL if not a.startswith("data=") and "eval_size" not in a]
        command = [sys.executable, "run.py", *small, f"out={self.out}", *arguments]
        return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    _write_glue(root / "datasets" / "nyu-mll" / "glue")
    sentences = root / "datasets" / "org" / "sentences"
    sentences.mkdir(parents=True)
    card = ["---", "configs:", "- config_name: default", "  data_files:"]
    card += ["  - split: train", "    path: train.jsonl", "---", ""]
    (sentences / "README.md").write_text("\n".join(card))
    lines = [json.dumps({"text": f"cats are {i} asleep"}) for i in range(60)]
    (sentences / "train.jsonl").write_text("\n".join(lines))
    for name in ("sts12-sts", "stsbenchmark-sts"):
        _write_pairs(root / "datasets" / "mteb" / name)
    save_tiny("bert", root / "models" / "org" / "tiny-bert")
    pickled = root / "models" / "org" / "pickled"
    shutil.copytree(root / "models" / "org" / "tiny-bert", pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    return root


@pytest.fixture
def hub(content: Path, tmp_path: Path) -> Iterator[Hub]:
    with serve(content) as (url, log):
        yield Hub(url, log, tmp_path / "home", content, tmp_path / "out")


def _only(hub: Hub) -> records.Record:
    [record] = records.read_all(hub.out)
    return record


def test_model_and_data_come_from_the_hub_and_their_commits_are_recorded(hub: Hub) -> None:
    done = hub.run("task=rte", "data=hub", "model.name_or_path=org/tiny-bert")
    assert done.returncode == 0, (done.stderr, hub.log)
    record = _only(hub)
    assert record.data["source"] == "hub"
    assert record.data["revision"] == COMMIT
    assert record.weights["revision"] == COMMIT
    assert record.weights["name_or_path"] == "org/tiny-bert"
    assert record.data["splits"]["validation"]["rows"] == 12
    assert record.predictions["validation"]["references"] == [0, 1] * 6
    hub.log.clear()
    again = hub.run("task=rte", "data=hub", "model.name_or_path=org/tiny-bert")
    assert "stored result" in again.stdout, again.stderr
    assert not [line for line in hub.log if "safetensors" in line and line.startswith("GET /org")]


def test_auto_takes_the_hub_when_it_answers_and_embedded_when_it_is_offline(hub: Hub) -> None:
    done = hub.run("task=rte", "data=auto", "model.name_or_path=org/tiny-bert")
    assert done.returncode == 0, done.stderr
    assert _only(hub).data["source"] == "hub"
    assert "EMBEDDED" not in done.stderr
    offline = hub.run(
        "task=rte", "data=auto", "model.name_or_path=org/tiny-bert", HF_HUB_OFFLINE="1"
    )
    assert offline.returncode == 0, offline.stderr  # the model is in the cache by now
    assert "DATA: EMBEDDED" in offline.stderr
    assert "HF_HUB_OFFLINE" in offline.stderr
    assert {r.data["source"] for r in records.read_all(hub.out)} == {"hub", "embedded"}


def test_mnli_reports_both_splits_and_the_unlabelled_diagnostics(hub: Hub) -> None:
    done = hub.run("task=mnli", "data=hub", "model.name_or_path=org/tiny-bert")
    assert done.returncode == 0, done.stderr
    record = _only(hub)
    assert set(record.scores) == {"validation_matched", "validation_mismatched"}
    assert set(record.predictions) == {*record.scores, "ax"}
    assert "references" not in record.predictions["ax"]
    assert "ax: no gold labels" in done.stdout


def test_sentence_pairs_come_from_the_hub(hub: Hub) -> None:
    absent = [f"~task.pairs.{name}" for name in ("STS13", "STS14", "STS15", "STS16", "SICK-R")]
    given = ["method=simcse", "task=sts", "data=hub", "model.name_or_path=org/tiny-bert", *absent]
    done = hub.run(*given, "data.text=hub:org/sentences")
    assert done.returncode == 0, done.stderr
    record = _only(hub)
    assert record.data["text"]["from"] == "hub:org/sentences"
    assert record.data["text"]["rows"] == 60
    assert record.data["revision"] == f"STS12 {COMMIT}, STS-B {COMMIT}"
    assert record.data["splits"]["STS12"] | {"sha256": ""} == {
        "rows": 8,
        "sha256": "",
        "complete": False,
    }
    assert record.predictions["STS-B"]["references"] == [i / 2 for i in range(8)]
    done = hub.run("method=embedding", *given[1:4])
    assert done.returncode == 2
    assert "mteb/sts13-sts at revision main could not be reached" in done.stderr


def test_a_pinned_revision_is_asked_for(hub: Hub) -> None:
    done = hub.run(
        "task=rte", "data=embedded", "model.name_or_path=org/tiny-bert", f"model.revision={COMMIT}"
    )
    assert done.returncode == 0, done.stderr
    assert any(COMMIT in line for line in hub.log)
    assert _only(hub).weights["revision"] == COMMIT


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data=embedded", "model.name_or_path=org/missing"], "works offline: model=minilm"),
        (["data=embedded", "model.name_or_path=org/pickled"], "pickles are not read"),
        (["data=hub", "task=sst2"], "works offline: data=embedded"),
    ],
)
def test_what_the_hub_does_not_hold_is_one_line(hub: Hub, arguments: list[str], said: str) -> None:
    done = hub.run(*arguments)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said in line
    assert "Traceback" not in done.stderr
    assert not list(hub.out.glob("*.json"))


def test_hub_that_refuses_or_hangs_is_given_up_soon(hub: Hub) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        done = hub.run("task=rte", "data=auto", HF_ENDPOINT=address)
        assert done.returncode == 0, done.stderr
        assert "the hub did not answer" in done.stderr
        assert time.monotonic() - start < 40
    refused: Any = hub.run("model=bert-base-uncased", "data=embedded", HF_ENDPOINT=address)
    assert refused.returncode == 2
    assert "google-bert/bert-base-uncased could not be fetched" in refused.stderr
    assert "model=minilm" in refused.stderr
