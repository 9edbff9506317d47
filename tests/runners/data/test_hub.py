"""The hub's code path, for models and data, against a stand-in server on localhost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import threading
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import pytest

from results import record as records
from tests.anew import anew
from tests.conftest import SMALL, Outcome
from tests.hub_server import COMMIT, serve
from tests.tiny import save_masked, save_tiny

_MNLI = ("entailment", "neutral", "contradiction")


def _write_glue(folder: Path) -> None:
    """Write rte, qqp, mnli and ax as nyu-mll/glue holds them: parquet files and a card."""
    names = {"rte": ["entailment", "not_entailment"], "mnli": list(_MNLI), "ax": list(_MNLI)}
    names["qqp"] = ["not_duplicate", "duplicate"]
    columns = {"rte": ("sentence1", "sentence2"), "qqp": ("question1", "question2")}
    splits = {
        "rte": ["train", "validation", "test"],
        "qqp": ["train", "validation", "test"],
        "mnli": ["train", "validation_matched", "validation_mismatched", "test_matched"],
        "ax": ["test"],
    }
    card = ["---", "configs:"]
    for config, found in splits.items():
        first, second = columns.get(config, ("premise", "hypothesis"))
        card += [f"- config_name: {config}", "  data_files:"]
        for split in found:
            rows = 60 if split == "train" else 12
            known = not split.startswith("test")
            labels = [i % len(names[config]) if known else -1 for i in range(rows)]
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

    def run(self, *commands: Sequence[str], **environment: str) -> list[Outcome]:
        """Do the commands in one new process, each with a folder of records of its own."""
        settings = {
            **{k: v for k, v in os.environ.items() if not k.startswith("HF_")},
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        small = [a for a in SMALL if not a.startswith("data=") and "eval_size" not in a]
        given = [
            [*([] if command[0].startswith("submission=") else small),
             *([] if any(a.startswith("out=") for a in command) else [f"out={self.out}"]),
             *command]
            for command in commands
        ]  # fmt: skip
        return anew(given, self.home.parent, settings, **environment)


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
    save_masked(root / "models" / "org" / "tiny-bert", root / "models" / "org" / "masked")
    pickled = root / "models" / "org" / "pickled"
    shutil.copytree(root / "models" / "org" / "tiny-bert", pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    return root


@pytest.fixture
def hub(content: Path, tmp_path: Path) -> Iterator[Hub]:
    with serve(content) as (url, log):
        yield Hub(url, log, tmp_path / "home", content, tmp_path / "out")


MODEL = "model.name_or_path=org/tiny-bert"
ABSENT = [f"~task.pairs.{name}" for name in ("STS13", "STS14", "STS15", "STS16", "SICK-R")]
PAIRS = ["task=sts", "data=hub", MODEL]
COMMANDS: dict[str, list[str]] = {
    "pinned": ["task=rte", "data=embedded", MODEL, f"model.revision={COMMIT}"],
    "rte": ["task=rte", "data=hub", MODEL],
    "mnli": ["task=mnli", "data=hub", MODEL],
    "sentences": ["method=simcse", *PAIRS, *ABSENT, "data.text=hub:org/sentences"],
    "lacking": ["method=embedding", *PAIRS],
    "auto": ["task=rte", "data=auto", MODEL],
    "prompted": [
        *("task=rte", "data=embedded", "model.name_or_path=org/masked", "method=mlm_prompt"),
        "method.mlm_prompt.words=[a,not]",
    ],
    "no model": ["data=embedded", "model.name_or_path=org/missing"],
    "pickled": ["data=embedded", "model.name_or_path=org/pickled"],
    "no data": ["data=hub", "task=sst2"],
}


def test_runs_come_from_the_hub_and_what_it_lacks_is_one_line(hub: Hub, tmp_path: Path) -> None:
    """All in one process, as its imports take most of the time."""
    folders = {name: tmp_path / "runs" / name for name in COMMANDS}
    given = [[*command, f"out={folders[name]}"] for name, command in COMMANDS.items()]
    done = dict(zip(COMMANDS, hub.run(*given), strict=True))

    def record_of(name: str) -> records.Record:
        assert done[name].code == 0, (name, done[name].err, hub.log)
        [record] = records.read_all(folders[name])
        return record

    assert record_of("pinned").weights["revision"] == COMMIT
    assert any(COMMIT in line for line in hub.log)
    _check_rte(record_of("rte"))
    assert record_of("auto").data["source"] == "hub"
    assert "EMBEDDED" not in done["auto"].err
    mnli = record_of("mnli")
    assert set(mnli.scores) == {"validation_matched", "validation_mismatched"}
    assert set(mnli.predictions) == {*mnli.scores, "ax"}
    assert "references" not in mnli.predictions["ax"]
    assert "ax: no gold labels" in done["mnli"].out
    _check_sentences(record_of("sentences"))
    assert record_of("prompted").weights["mlm_head"] == "pretrained"
    said = {
        "lacking": "mteb/sts13-sts at revision main could not be reached",
        "no model": "works offline: model=minilm",
        "pickled": "pickles are not read",
        "no data": "works offline: data=embedded",
    }
    for name, words in said.items():
        assert done[name].code == 2, name
        [line] = [line for line in done[name].err.splitlines() if line.startswith("error: ")]
        assert words in line
        assert "Traceback" not in done[name].err
        assert not list(folders[name].glob("*.json"))


def _check_rte(record: records.Record) -> None:
    assert record.data["source"] == "hub"
    assert record.data["revision"] == COMMIT
    assert record.weights["revision"] == COMMIT
    assert record.weights["name_or_path"] == "org/tiny-bert"
    assert record.data["splits"]["validation"]["rows"] == 12
    assert record.predictions["validation"]["references"] == [0, 1] * 6


def _check_sentences(record: records.Record) -> None:
    assert record.data["text"]["from"] == f"hub:org/sentences@{COMMIT}"
    assert record.data["text"]["rows"] == 60
    assert record.data["revision"] == f"STS12 {COMMIT}, STS-B {COMMIT}"
    assert record.data["splits"]["STS12"] | {"sha256": ""} == {
        "rows": 8,
        "sha256": "",
        "complete": False,
    }
    assert record.predictions["STS-B"]["references"] == [i / 2 for i in range(8)]


def test_what_was_fetched_serves_the_next_process_and_one_without_network(hub: Hub) -> None:
    asked = ["task=rte", "data=auto", MODEL, "save=delta"]
    others = [[f"task={task}", *asked[2:], "data=hub"] for task in ("mnli", "qqp")]
    done, *of_others = hub.run(asked, *others)
    assert [one.code for one in (done, *of_others)] == [0, 0, 0], of_others
    hub.log.clear()
    again, *submissions = hub.run(asked, *_submissions(hub.out))
    assert "stored result" in again.out, again.err
    assert not [line for line in hub.log if "safetensors" in line and line.startswith("GET /org")]
    _check_submissions(submissions, hub.out)
    [offline] = hub.run(asked, HF_HUB_OFFLINE="1")
    assert offline.code == 0, offline.err  # the model is in the cache by now
    assert "DATA: EMBEDDED" in offline.err
    assert "HF_HUB_OFFLINE" in offline.err
    assert {r.data["source"] for r in records.read_all(hub.out)} == {"hub", "embedded"}


WORDS = {"RTE.tsv": {"entailment", "not_entailment"}, "QQP.tsv": {"0", "1"}}


def _submissions(out: Path) -> list[list[str]]:
    """Return commands that answer the test sets of the hub, in part and whole."""
    named = ",".join(str(path) for path in sorted(out.glob("*.delta")))
    asked = [f"submission={named}", "data=hub", "device=cpu", f"out={out.parent / 'glue.zip'}"]
    return [[*asked, "data.eval_size=5"], asked]


def _check_submissions(submissions: Sequence[Outcome], out: Path) -> None:
    """Texts of labels -1 are answered, a set that is not there is named, part of one is refused."""
    part, whole = submissions
    assert part.code == 0, part.err
    assert "MNLI-mm.tsv: left out, as nyu-mll/glue test_mismatched is not there" in part.out
    assert "NOT TO BE SUBMITTED" in part.out
    with zipfile.ZipFile(out.parent / "glue.zip") as archive:
        files = {n: archive.read(n).decode().splitlines() for n in archive.namelist()}
    assert list(files) == ["AX.tsv", "MNLI-m.tsv", "QQP.tsv", "RTE.tsv"]
    for name, lines in files.items():
        assert [line.partition("\t")[0] for line in lines] == ["index", *"01234"]
        words = {line.partition("\t")[2] for line in lines[1:]}
        assert words <= WORDS.get(name, {*_MNLI})
    assert whole.code == 2
    assert "nyu-mll/glue test_matched has 12 rows, GLUE's has 9,796" in whole.err


@contextlib.contextmanager
def _silent() -> Iterator[tuple[str, list[socket.socket]]]:
    """Accept every connection and never answer; yield the address and what was accepted."""
    accepted: list[socket.socket] = []
    is_over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)

        def accept() -> None:
            while not is_over.is_set():
                with contextlib.suppress(TimeoutError):
                    accepted.append(server.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", accepted
        finally:
            is_over.set()
            thread.join()
            for connection in accepted:
                connection.close()


def test_hub_that_refuses_or_hangs_is_given_up_soon(hub: Hub) -> None:
    with _silent() as (address, asked):
        done, refused = hub.run(
            ["task=rte", "data=auto"],
            ["model=bert-base-uncased", "data=embedded"],
            HF_ENDPOINT=address,
            HF_HUB_DOWNLOAD_TIMEOUT="2",
        )
    assert done.code == 0, done.err
    assert "the hub did not answer" in done.err
    # Each command asks once or twice and no more; what hangs for good ends this test by its limit.
    assert 2 <= len(asked) <= 4
    assert refused.code == 2
    assert "google-bert/bert-base-uncased could not be fetched" in refused.err
    assert "model=minilm" in refused.err
