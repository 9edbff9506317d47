"""A run's page says what its record says, and is written to no wrong place."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.__main__ import main
from results.pages.report.page import report_page
from results.printable import printable
from results.record import Record, read, write
from runners.exports.logits import save_logits
from tests.results.pages.test_bad_records import HOSTILE
from tests.results.simulated import simulated

GOLD, SAID = [0.0, 1, 1, 1], [0.0, 0, 1, 1]


class _Whole(HTMLParser):
    """Reads a page's text; tags that do not close in order are noted, as are addresses."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def text_of(page: str) -> str:
    """Return what a page shows, once it is seen to be whole and to need no other file."""
    read_whole = _Whole(page)
    assert read_whole.open == []
    assert read_whole.addresses == []
    assert "@import" not in page
    assert "url(" not in page
    assert page == printable(page, kept="\n")
    return read_whole.text


def _kept(said: list[float], gold: list[float] | None) -> dict[str, list[float]]:
    return {"predictions": said} | ({} if gold is None else {"references": gold})


def _classes(**more: Any) -> Record:
    evaluations = [
        {"step": step, "epoch": 1.0, "train_loss": 0.5, "scores": {"validation": {"accuracy": a}}}
        for step, a in ((5, 0.5), (10, 0.75))
    ]
    given = {
        "predictions": {"validation": _kept(SAID, GOLD)},
        "losses": [1.0 / (i + 1) for i in range(10)],
        "evaluations": evaluations,
        "steps": 10,
        **more,
    }
    return simulated("lora", "mrpc", 1, 0.75, **given)


def _page(record: Record, folder: Path, data: Path | None = None) -> str:
    """Return the page of a record that was written and read again."""
    path = write(record, folder)
    return report_page(read(path), path, data)


def test_first_lines_answer(tmp_path: Path) -> None:
    text = text_of(_page(_classes(), tmp_path))
    said = "lora on mrpc with minilm scores 75.0 %, no better than the 75.0 % of always answering"
    said += " the most frequent label."
    assert said in text
    assert text.index(said) < text.index("validation accuracy 75.0 75.0 0.0 equal yes")
    parts = ["seed 1", "status finished", "Training loss", "validation, percent", "Course"]
    parts += ["Learning rate", "Confusion matrix", "By class", "Worst rows", "Cost"]
    assert [part for part in parts if part not in text] == []
    assert f"verify={tmp_path}" in text
    assert "save=logits" in text
    above = _classes(predictions={"validation": _kept([0.0, 1, 0, 1], [0.0, 1, 0, 0])})
    assert "scores 75.0 %, 0.0 points" not in text_of(_page(above, tmp_path / "b"))
    low = dataclasses.replace(above, score=0.25, scores={"validation": {"accuracy": 0.25}})
    low.predictions = {"validation": _kept([1.0, 1, 1, 1], [0.0, 1, 0, 0])}
    assert "scores 25.0 %, 50.0 points below the 75.0 %" in text_of(_page(low, tmp_path / "c"))


def test_a_run_that_was_stopped_shows_the_rate_of_its_whole_budget(tmp_path: Path) -> None:
    """Its warm-up of ten of forty steps had just ended: the rate rose to its last step."""
    stopped = {"step": 10, "of": 40, "patience": 2, "why": "2 evaluations without a better score"}
    of = {
        name: _classes(**more) for name, more in {"whole": {}, "cut": {"stopped": stopped}}.items()
    }
    heights = {}
    for name, record in of.items():
        page = report_page(record, tmp_path / "x.json")
        svg = page.split("<h3>Learning rate</h3>")[1].split("</svg>")[0]
        path = re.findall(r'class="line k0" d="M([^"]+)"', svg)[0]
        heights[name] = [float(point.split(",")[1]) for point in path.split("L")]
    assert len(heights["cut"]) == 10
    assert heights["cut"] == sorted(heights["cut"], reverse=True)  # down the page is less
    assert heights["whole"] != sorted(heights["whole"], reverse=True)
    said = "Training ended at step 10 of 40: 2 evaluations without a better score."
    assert said in text_of(report_page(of["cut"], tmp_path / "x.json"))


