"""What a browser computes anew for other choices is what Python computes for them."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from scipy import stats

from results.pages.headline import headline
from results.pages.html import document, section
from results.pages.leaderboard.lines import gap_text, lines
from results.pages.leaderboard.scatter import scatter
from results.pages.leaderboard.table import SCRIPT, STYLE, leaderboard
from results.pages.sheet import Entry, Sheet
from results.printable import printable
from results.record import Record
from results.stats.compare import judge
from results.stats.paired import bca_interval
from results.tables.collect import Table, tables
from tests.results.pages.leaderboard.chromium import PATH, WHY, Tables, between, dom, opened, plain
from tests.results.simulated import grid, of_one_training, simulated, sliced

pytestmark = pytest.mark.skipif(PATH is None, reason=WHY)

GAINS = {"full": 0.0, "bitfit": -0.012, "adapter": 0.006, "lora": -0.05, "hype": 0.002, "late": 0.0}
ROWS = {*GAINS, "once"}


def _records(seeds: int = 7) -> list[Record]:
    """One row lacks a seed on a task, others a task or all seeds but one; lora learned nothing."""
    records = grid(GAINS, ["cola", "mrpc", "rte"], seeds)
    kept = {"predictions": [0.0] * 10, "references": [0.0] * 9 + [1.0]}  # the majority's is .9
    for record in records:
        record.predictions = {"validation": kept} if record.methods == ["lora"] else {}
    lacking = [("hype", "rte", seeds), *(("late", "rte", s) for s in range(1, seeds + 1))]
    records += [simulated("once", task, 1, 0.66) for task in ("cola", "mrpc", "rte")]
    return [r for r in records if (r.methods[0], r.task, r.seed) not in lacking]


def _table(records: Sequence[Record], tasks: tuple[str, ...] = ()) -> Table:
    [table] = tables(records)
    return dataclasses.replace(table, tasks=tasks) if tasks else table


Units = dict[Any, float]


def _gaps(table: Table, one: str, other: str, tasks: Sequence[str]) -> tuple[Units, list[float]]:
    """Return the differences by unit and by seed."""
    by_name = {row.method: row.cells for row in table.rows}
    cells = [[by_name[name].get(task) for task in tasks] for name in (one, other)]
    if any(cell is None for row in cells for cell in row):
        return {}, []
    each = [[cell.by_seed for cell in row if cell is not None] for row in cells]
    seeds = sorted(set.intersection(*(set(scores) for row in each for scores in row)))
    gaps = {s: [a[s] - b[s] for a, b in zip(*each, strict=True)] for s in seeds}
    means = [float(np.mean(gaps[s])) for s in seeds]
    if not table.trained_apart:
        return dict(zip(seeds, means, strict=True)), means
    return {(t, s): gaps[s][i] for i, t in enumerate(tasks) for s in seeds}, means


def _step_down(family: Sequence[Units], draws: int = 40_000) -> list[float]:
    """Adjust p values by step-down max-T, each flip drawn and each statistic written out."""
    units = sorted({unit for one in family for unit in one}, key=str)
    if len(units) <= 14:
        signs = np.array(list(itertools.product((1, -1), repeat=len(units))))
    else:
        signs = np.random.default_rng(3).choice([-1, 1], size=(draws, len(units)))
    signs = np.vstack([np.ones(len(units)), signs])
    extremes = []
    for one in family:
        d = np.array([one.get(unit, 0.0) for unit in units])
        n = len(one)
        r = np.minimum(np.abs(signs @ d) / np.sqrt(n * d @ d), 1 - 1e-15)
        t = np.sqrt(n - 1) * r / np.sqrt(1 - r * r)
        extremes.append(-stats.t.logsf(t, n - 1))
    order = sorted(range(len(family)), key=lambda k: extremes[k][0])
    ps, highest = [0.0] * len(family), np.zeros(len(signs))
    for k in order:
        highest = np.maximum(highest, extremes[k])
        ps[k] = float(np.mean(highest >= extremes[k][0] * (1 - 1e-9)))
    for more, less in itertools.pairwise(order[::-1]):
        ps[less] = max(ps[less], ps[more])
    return ps


def _expected(table: Table, base: str, tasks: Sequence[str]) -> dict[tuple[str, int], Any]:
    """Return for each row and column mean, interval and adjusted p."""
    columns = [[task] for task in tasks] + ([list(tasks)] if len(tasks) > 1 else [])
    gaps = {
        (row.method, c): gap
        for row in table.rows
        for c, needed in enumerate(columns)
        if row.method != base and (gap := _gaps(table, row.method, base, needed))[1]
    }
    tested = {
        key: units
        for key, (units, by_seed) in gaps.items()
        if len(by_seed) > 4 and 2 ** (1 - len(units)) < 0.05
    }
    ps = dict(zip(tested, _step_down(list(tested.values())), strict=True))
    return {
        key: (np.mean(by_seed), bca_interval(by_seed), ps.get(key))
        for key, (_, by_seed) in gaps.items()
    }


def _top(table: Table, tasks: Sequence[str], draws: int = 40_000) -> set[str]:
    rows = [
        row.method
        for row in table.rows
        if all(t in row.cells and len(row.cells[t].seeds) >= 5 for t in tasks)
    ]
    gaps = {pair: _gaps(table, *pair, tasks) for pair in itertools.combinations(rows, 2)}
    ps = _step_down([units for units, _ in gaps.values()], draws)
    below = set()
    for (pair, (_, by_seed)), p in zip(gaps.items(), ps, strict=True):
        interval = bca_interval(by_seed) if p < 0.05 else None
        if interval is not None and (interval[0] > 0 or interval[1] < 0):
            below.add(pair[1] if interval[0] > 0 else pair[0])
    return set(rows) - below


def _near(p: float, draws: int = 20_000) -> float:
    """Return five standard errors of a difference between two such Monte-Carlo values."""
    return 5 * float(np.sqrt(1.5 * p * (1 - p) / draws)) + 1e-3


def _close(attrs: dict[str, str], mean: str, expected: Any) -> None:
    gap, interval, p = expected
    assert float(mean) == pytest.approx(gap, abs=1e-8)
    if interval is None:
        assert not attrs.get("data-low")
    else:
        ends = (float(attrs["data-low"]), float(attrs["data-high"]))
        assert ends == pytest.approx(interval, abs=0.002)
    if p is None:
        assert not attrs.get("data-p")
    else:
        assert abs(float(attrs["data-p"]) - p) <= _near(p)


@pytest.mark.parametrize(
    ("seeds", "base", "tasks"),
    [
        (7, "lora", ("cola", "mrpc", "rte")),  # draws; comparisons of 6, 7, 18 and 21 pairs
        (7, "adapter", ("mrpc", "rte")),  # all patterns of 14 units
        (12, "full", ("rte",)),  # one task
        (4, "bitfit", ("cola", "mrpc", "rte")),  # too few seeds for intervals and a top group
    ],
)
def test_figures_of_other_choices_are_pythons(
    seeds: int, base: str, tasks: tuple[str, ...], tmp_path: Path
) -> None:
    table = _table(_records(seeds))
    shown = opened(table, tmp_path, f"#baseline={base}&tasks={','.join(tasks)}")
    expected = _expected(table, base, tasks)
    said = headline(part := _table(_records(seeds), tasks), judge(part, beside=base))
    assert unescape(between(shown, '<p class="say">', "</p>")) == said
    rows = Tables(between(shown, '<table class="ranks">', "</table>")).rows[1:]
    assert {row[1][0][0]["data-v"] for row in rows} == ROWS
    column = len(tasks) if len(tasks) > 1 else 0
    for attrs, cells in rows:
        name = cells[0][0]["data-v"]
        if (name, column) in expected:
            _close(attrs, cells[2][0]["data-v"], expected[name, column])
        else:
            assert "data-v" not in cells[2][0]
    below = Tables(between(shown, '<div class="by-task">', "</div>")).rows[1:]
    assert len(below) == len(ROWS) - 1
    for _, cells in below:
        for c, (attrs, _) in enumerate(cells[1:]):
            if "data-v" in attrs:
                _close(attrs, attrs["data-v"], expected[cells[0][0]["data-v"], c])
    tied = {row[1][0][0]["data-v"] for row in rows if row[0]["data-tied"] == "true"}
    assert tied == (_top(table, tasks) if seeds >= 5 else set())
    assert "recomputed in this browser" in shown


def test_rows_and_pictures_of_other_tasks_are_those_python_would_write(tmp_path: Path) -> None:
    records = _records()
    tasks = ("cola", "mrpc")
    shown = opened(_table(records), tmp_path, f"#tasks={','.join(tasks)}")
    part = _table(records, tasks)
    expected = lines(part, judge(part))
    rows = Tables(between(shown, '<table class="ranks">', "</table>")).rows[1:]
    assert [
        (cells[0][0]["data-v"], float(cells[1][0]["data-v"]), cells[3][1], cells[5][1])
        for _, cells in rows
    ] == [
        (e.name, pytest.approx(e.score), e.seeds + more, f"{e.seconds:.0f}")
        for e in expected
        for more in [" †14" if e.name == "lora" else ""]
    ]
    whole = _table(records)
    assert leaderboard(whole, judge(whole), 1).count(" †21") == 1
    for cost, label in (("trainable", "trainable parameters"), ("seconds", "training seconds")):
        assert plain(scatter(expected, cost, label)) in shown


def test_the_first_view_is_pythons_and_an_unknown_address_shows_it(tmp_path: Path) -> None:
    table = _table(_records())
    written = leaderboard(table, judge(table), 1)
    for address in (
        "",
        "#baseline=nobody&tasks=none",
        "#baseline=%E0%A4%A&x",
        "#tasks=rte,mrpc,cola",
    ):
        shown = opened(table, tmp_path, address)
        assert between(shown, '<table class="ranks">', "</table>").count("<tr") == len(ROWS) + 1
        assert unescape(between(written, '<p class="say">', "</p>")) in unescape(shown)
        assert 'role="status" hidden' in shown


def test_halves_are_rounded_and_few_powers_are_ticked_as_python_does(tmp_path: Path) -> None:
    """81.25 is 81.2; and seconds from 20 to 300 have more numbers than 100 on their axis."""
    name = "bitfit (lr=1, a,b)"  # as it may stand in an address that somebody typed
    facts = {"full": (0.75, 20.0), name: (0.8125, 300.0), "lora": (0.5, 102.5)}
    records = [
        dataclasses.replace(
            simulated(m, task, s, score, train_seconds=seconds), run=f"{m}{task}{s}"
        )
        for m, (score, seconds) in facts.items()
        for task in ("rte", "mrpc")
        for s in (1, 2)
    ]
    shown = opened(_table(records), tmp_path, f"#baseline={name.replace(' ', '%20')}&tasks=rte")
    part = _table(records, ("rte",))
    judged = judge(part, beside=name)
    expected = lines(part, judged)
    assert unescape(between(shown, '<p class="say">', "</p>")) == headline(part, judged)
    rows = Tables(between(shown, '<table class="ranks">', "</table>")).rows[1:]
    assert [[cells[n][1] for n in (1, 2, 5)] for _, cells in rows] == [
        [f"{100 * (e.score or 0):.1f}", gap_text(e), f"{e.seconds:.0f}"] for e in expected
    ]
    assert [cells[1][1] for _, cells in rows] == ["81.2", "75.0", "50.0"]
    assert rows[1][1][2][1] == "−6.2"
    picture = scatter(expected, "seconds", "training seconds")
    assert re.findall('class="x"[^>]*>([^<]*)<', picture) == ["20", "50", "100", "200"]
    assert plain(picture) in shown


SAVE = """<p id="saved"></p><script>
window.Blob = function (parts) { document.getElementById('saved').textContent = parts.join(''); };
URL.createObjectURL = () => '';
HTMLAnchorElement.prototype.click = () => {};
document.querySelector('.download').onclick();
</script>"""


def test_the_saved_view_names_its_baseline_and_tasks(tmp_path: Path) -> None:
    table = _table(_records())
    page = tmp_path / "page.html"
    text = document("A", [leaderboard(table, judge(table), 1)], STYLE, SCRIPT)
    page.write_text(text + SAVE)
    shown = dom(page, "#baseline=lora&tasks=cola,rte")
    rows = list(csv.DictReader(io.StringIO(unescape(between(shown, '<p id="saved">', "</p>")))))
    by_name = {row["method"]: row for row in rows}
    part = _table(_records(), ("cola", "rte"))
    judged = judge(part, beside="lora")
    assert list(by_name) == [line.name for line in lines(part, judged)]
    for line in lines(part, judged):
        row = by_name[line.name]
        assert (row["baseline"], row["tasks"], row["seeds"]) == ("lora", "cola rte", line.seeds)
        means = (line.score, line.difference and line.difference.mean)
        for key, mean in zip(("score", "difference"), means, strict=True):
            assert row[key] == "" if mean is None else float(row[key]) == pytest.approx(mean)
    assert by_name["lora"]["collapsed_runs"] == "14"


def test_a_column_of_words_is_sorted_by_them(tmp_path: Path) -> None:
    body = (
        (Entry("x"), Entry("10 rows"), Entry("2", value=2.0)),
        (Entry("y"), Entry("–"), Entry("30", value=30.0)),
        (Entry("z"), Entry("9 rows"), Entry("–")),
    )
    sheet = Sheet("T", ("name", "rows", "score"), body, ())
    page = tmp_path / "page.html"
    for place, order in ((1, "zxy"), (2, "yxz")):
        click = f"<script>document.querySelectorAll('th button')[{place}].click()</script>"
        page.write_text(document("A", [section(sheet, "t", {})]) + click)
        rows = Tables(between(dom(page), "<tbody>", "</tbody>")).rows
        assert "".join(cells[0][1] for _, cells in rows) == order


def test_columns_of_one_training_are_flipped_by_seed(tmp_path: Path) -> None:
    table = _table(of_one_training(_records(9)))
    shown = opened(table, tmp_path, "#baseline=adapter&tasks=cola,mrpc")
    expected = _expected(table, "adapter", ("cola", "mrpc"))
    for attrs, cells in Tables(between(shown, '<table class="ranks">', "</table>")).rows[1:]:
        if cells[0][0]["data-v"] != "adapter":
            _close(attrs, cells[2][0]["data-v"], expected[cells[0][0]["data-v"], 2])


def test_slices_are_not_ticked_and_in_no_average(tmp_path: Path) -> None:
    """A choice of columns shows a slice's differences, and has it in no average beside its task."""
    gains = {"full": (0.8, 0.44), "lora": (0.76, 0.77), "bitfit": (0.7, 0.4)}
    records = grid({"full": 0, "lora": -0.01, "bitfit": -0.05}, ["rte"], 7)
    records += [
        sliced(m, seed=s, seen=seen + 0.001 * s, unseen=unseen + 0.002 * s)
        for m, (seen, unseen) in gains.items()
        for s in range(1, 8)
    ]
    table = _table(records)
    written = leaderboard(table, judge(table), 1)
    assert re.findall(r'"(\d)"( checked)?> ([\w ]+)<', written) == [
        ("0", " checked", "rte"), ("1", " checked", "opin"), ("2", "", "opin seen"),
        ("3", "", "opin unseen"),
    ]  # fmt: skip
    for address in ("", "#tasks=opin,rte"):
        assert 'role="status" hidden' in opened(table, tmp_path, address)
    for tasks, counted in (
        (("rte", "opin"), ("rte", "opin")),  # the first ones, to another baseline
        (("rte", "opin", "opin unseen"), ("rte", "opin")),
        (("opin", "opin unseen"), ("opin",)),
        (("opin unseen",), ("opin unseen",)),
    ):
        names = ",".join(map(quote, tasks))
        shown = opened(table, tmp_path, f"#baseline=lora&tasks={names}")
        part = dataclasses.replace(table, tasks=counted, slices=frozenset())
        said = headline(part, judge(part, beside="lora")).split(". ")[0]
        assert unescape(between(shown, '<p class="say">', "</p>")).startswith(said)
        rows = Tables(between(shown, '<table class="ranks">', "</table>")).rows[1:]
        assert [(cells[0][0]["data-v"], float(cells[1][0]["data-v"])) for _, cells in rows] == [
            (line.name, pytest.approx(line.score)) for line in lines(part, judge(part))
        ]
        columns = [*tasks, *["average"] * (len(counted) > 1)]
        below = Tables(between(shown, '<div class="by-task">', "</div>")).rows
        assert [text for _, text in below[0][1]] == ["method", *columns]
        expected = judge(table, beside="lora").differences
        for _, cells in below[1:]:
            name = cells[0][0]["data-v"]
            means = [float(attrs["data-v"]) for attrs, _ in cells[1:]]
            assert means == pytest.approx([expected[name, c].mean for c in columns], abs=1e-8)
    same = ("#tasks=opin,rte,opin%20seen", "#tasks=opin,rte")
    own, first = (opened(table, tmp_path, a) for a in same)
    assert between(own, '<p class="say">', "</p>") == between(first, '<p class="say">', "</p>")


