"""The front says which rows the seeds separate from full, no more than that, and in little room."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from results.__main__ import main
from results.errors import UserError
from results.pages.front import BEGIN, END, board_front
from results.record import Record, write
from results.run_list import ListedRun, RunList, write_list
from results.stats.paired import bca_interval
from tests.results.simulated import grid, simulated

TASKS = ("cola", "mrpc", "rte", "stsb")
TOTAL = 22_713_986


def _board(records: list[Record], seeds: int = 6) -> RunList:
    methods = tuple(dict.fromkeys("+".join(r.methods) for r in records))
    runs = {("+".join(r.methods), r.task, r.seed): r.run for r in records}
    tasks = tuple(dict.fromkeys(r.task for r in records))
    runs = [
        ListedRun(row, task, seed, runs.get((m, task, seed), f"none.{m}.{task}.{seed}"))
        for seed in range(1, seeds + 1)
        for task in tasks
        for row, m in enumerate(methods)
    ]
    return RunList("try", methods, tuple(runs))


def _front(records: list[Record], seeds: int = 6) -> str:
    return board_front(_board(records, seeds), records, "boards/try/table.md")


def _cells(text: str) -> dict[str, list[str]]:
    """Return the table's lines by method, without the heads."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {cells[0]: cells[1:] for cells in lines[2:]}


def _sentence(text: str) -> str:
    [line] = [line for line in text.splitlines() if line.startswith("The seeds")]
    assert line.endswith(".<br>")
    return line.removesuffix("<br>")


def _train(records: list[Record], method: str, share: float) -> None:
    for record in records:
        if record.methods == [method]:
            record.parameters = {**record.parameters, "trainable": round(share * TOTAL)}


def _scores(records: list[Record], method: str) -> np.ndarray:
    """Return scores [tasks, seeds]."""
    own = {(r.task, r.seed): r.score for r in records if r.methods == [method]}
    return np.array([[own[t, s] for s in range(1, 7)] for t in TASKS])


def test_separated_row_is_bold_and_named_and_another_is_not() -> None:
    records = grid({"full": 0, "bitfit": -0.1, "adapter": 0.0005}, TASKS, 6)
    for record in records:
        record.train_seconds = {"full": 100.0, "bitfit": 73.0, "adapter": 150.0}[record.methods[0]]
    text = _front(records)
    rows = _cells(text)
    base = _scores(records, "full")
    for method, bold, time in (("bitfit", "**", "0.73×"), ("adapter", "", "1.50×")):
        by_seed = (_scores(records, method) - base).mean(axis=0)
        interval = bca_interval(by_seed)
        assert interval is not None
        mean, low, high = (f"{100 * v:+.1f}" for v in (by_seed.mean(), *interval))
        shown = f"{bold}{mean} \\[{low}, {high}]{bold}".replace("-", "−")
        average = f"{100 * _scores(records, method).mean():.1f}"
        share = {"bitfit": "0.771", "adapter": "3.24"}[method]
        assert rows[method] == [average, shown, "6", share, time]
    assert rows["full"] == [f"{100 * base.mean():.1f}", "baseline", "6", "100", "1.00×"]
    assert list(rows)[-1] == "bitfit"  # the lowest average
    assert _sentence(text) == (
        "The seeds set bitfit below full (bold: interval, and step-down max-T test over the"
        " board's 10 comparisons, both exclude zero); they separate no other row from full."
    )
    assert "[all 3 rows of the board try](boards/try/table.md)" in text.splitlines()[-1]
    assert "minilm · local data, 1,000 training rows a task" in text.splitlines()[-1]
    assert "average over cola, mrpc, stsb, rte, in percent" in text.splitlines()[-1]


def test_rows_above_and_below_are_told_apart() -> None:
    gains = {"full": 0, "bitfit": -0.1, "adapter": 0.1, "lora": -0.2}
    assert _sentence(_front(grid(gains, TASKS, 6))).startswith(
        "The seeds set adapter above full and bitfit and lora below (bold"
    )
    assert "no other row" not in _front(grid(gains, TASKS, 6))
    assert _sentence(_front(grid({"full": 0, "adapter": 0.1}, TASKS, 6))).startswith(
        "The seeds set adapter above full (bold"
    )


def test_rows_that_could_be_separated_and_are_not() -> None:
    text = _front(grid({"full": 0, "bitfit": 0.0, "adapter": 0.0005}, TASKS, 6))
    assert _sentence(text) == (
        "The seeds separate no row from full: for none do interval, and step-down max-T test over"
        " the board's 10 comparisons, both exclude zero."
    )
    assert "**" not in text


LARGE = {f"large{i}": 0.001 * i for i in range(2, 5)}  # three, so that a fourth is not shown