def test_logits_make_a_diagram_and_order_the_worst(tmp_path: Path) -> None:
    record = _classes()
    logits = np.array([[1, 0], [4, 0], [0, 2], [0, 1]], np.float32)
    path = tmp_path / f"{record.run}.logits.npz"
    record.logits_sha256 = save_logits(path, {"validation": logits})
    text = text_of(_page(record, tmp_path))
    nll = np.mean(np.log1p(np.exp([-1, 4, -2, -1])))
    assert f"NLL {nll:.4f} nats" in text
    assert "Accuracy by confidence" in text
    assert "row reference answer loss p(reference) p(answer) 2 yes no 4.018" in text
    path.write_bytes(path.read_bytes()[:-1])
    text = text_of(_page(record, tmp_path))
    assert "The logits cannot be read: " in text
    assert "is damaged or of another run" in text
    assert "Accuracy by confidence" not in text


def _task(kind: str, **more: Any) -> dict[str, Any]:
    return {"task": {"name": "t", "kind": kind, **more}}


def _of(kind: str, scores: dict[str, float], kept: dict[str, Any], **more: Any) -> Record:
    record = simulated("full", "t", 1, 0.0, config=_task(kind, **more.pop("task", {})), **more)
    record.scores, record.predictions = {"validation": scores}, {"validation": kept}
    record.score = sum(scores.values()) / len(scores) if scores else None
    return record


def test_every_kind_of_task_has_its_section(tmp_path: Path) -> None:
    line = _kept([1.0, 2.0, 4.0], [1.0, 2.0, 3.0])
    pearson = float(np.corrcoef([1, 2, 4], [1, 2, 3])[0, 1])
    regression = _of("regression", {"pearson": pearson}, line)
    text = text_of(_page(regression, tmp_path))
    assert "Predicted against reference" in text
    assert f"Pearson's correlation is {pearson:.4f}, Spearman's 1.0000." in text
    assert "row reference prediction error 3 3 4 1" in text  # the worst row
    pairs = {"pairs": {"validation": {"file": "sts.tsv"}}}
    vectors = _of("similarity", {"spearmanr": 1.0}, _kept([0.1, 0.5, 0.9], [0, 2.5, 5]), task=pairs)
    text = text_of(_page(vectors, tmp_path / "v"))
    assert "Cosine against human score" in text
    assert "always answering" not in text.split("split, metric")[0]
    labels = {"labels": ["a", "b", "c"], "options": ["x", "y", "z"]}
    choice = _of("multiple_choice", {"accuracy": 0.5}, _kept([0, 2], [0, 1]), task=labels)
    text = text_of(_page(choice, tmp_path / "c"))
    assert "An answer is a place among the options of its own row." in text
    assert "save=logits" not in text
    assert "The first of 1 that are answered wrongly." in text
    measured = {"validation": {"before": {"perplexity": 81.5, "accuracy": 0.25},
                               "after": {"perplexity": 9.25, "accuracy": 0.5}}}  # fmt: skip
    masked = _of("masked_lm", {"accuracy": 0.5}, _kept([7, 8], [7, 9]), measured=measured)
    masked.evaluations = [{"step": 4, "scores": {"validation": {"accuracy": 0.5}},
                           "measured": {"validation": {"perplexity": 9.25}}}]  # fmt: skip
    text = text_of(_page(masked, tmp_path / "m"))
    assert "perplexity 81.50 9.25 accuracy 25.0 50.0" in text
    assert "validation, perplexity" in text
    assert "2 masked tokens" in text


def test_each_task_of_a_mixture_is_a_section_with_its_own_labels(tmp_path: Path) -> None:
    tasks = {
        "rte": {"name": "rte", "kind": "classification", "labels": ["entails", "not"]},
        "stsb": {"name": "stsb", "kind": "regression"},
    }
    record = simulated("full", "mix", 1, 0.0, config=_task("multitask", mixture={"tasks": tasks}))
    record.scores = {"rte/validation": {"accuracy": 0.5}, "stsb/validation": {"pearson": 1.0}}
    record.predictions = {
        "rte/validation": _kept([0, 1], [0, 0]),
        "stsb/validation": _kept([1.0, 2.0], [2.0, 4.0]),
    }
    record.score = 0.75
    text = text_of(_page(record, tmp_path))
    assert "scores 75.0 %, 25.0 points above the 50.0 % of always answering alike." in text
    assert "rte/validation accuracy 50.0 100.0 −50.0 below entails" in text
    assert "A mixture keeps no logits." in text
    assert text.index("rte/validation · 2 rows") < text.index("Confusion matrix")
    assert text.index("stsb/validation · 2 rows") < text.index("Predicted against reference")


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_run_that_did_not_finish_says_why_and_shows_what_there_is(
    status: str, tmp_path: Path
) -> None:
    error = {"type": "RuntimeError", "message": "the loss was not finite at step 3", "step": 3}
    record = simulated("lora", "rte", 1, None, status=status, error=error, losses=[1.0, 2.0, 9.0])
    text = text_of(_page(record, tmp_path))
    assert f"lora on rte with minilm {status}" in text
    assert "the loss was not finite at step 3. It has no scores." in text
    assert "Training loss" in text
    assert "How to repeat it" in text
    bare = dataclasses.replace(record, losses=[], evaluations=[], error=None, parameters={},
                               environment={}, train_seconds=None, peak_bytes=None)  # fmt: skip
    text = text_of(_page(bare, tmp_path / "bare"))
    assert "no reason is recorded" in text
    assert "The record holds no losses of steps." in text


