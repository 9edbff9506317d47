"""Two rows are compared in a sentence first: how far apart, how sure, or what would be needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.__main__ import main
from results.pages.two_rows import p_text, two_rows
from results.record import write
from results.stats.compare import judge
from results.stats.paired import sign_flip_p
from results.tables.collect import tables
from tests.results.simulated import grid

TASKS = ("cola", "mrpc", "rte", "stsb")


def _said(gains: dict[str, float], first: str, second: str, seeds: int = 6, **more) -> str:
    known = tables(grid(gains, more.pop("tasks", TASKS), seeds))
    return two_rows(known, first, second, more.get("task"), "text")


def test_the_sentence_says_how_far_how_sure_and_among_how_many() -> None:
    gains = {"full": 0.0, "lora": -0.05, "adapter": -0.03}
    text = _said(gains, "lora", "adapter")
    [table] = tables(grid(gains, TASKS, 6))
    judged = judge(table, beside="adapter")
    gap = judged.differences["lora", "average"]
    assert gap.interval is not None
    low, high = sorted(abs(100 * end) for end in gap.interval)
    p = judged.adjusted["lora", "average"]
    assert text.splitlines()[2] == (
        f"lora is {abs(100 * gap.mean):.1f} points below adapter on the average of 4 tasks"
        f" [{low:.1f}, {high:.1f}], 6 seeds, p {p_text(gap.p or 1)} as a single question,"
        f" {p_text(p)} among the 10 of its table."
    )
    assert "difference  pairs  p alone  p in the table" in text


def test_rows_that_cannot_be_told_apart_say_how_many_seeds_would() -> None:
    text = _said({"full": 0.0, "lora": -0.003}, "lora", "full")
    assert "lora and full cannot be told apart on the average of 4 tasks: −0." in text
    assert "more seeds would show a difference of 0." in text
    same = _said({"full": 0.0, "lora": 0.0}, "lora", "full", task="rte")
    assert "cannot be told apart on rte" in same
    few = _said({"full": 0.0, "lora": -0.2}, "lora", "full", seeds=3, tasks=["rte"])
    assert "cannot be told apart on rte" in few  # of three pairs no p is below .25
    assert "about 3 more seeds would show a difference of" in few


def test_one_of_many_comparisons_is_told_from_a_single_question() -> None:
    """Twelve other rows on two tasks: a p of 2/64 alone is none among so many."""
    gains = {"full": 0.0, "a": -0.012} | {f"other{i}": 0.0 for i in range(12)}
    known = tables(grid(gains, ["rte", "cola"], 6, spread=0.006))
    text = two_rows(known, "a", "full", "rte", "text")
    values = known[0].rows
    row = {r.method: r.cells["rte"].by_seed for r in values}
    assert sign_flip_p([row["a"][s] - row["full"][s] for s in range(1, 7)]) == 2 / 64
    assert "p .031 as a single question" in text
    assert "among the 39 of its table: too many comparisons for the table to say so." in text


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["lor", "full"], "no row is called lor; did you mean lora?"),
        (["lora", "lora"], "these are one row; name two"),
        (["lora"], "compare needs two rows"),
        (["lora", "full", "--task", "colar"], "--task colar: no such column; did you mean cola?"),
        (["lora", "full", "--split"], "--split does nothing with compare"),
        (["lora", "full", "--format", "csv"], "compare has text and md"),
    ],
)
def test_slips_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], typed: list[str], said: str
) -> None:
    for record in grid({"full": 0.0, "lora": 0.1}, ["cola", "rte"], 2):
        write(record, tmp_path)
    rows = [word for word in typed[:2] if not word.startswith("--")]
    assert main(["compare", *rows, str(tmp_path), *typed[len(rows) :]][: 2 if len(rows) < 2 else 9])
    assert said in capsys.readouterr().err


def test_command_and_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for record in grid({"full": 0.0, "lora": 0.1}, ["cola", "rte"], 6):
        write(record, tmp_path)
    assert main(["compare", "lora", "full", str(tmp_path), "--task", "rte", "--format", "md"]) == 0
    printed = capsys.readouterr().out
    assert "lora is " in printed
    assert "| rte | " in printed
    assert "| cola | " not in printed
    assert main(["compare", "lora", "full", str(tmp_path / "none")]) == 2


def test_any_row_is_the_baseline_of_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for record in grid({"full": 0.0, "lora": 0.1}, ["cola", "rte"], 2):
        write(record, tmp_path)
    assert main([str(tmp_path), "--baseline", "lora"]) == 0
    assert "Difference to lora" in capsys.readouterr().out
    assert main([str(tmp_path), "--baseline", "lore"]) == 2
    assert "--baseline lore: no row is called so; did you mean lora?" in capsys.readouterr().err


def test_a_key_is_chosen_with_several_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for record in grid({"full": 0.0, "lora": 0.1}, ["cola", "rte", "mrpc"], 2):
        write(record, tmp_path)
    for choice in (["--only", "task=cola,rte"], ["--only", "task=cola", "--only", "task=rte"]):
        assert main([str(tmp_path), *choice, "--brief"]) == 0
        assert capsys.readouterr().out.splitlines()[4].split()[:4] == [
            *("method", "cola", "rte", "average")
        ]
    assert main([str(tmp_path), "--only", "task=cola,sst2"]) == 2
    assert "--only task=sst2: no record; there is cola, mrpc, rte" in capsys.readouterr().err