def test_a_table_of_many_rows_is_recomputed(tmp_path: Path) -> None:
    """Its top group is of 465 pairs, of which all but one row's are of as many units."""
    gains = {f"m{i}": i / 600 for i in range(29)} | {"full": 0.0}
    records = grid(gains, ["cola", "mrpc", "rte"], 7)
    table = _table([r for r in records if (r.methods[0], r.task, r.seed) != ("m7", "rte", 3)])
    shown = opened(table, tmp_path, "#baseline=m3&tasks=cola,rte")
    rows = Tables(between(shown, '<table class="ranks">', "</table>")).rows[1:]
    assert len(rows) == 30
    tied = {row[1][0][0]["data-v"] for row in rows if row[0]["data-tied"] == "true"}
    # A row at the edge may fall to either side by the draws.
    assert len(tied ^ _top(table, ("cola", "rte"), 5000)) <= 2
    assert 3 < len(tied) < 25


HOSTILE = "<img src=x onerror=alert(1)>\"'&#<b>,=%2C\u202ea\n"


def test_hostile_names_act_neither_at_first_nor_after_a_choice(tmp_path: Path) -> None:
    records = grid({"full": 0, HOSTILE: 0.1, "=1+1": 0.01}, [HOSTILE, "rte", "</script>"], 6)
    for number, record in enumerate(records):
        record.run = f"run{number}"
    table = _table(records)
    name = printable(HOSTILE)
    chosen = f"#baseline={quote(name, safe='')}&tasks={quote(name, safe='')},{quote('</script>')}"
    for address in ("", chosen):
        shown = opened(table, tmp_path, address)
        assert "<img" not in between(shown, "<body>", "<script>\nfunction")
        rows = Tables(between(shown, '<table class="ranks">', "</table>")).rows[1:]
        assert {row[1][0][0]["data-v"].replace("\n", "\\n") for row in rows} == {
            "full",
            name,
            "=1+1",
        }
        assert ("recomputed in this browser" in between(shown, 'role="status"', "</p>")) == bool(
            address
        )