def test_the_runs_before_are_listed(tmp_path: Path) -> None:
    stages = [{"task": t, "methods": "full", "settings": "0", "run": f"{t}.x"} for t in "ab"]
    record = _classes()
    record.weights = {**record.weights, "start": {"run": "b.x", "sha256": "0", "chain": stages}}
    text = text_of(_page(record, tmp_path))
    assert "It starts from what b.x left. stage task methods run 1 a full a.x 2 b full b.x" in text


def test_names_act_on_no_page(tmp_path: Path) -> None:
    record = _classes(method_reports={HOSTILE: {HOSTILE: HOSTILE}}, command=HOSTILE, end=HOSTILE)
    record.config["task"] |= {"labels": [HOSTILE, "b"], HOSTILE: [HOSTILE]}
    record.model = record.task = record.budget = record.protocol = HOSTILE
    record.methods = [HOSTILE]
    record.run = "hostile"
    record.environment = {"device_name": HOSTILE, "commit": HOSTILE, HOSTILE: HOSTILE}
    record.data = {
        **record.data,
        "source": HOSTILE,
        "splits": {HOSTILE: {"rows": 1, "sha256": "a"}},
    }
    record.weights = {**record.weights, "start": {"run": HOSTILE, "chain": [
        {"task": HOSTILE, "methods": HOSTILE, "settings": "", "run": HOSTILE}]}}  # fmt: skip
    record.scores = {HOSTILE: {HOSTILE: 0.75, "accuracy": 0.75}}
    record.predictions = {HOSTILE: record.predictions["validation"]}
    record.evaluations = [
        {"step": step, "scores": {HOSTILE: {HOSTILE: 0.5, "b": HOSTILE}, "c": HOSTILE}}
        for step in (1, 2, HOSTILE)
    ]
    page = _page(record, tmp_path)
    assert HOSTILE.split()[-1] not in text_of(page)
    assert "<b>&" not in page
    assert len(re.findall("<script", page)) == 1
    failed = dataclasses.replace(record, status="failed", score=None, scores={}, predictions={})
    failed.error = {"type": HOSTILE, "message": HOSTILE, "step": HOSTILE}
    text_of(_page(failed, tmp_path / "failed"))


