"""A paper's number stands beside ours only where model and data are the same; else it is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from results.errors import UserError
from results.pages.sheet import score_sheet
from results.papers.published import COLUMNS, papers
from results.record import Record
from results.stats.compare import judge
from results.tables.collect import tables
from tests.results.simulated import of_model, simulated


def _hype(seed: int = 1, **more: Any) -> Record:
    record = simulated("hype", "rte", seed, 0.8, options={"distribution": "normal"}, **more)
    return of_model(record, "roberta-large")


def test_same_model_and_data_get_a_column_with_every_deviation() -> None:
    [table] = tables([_hype(1), _hype(2)])
    sheet = score_sheet(table, judge(table), papers())
    assert sheet.heads[:3] == ("method", "rte", "paper")
    entry = sheet.body[0][2]
    # Yuan et al. 2023, Tables 1, 5 and 16 hold HyPe-N on RoBERTa-large; 3 is of 1,000 rows.
    known = {s.value for p in papers() for s in p.scores
             if (s.model, s.task, s.method, s.options, s.train)
             == ("roberta-large", "rte", "hype", "hype.distribution=normal", "all")}  # fmt: skip
    assert known
    assert {float(x.removeprefix("acc ")) for x in entry.text.split(" / ")} == {
        round(x, 1) for x in known
    }
    assert "here 80.00" in entry.title
    [note] = {n for n in sheet.notes if n.startswith("Paper, hype")} - {""} or [""]
    for part in (
        "chosen for each task on the dev set",
        "Here: 2 run(s)",
        "protocol final",
        "batch",
    ):
        assert part in note


@pytest.mark.parametrize(
    "record",
    [
        simulated("hype", "rte", options={"distribution": "normal"}),  # another model
        _hype(splits={"train": {"rows": 1000, "sha256": "3" * 64, "complete": False}}),
        _hype(splits={"validation": {"rows": 9, "sha256": "3" * 64, "complete": False}}),
    ],
)
def test_another_model_or_a_subset_only_gets_a_mark(record: Record) -> None:
    [table] = tables([record])
    sheet = score_sheet(table, judge(table), papers())
    assert "paper" not in sheet.heads
    [mark] = [n for n in sheet.notes if n.startswith("Published on other models or data")]
    assert "hype: Yuan et al. 2023 (" in mark


def _of_two_sets(few: str, whole: str) -> tuple[str, str, list[str]]:
    """Return the column before a paper's, its entry, and what is named, of two training sets."""
    records = [
        replace(_hype(seed, splits={"train": facts}), run=f"{sha256}{seed}")
        for sha256, rows in ((few, 1000), (whole, 2490))
        for facts in [{"rows": rows, "sha256": sha256 * 64, "complete": rows > 1000}]
        for seed in (1, 2)
    ]
    [table] = tables(records)
    sheet = score_sheet(table, judge(table), papers())
    [place] = [n for n, head in enumerate(sheet.heads) if head == "paper"]
    named = [note for note in sheet.notes if note.startswith("Published on other")]
    return sheet.heads[place - 1], sheet.body[0][place].text, named


def test_the_complete_data_is_compared_whichever_column_of_a_task_it_is() -> None:
    first, second = _of_two_sets("3", "1"), _of_two_sets("1", "3")
    assert (first[0], second[0]) == ("rte", "rte#2")
    assert first[1:] == second[1:]


def test_other_options_are_another_method() -> None:
    record = _hype()
    record.config["method"][0]["distribution"] = "uniform_positive"
    [table] = tables([record])
    sheet = score_sheet(table, judge(table), papers())
    assert "paper" not in sheet.heads
    assert not any(note.startswith("Published") for note in sheet.notes)


def _bert_large(method: str, seed: int = 1, **more: Any) -> Record:
    return of_model(simulated(method, "rte", seed, 0.7, **more), "bert-large-uncased")


@pytest.mark.parametrize(
    ("optimizer", "theirs", "others"), [("adamw", "70.1", "52.3"), ("adamw_nobc", "52.3", "70.1")]
)
def test_number_of_another_optimizer_is_another_row(
    optimizer: str, theirs: str, others: str
) -> None:
    """Mosbach et al. print fine-tuning with and without bias correction: each beside its own."""
    [table] = tables([_bert_large("full", config={"optimizer": {"name": optimizer}})])
    sheet = score_sheet(table, judge(table), papers())
    assert sheet.heads[2] == "paper"
    assert f"acc {theirs}" in sheet.body[0][2].text
    assert others not in sheet.body[0][2].text


def test_half_of_dev_is_other_data() -> None:
    """Zhang et al. select on one half of dev and report the other."""
    [table] = tables([_bert_large("reinit")])
    sheet = score_sheet(table, judge(table), papers())
    assert "paper" not in sheet.heads
    [mark] = [n for n in sheet.notes if n.startswith("Published on other models or data")]
    assert "reinit: Zhang et al. 2021 (bert-large-uncased)" in mark


def test_number_of_an_unknown_split_is_named_and_not_compared() -> None:
    [table] = tables([_hype()])
    for split, compared in (("dev", True), ("unknown", False)):
        known = [
            replace(paper, scores=tuple(replace(s, split=split) for s in paper.scores))
            for paper in papers()
            if paper.key == "yuan2023"
        ]
        sheet = score_sheet(table, judge(table), known)
        assert ("paper" in sheet.heads) == compared
        named = any(n.startswith("Published on other models or data") for n in sheet.notes)
        assert named or compared


def test_mismatched_and_test_server_scores_never_meet_ours() -> None:
    # The name that Houlsby et al. print; their split is the server's.
    record = of_model(simulated("full", "mnli", 1, 0.8), "bert-large")
    [table] = tables([record])
    sheet = score_sheet(table, judge(table), papers())
    assert "Houlsby" not in "".join(e.title for line in sheet.body for e in line)
    record = of_model(record, "roberta-base")
    [table] = tables([record])
    shown = score_sheet(table, judge(table), papers())
    assert "87.6" in "".join(e.text for line in shown.body for e in line)  # Hu et al., matched


def test_every_published_number_has_a_source_a_reading_and_a_known_task() -> None:
    for paper in papers():
        assert paper.source
        assert paper.reading
        assert paper.protocol
        assert paper.scores
        for score in paper.scores:
            assert score.split.split()[0] in ("dev", "test", "unknown")
            assert -100 <= score.value <= 100
            places = (score.place, score.model, score.task, score.metric, score.method)
            assert all(places)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n", "line 1: the columns must be"),
        (",".join(COLUMNS) + "\nT,m,dev,all,3,rte,accuracy,full,,many,\n", "line 2"),
        (",".join(COLUMNS) + "\nT,m\n", "line 2"),
    ],
)
def test_damaged_numbers_are_refused_with_their_line(text: str, said: str, tmp_path: Path) -> None:
    about = "{paper: P, source: s, reading: r, protocol: p}"
    (tmp_path / "papers.yaml").write_text(f"one: {about}\n")
    (tmp_path / "one.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        papers(tmp_path)
    (tmp_path / "one.csv").write_text(",".join(COLUMNS) + "\n")
    assert papers(tmp_path)[0].scores == ()
    papers.cache_clear()
    (tmp_path / "papers.yaml").write_text("one: {paper: P}\n")
    with pytest.raises(UserError, match=r"papers\.yaml"):
        papers(tmp_path)