def test_a_row_that_is_not_shown_is_not_said_to_be_unseparated() -> None:
    """The board's page sets a composition and a fourth large method below full; the front cannot
    say that no other row is."""
    gains = {"full": 0, "bitfit": -0.1, **LARGE, "large1": -0.1, "large1+bitfit": -0.1}
    records = grid(gains, TASKS, 6)
    for method in ("large1", *LARGE):
        _train(records, method, 1.0)
    assert {"large1", "large1+bitfit"}.isdisjoint(_cells(_front(records)))
    shown = _sentence(_front(records))
    assert shown.startswith("The seeds set bitfit below full (bold")
    assert shown.endswith("; they separate no other row shown here from full.")
    none = _sentence(_front([r for r in records if r.methods != ["bitfit"]]))
    assert none.startswith("The seeds separate no row shown here from full: for none do")
    few = _sentence(_front([r for r in records if r.seed < 4]))
    assert few.startswith("The seeds separate no row shown here from full: an interval needs 5")
    assert few.endswith("and no row shown here has more than 3.")
    alone = _sentence(_front([r for r in records if r.methods in (["full"], ["large1", "bitfit"])]))
    assert alone.endswith("nothing: no row shown here but full has a score on every task.")


def test_too_few_seeds_show_no_difference_and_the_sentence_says_why() -> None:
    text = _front(grid({"full": 0, "bitfit": -0.3, "adapter": 0}, TASKS, 4))
    rows = _cells(text)
    assert {m: cells[1:3] for m, cells in rows.items()} == {
        "full": ["baseline", "4/6"],
        "bitfit": ["–", "4/6"],
        "adapter": ["–", "4/6"],
    }
    assert _sentence(text) == (
        "The seeds separate no row from full: an interval needs 5 seeds that a row and full both"
        " finished on every task, and no row has more than 4."
    )


def test_seeds_are_those_that_every_task_has() -> None:
    records = grid({"full": 0, "bitfit": -0.3}, TASKS, 6)
    kept = [r for r in records if r.task != "rte" or r.seed > 3 or r.methods == ["full"]]
    text = _front(kept)
    assert _cells(text)["bitfit"][1:3] == ["–", "3/6"]
    assert "no row has more than 3" in _sentence(text)


def test_one_row_with_too_few_seeds_is_named_beside_others_that_have_them() -> None:
    records = grid({"full": 0, "bitfit": -0.3, "adapter": -0.3}, TASKS, 6)
    text = _front([r for r in records if r.seed < 5 or r.methods != ["adapter"]])
    assert _sentence(text).startswith("The seeds set bitfit below full (bold")
    assert _sentence(text).endswith("both exclude zero); too few seeds to tell for adapter.")
    assert _cells(text)["adapter"][1] == "–"


@pytest.mark.parametrize(("seeds", "separated"), [(5, False), (6, True)])
def test_pairs_that_no_exact_test_can_separate_are_the_reason(seeds: int, separated: bool) -> None:
    """Of five pairs the smallest p is 2/32; two comparisons of six that agree have 2/64 each."""
    text = _front(grid({"full": 0, "bitfit": -0.3, "adapter": -0.3}, ["rte"], seeds), seeds)
    if separated:
        assert _sentence(text).startswith("The seeds set bitfit and adapter below full")
        return
    assert _sentence(text) == (
        "The seeds separate no row from full: with at most 5 pairs, the smallest p that a test of"
        " flipped signs can give is 0.062."
    )
    assert text.startswith("| method | rte | ")
    shown = [cells[1] for method, cells in _cells(text).items() if method != "full"]
    assert all(re.fullmatch(r"−(29|3[01])\.\d \\\[−\d\d\.\d, −\d\d\.\d]", one) for one in shown)


def test_rows_of_too_few_pairs_are_named_beside_one_of_enough() -> None:
    records = grid({"full": 0, "bitfit": -0.3, "adapter": -0.3, "lora": -0.3}, ["rte"], 6)
    text = _front([r for r in records if r.seed < 6 or r.methods[0] in ("full", "bitfit")])
    assert _sentence(text).startswith("The seeds set bitfit below full (bold")
    assert _sentence(text).endswith("; too few seeds to tell for lora and adapter.")


def test_rows_are_the_best_of_both_families_and_never_more_than_eight() -> None:
    large = {f"large{i}": 0.01 * i for i in range(1, 7)}
    small = {f"small{i}": -0.01 * i for i in range(1, 8)}
    gains = {"full": 0.0, **large, **small, "large1+small1": 0.2, "partial": 0.3, "edge": 0.2}
    records = grid(gains, TASKS, 6, spread=0.0001)
    for method in (*large, "partial"):
        _train(records, method, 1.0)
    _train(records, "edge", 0.1000001)
    _train(records, "small7", 0.0999)
    text = _front([r for r in records if r.methods != ["partial"] or r.task != "rte"])
    rows = _cells(text)
    assert list(rows) == [
        *("edge", "large6", "large5", "full"),
        *("small1", "small2", "small3", "small4"),
    ]
    heads = text.splitlines()[0].strip("| ").split(" | ")
    assert len(heads) == 6
    assert {len(cells) for cells in rows.values()} == {5}
    assert "all 17 rows of the board try" in text
    assert (
        "rows: full, the 3 best single methods by average that train 10 % of the weights or more"
        " and the 4 best that train less" in text
    )