def test_a_large_record_is_a_page_of_bounded_size(tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    gold = rng.random(50_000).tolist()
    record = _of("regression", {}, _kept(gold, gold), losses=gold)
    record.scores = {f"s{i}": {"pearson": 1.0} for i in range(500)}
    record.predictions |= {f"s{i}": _kept([1.0, 2.0], [1.0, 2.0]) for i in range(50)}
    record.score = 1.0
    path = write(record, tmp_path)
    page = report_page(record, path)
    assert len(page) < 500_000
    assert "471 further splits have no section" in page
    apart = dataclasses.replace(record, scores={"v": {"pearson": 1.0}}, predictions={
        "v": _kept(gold, gold)}, losses=[1e39, 1.0])  # fmt: skip
    text = text_of(report_page(apart, path))
    assert "One dot in 25 is drawn." in text
    assert "The losses are too large to be drawn." in text


def _table(folder: Path, labels: list[str]) -> Path:
    (folder / "MRPC").mkdir(parents=True)
    rows = "".join(f"{label}\tfirst {i}\tsecond {i}\n" for i, label in enumerate(labels))
    (folder / "MRPC" / "dev.tsv").write_text(f"Quality\ta\tb\n{rows}")
    return folder


def test_rows_lead_to_lines_and_their_texts(tmp_path: Path) -> None:
    record = _classes()
    columns, files = {"label": "Quality"}, {"validation": "MRPC/dev.tsv"}
    names = {"0": "no", "1": "yes"}
    local = {"report": files, "header": True, "columns": columns, "label_names": names}
    record.config["task"] |= {"text": ["a", "b"], "local": local}
    record.config["data"] = {"dir": "../glue", "eval_size": None}
    text = text_of(_page(record, tmp_path))
    where = "Rows count from 1 in MRPC/dev.tsv, below data.dir=../glue: row N is line N + 1"
    assert where in text
    assert "--data FOLDER shows their texts." in text
    text = text_of(_page(record, tmp_path, _table(tmp_path / "right", ["0", "1", "1", "1"])))
    assert "row reference answer line a b 2 yes no 3 first 1 second 1" in text
    for labels, why in (
        (["0", "1", "1", "0"], "has another label than the record's row"),
        (["0", "1", "1"], "has 3 rows and the record 4"),
    ):
        text = text_of(_page(record, tmp_path, _table(tmp_path / f"{len(labels)}", labels)))
        assert f"Texts are left out: {'line 5 of ' if len(labels) == 4 else ''}" in text
        assert why in text
        assert where in text
        assert "second 1" not in text
    assert "No such file or directory" in text_of(_page(record, tmp_path, tmp_path / "none"))


def test_pairs_lead_to_their_files(tmp_path: Path) -> None:
    folder = tmp_path / "STS"
    folder.mkdir()
    (folder / "STS.input.news.txt").write_text("a dog\tone dog\nx\ty\nno\tyes\n")
    (folder / "STS.gs.news.txt").write_text("5\n\n0\n")
    pairs = {"validation": {"folder": "STS"}}
    record = _of(
        "similarity", {}, _kept([0.1, 0.9], [5, 0]), task={"pairs": pairs, "text": ["s", "t"]}
    )
    record.scores, record.score = {"validation": {"spearmanr": -1.0}}, -1.0
    text = text_of(_page(record, tmp_path, tmp_path))
    assert "STS.input.news.txt 3 no yes" in text
    (tmp_path / "pairs.csv").write_text("a dog\tone dog\t5\nno\tyes\t0\n")
    record.config["task"]["pairs"] = {"validation": {"file": "pairs.csv"}}
    assert "1 a dog one dog" in text_of(_page(record, tmp_path, tmp_path))


def test_the_command_finds_the_run_and_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    record = _classes()
    path = write(record, tmp_path / "runs")
    page = tmp_path / f"{record.run}.html"
    for given in (
        [str(path)],
        [record.run, "runs"],
        ["mrpc.lora", "runs"],
        [path.name, "runs"],
        [str(path)[:-5]],
    ):
        assert main(["report", *given]) == 0
        assert capsys.readouterr().out == f"{page.name}\n"
        assert text_of(page.read_text())
        page.unlink()
    assert main(["report", "--out", "p.html", str(path)]) == 0
    assert main(["report", str(path), "--out", "p.html"]) == 0  # over the page of before
    assert capsys.readouterr().out == "p.html\np.html\n"


def test_a_slip_is_a_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    record = _classes()
    path = write(record, tmp_path / "runs")
    write(dataclasses.replace(record, run=f"{record.run}2"), tmp_path / "runs")
    (tmp_path / "note.txt").write_text("mine")
    slips = [
        (["report"], "report needs a run: python -m results report RUN"),
        (["report", "runs"], "is a folder, and a report is of one run"),
        (["report", record.run.replace("lora", "lroa"), "runs"], f"did you mean {record.run}"),
        (
            ["report", "zzz", "runs"],
            "no such run in runs, which holds 2 records, such as mrpc.lora",
        ),
        (["report", "mrpc", "runs"], "2 runs in runs begin so"),
        (["report", "mrpc"], "2 runs in runs begin so"),
        (["report", "mrpc", "none"], "no folder none to look for a run in"),
        (["report", "note.txt"], "note.txt cannot be read as a record"),
        (["report", str(path), "--out", "note.txt"], "what lies there is no page"),
        (["report", str(path), "--out", str(path)], "what lies there is no page"),
        (["report", str(path), "--out", "runs"], "what lies there is no page"),
        (["report", str(path), "--out", "note.txt/a.html"], "cannot be written"),
        (["report", str(path), "--only", "task=rte"], "--only does nothing with report"),
        (["report", str(path), "--format", "md"], "--format does nothing with report"),
        (["--data", "d"], "--data does nothing with tables"),
    ]
    before = sorted(tmp_path.rglob("*"))
    for given, said in slips:
        assert main(given) == 2, given
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "note.txt").read_text() == "mine"