def _of_little() -> dict[str, list[Record]]:
    equal = grid({"full": 0, "bitfit": 0}, ["rte", "mrpc"], 6)
    for record in equal:
        record.score, record.scores = 0.5, {"validation": {"accuracy": 0.5}}
    return {
        "one row": grid({"full": 0}, ["rte"], 6),
        "one seed": grid({"full": 0, "bitfit": 0.1}, ["rte", "mrpc"], 1),
        "equal": equal,
        "no baseline": grid({"lora": 0, "bitfit": 0.1}, ["rte", "mrpc"], 6),
        "no score": [simulated(m, "rte", s, None) for m in ("full", "bitfit") for s in (1, 2)],
        "a single task": [
            *grid({"full": 0, "bitfit": 0.1}, ["rte", "mrpc"], 6),
            *grid({"lora": 0.2}, ["rte"], 6),
        ],
    }


@pytest.mark.parametrize("name", _of_little())
def test_tables_of_little_are_shown_and_recomputed(name: str, tmp_path: Path) -> None:
    records = _of_little()[name]
    for number, record in enumerate(records):
        record.run = f"run{number}"
    table = _table(records)
    for address in ("", "#baseline=bitfit&tasks=rte"):
        shown = opened(table, tmp_path, address)
        assert '<form class="choose">' in shown  # which its scripts show at their end
        assert "NaN" not in between(shown, "<body>", '<script type="application/json">')
        rows = Tables(between(shown, '<table class="ranks">', "</table>")).rows[1:]
        assert [row[1][0][0]["data-v"] for row in rows] != []
        large = {"a single task"} | ({"no baseline"} if address else set())
        claimed = [row for row in rows if "claimed" in row[0].get("class", "")]
        assert bool(claimed) == (name in large)