def test_times_that_may_not_be_compared_are_left_out() -> None:
    records = grid({"full": 0, "bitfit": -0.1}, TASKS, 6)
    assert _cells(_front(records))["bitfit"][-1] == "1.00×"
    records[0].environment = {**records[0].environment, "device_name": "another"}
    text = _front(records)
    assert "time beside" not in text
    assert {len(cells) for cells in _cells(text).values()} == {4}
    assert "devices or their settings differ, so no times" in text
    for record in records:
        record.environment = {**records[1].environment, "runs_beside": record.seed % 2}
    name = records[0].environment["device_name"]
    assert f"{name}, whose settings differ, so no times" in _front(records)


def test_board_without_full_or_with_nothing_beside_it_says_so() -> None:
    text = _front(grid({"bitfit": -0.1, "adapter": 0}, TASKS, 6))
    assert _sentence(text) == "The seeds separate nothing: the board has no record of full."
    assert all(cells[1] == "–" for cells in _cells(text).values())
    assert "time beside" not in text
    assert "rows: the 3 best" in text
    records = grid({"full": 0, "bitfit": -0.1}, TASKS, 6)
    text = _front([r for r in records if r.methods == ["full"] or r.task == "rte"])
    assert list(_cells(text)) == ["full"]
    assert _sentence(text).endswith("no row but full has a score on every task.")


def test_full_is_shown_before_it_has_every_task() -> None:
    records = grid({"full": 0, "bitfit": -0.1}, TASKS, 6)
    rows = _cells(_front([r for r in records if r.methods == ["bitfit"] or r.task != "rte"]))
    assert list(rows) == ["bitfit", "full"]
    assert rows["full"][:3] == ["–", "baseline", "0/6"]


def test_records_of_unlike_conditions_are_refused_with_the_way_out() -> None:
    records = grid({"full": 0, "bitfit": -0.1}, TASKS, 6)
    records[0].config = {**records[0].config, "precision": "bf16"}
    with pytest.raises(UserError, match=r"(?s)make 2 tables.*bf16.*fp32.*--only precision=bf16"):
        _front(records)


def _folders(records: list[Record], folder: Path) -> list[str]:
    for record in records:
        write(record, folder / "runs")
    write_list(_board(records), folder / "boards")
    return ["front", str(folder / "runs"), "--boards", str(folder / "boards")]


def test_into_replaces_what_is_between_its_marks_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = grid({"full": 0, "bitfit": -0.1}, ["mrpc", "rte"], 6)
    command = [*_folders(records, tmp_path), "--board", "try"]
    page = tmp_path / "page.md"
    others = "<!-- tables: begin -->\nkept\n<!-- tables: end -->\n"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\n{others}after\n")
    assert main([*command, "--into", str(page)]) == 0
    text = board_front(_board(records), records, "boards/try/table.md")
    assert page.read_text() == f"before\n{BEGIN}\n{text}{END}\n{others}after\n"
    assert main([*command, "--into", str(page)]) == 0
    assert page.read_text().count(text) == 1
    lines = page.read_bytes().replace(b"\n", b"\r\n")
    page.write_bytes(lines)  # as some editors end lines
    assert main([*command, "--into", str(page)]) == 0
    assert page.read_bytes() == lines
    page.write_text(others)
    assert main([*command, "--into", str(page)]) == 2
    assert f"needs one line '{BEGIN}'" in capsys.readouterr().err
    assert page.read_text() == others


def test_printed_front_is_the_one_that_is_placed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [simulated("full", "mrpc", seed) for seed in (1, 2)]
    command = _folders(records, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--board", "try"]) == 0
    assert capsys.readouterr().out == board_front(_board(records), records, "boards/try/table.md")


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (["--board", "tri"], "--board tri: no such board; did you mean try?"),
        (["--board", "nothing"], "--board nothing: no such board; known: try"),
        (["--board", "../runs"], "--board ../runs: no such board; known: try"),
        ([], "front needs the name of a board: --board NAME; known in "),
        (
            ["--board", "try", "--format", "tex"],
            "--format tex is for tables; front has text and md",
        ),
        (["--board", "try", "--only", "seed=9"], "--only seed=9: no record"),
    ],
)
def test_unknown_board_is_one_clear_error(
    more: list[str], error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = _folders([simulated("full", "mrpc", 1)], tmp_path)
    assert main([*command, *more]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: {error}")
    assert len(shown.err.splitlines()) == 1


def test_board_without_records_says_how_to_make_them() -> None:
    board = _board([simulated("full", "mrpc", 1)])
    with pytest.raises(UserError, match=r"none of the board's 6 runs .*python run\.py board=try"):
        board_front(board, [], "table.md")
