"""A search's sheet: every trial once, the board's choice in bold, the best of k by enumeration."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import pytest

from results.__main__ import main
from results.pages.search import search_sheets, trials
from results.record import Record, write
from results.run_list import ListedRun, RunList, write_list
from results.tables.conditions import named_apart
from runners.boards.plan import Search, best_trials
from runners.boards.planned import Planned, Slot
from tests.results.simulated import simulated

Scores = dict[tuple[str, str], dict[float, float | None]]


SCORES: Scores = {
    ("full", "cola"): {1e-4: 0.30, 1e-3: 0.20, 5e-3: 0.10},
    ("full", "stsb"): {1e-4: 0.70, 1e-3: 0.84, 5e-3: None},
    ("bitfit", "cola"): {1e-4: 0.10, 1e-3: 0.25, 5e-3: 0.25},
    ("bitfit", "stsb"): {1e-4: 0.60, 1e-3: 0.70, 5e-3: 0.70},
}


def _trial(method: str, task: str, rate: float, score: float | None, seed: int = 100) -> Record:
    selected = None if score is None else {"step": 1, "score": score, "scores": {}}
    record = simulated(
        method,
        task,
        seed,
        None if score is None else 0.9,  # dev's score, which has no say
        config={"lr": rate},
        protocol="select",
        selected=selected,
        whole_seconds=360.0,
    )
    record.run += f".{rate:g}"
    return record


# A trial that diverged beside correlations below zero, and beside a task on which it did not.
LOST: Scores = {
    ("full", "cola"): {1e-4: -0.02, 1e-3: -0.05, 5e-3: None},
    ("full", "stsb"): {1e-4: 0.20, 1e-3: 0.10, 5e-3: 0.90},
    ("bitfit", "cola"): {1e-4: None, 1e-3: None, 5e-3: -0.10},
    ("bitfit", "stsb"): {1e-4: None, 1e-3: None, 5e-3: None},
}


def _search(scores: Scores = SCORES) -> list[Record]:
    return [
        _trial(method, task, rate, score)
        for (method, task), rates in scores.items()
        for rate, score in rates.items()
    ]


def test_every_trial_is_shown_once_and_linked() -> None:
    records = _search()
    files = {named_apart(r): f"../searches/x/{r.run}.json" for r in records}
    [sheet] = search_sheets([*records, simulated()], files)  # simulated() chose nothing
    assert sheet.files == files
    lines = {(e[0].text, e[1].text): [c.text for c in e[2:5]] for e in sheet.body}
    assert lines["full", "cola"] == ["30.0", "20.0", "10.0"]
    assert lines["full", "stsb"] == ["70.0", "84.0", "diverged"]
    assert lines["full", "mean"] == ["50.0", "52.0", "5.0"]
    linked = [run for line in sheet.body for e in line for _, run in e.runs]
    assert sorted(linked) == sorted(files)
    assert "12 trials, 1.2 hours of runs" in sheet.notes[0]


@pytest.mark.parametrize("scores", [SCORES, LOST])
@pytest.mark.parametrize("together", [False, True])
def test_bold_rate_is_what_the_board_chooses(
    together: bool, scores: Scores, tmp_path: Path
) -> None:
    search = Search(lr=[1e-4, 1e-3, 5e-3], seed=100, tasks=["cola", "stsb"] if together else None)
    rows = {"full": 0, "bitfit": 1}
    planned = []
    for record in _search(scores):
        path = write(record, tmp_path)
        trial = (float(record.config["lr"]), ())
        slot = Slot(rows[record.methods[0]], record.task, 100, [], trial=trial)
        planned.append(Planned(slot, [], record.run, path, record.status))
    chosen = best_trials(search, planned)
    [sheet] = search_sheets(_search(scores))
    for line in sheet.body:
        task = line[1].text
        if (task == "mean") == together:
            [bold] = [h for h, e in zip(sheet.heads, line, strict=True) if e.bold]
            key = (rows[line[0].text], None if together else task)
            assert bold == f"lr {chosen[key][0]:g}", line
    if scores is LOST:
        assert chosen[0, None if together else "cola"] == (1e-4, ())


def test_best_of_k_is_the_mean_over_every_choice_of_k() -> None:
    [sheet] = search_sheets(_search())
    assert sheet.heads[5:] == ("best of 1", "best of 2", "best of 3")
    for line in sheet.body:
        if line[1].text == "mean":
            continue
        scores = [s or 0.0 for s in SCORES[line[0].text, line[1].text].values()]
        for k in (1, 2, 3):
            choices = [max(c) for c in itertools.combinations(scores, k)]
            assert line[4 + k].value == pytest.approx(statistics.fmean(choices))


def test_unequal_trials_and_several_seeds() -> None:
    records = [r for r in _search() if (r.methods[0], r.config["lr"]) != ("bitfit", 5e-3)]
    records.append(_trial("full", "cola", 1e-4, 0.20, seed=101))
    found = {(t.method, t.task): t for t in trials(records)}
    assert found["full", "cola"].scores[1e-4] == pytest.approx(0.25)
    [sheet] = search_sheets(records)
    [line] = [e for e in sheet.body if (e[0].text, e[1].text) == ("bitfit", "cola")]
    assert [e.text for e in line[2:]] == ["10.0", "25.0", "–", "17.5", "25.0", "–"]


def test_rows_whose_options_differ_are_told_apart() -> None:
    options = [{"p": 0.1}, {"p": 0.3}]
    records = [_trial("hype", "cola", 1e-3, 0.1 + o["p"]) for o in options]
    for record, o in zip(records, options, strict=True):
        record.config = {**record.config, "method": [{"name": "hype", "version": 1, **o}]}
        record.run += str(o["p"])
    [sheet] = search_sheets(records)
    assert sorted(e[0].text for e in sheet.body) == ["hype (p=0.1)", "hype (p=0.3)"]


def test_command_prints_it_and_names_a_folder_without_trials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for record in _search():
        write(record, tmp_path / "x")
    for form, sign in (("text", "best of 2"), ("md", "| method |"), ("tex", "\\toprule")):
        assert main(["search", str(tmp_path / "x"), "--format", form]) == 0
        assert sign in capsys.readouterr().out
    assert main(["search", str(tmp_path / "x"), "--format", "html"]) == 0
    assert f'href="{(tmp_path / "x").as_uri()}/cola.full.' in capsys.readouterr().out
    assert main(["search", str(tmp_path / "x"), "--format", "parquet"]) == 2
    assert "search has text, md, tex and html" in capsys.readouterr().err
    write(simulated(), tmp_path / "runs")
    assert main(["search", str(tmp_path / "runs")]) == 2
    assert "search=true or protocol=select wrote" in capsys.readouterr().err


def test_boards_page_has_its_search_and_links_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for record in _search():
        write(record, tmp_path / "searches" / "try")
    final = simulated("full", "cola", 1, 0.4)
    write(final, tmp_path / "runs")
    write_list(
        RunList("try", ("full",), (ListedRun(0, "cola", 1, final.run),)), tmp_path / "boards"
    )
    boards = str(tmp_path / "boards")
    assert main(["boards", str(tmp_path / "runs"), "--boards", boards]) == 0
    written = {p: p.read_bytes() for p in (tmp_path / "boards" / "try").iterdir()}
    bad = tmp_path / "searches" / "try" / "bad.json"
    bad.write_text("{}")  # costs no board its page
    capsys.readouterr()
    assert main(["boards", str(tmp_path / "runs"), "--boards", boards]) == 0
    assert f"passed over: {bad} is no record" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in (tmp_path / "boards" / "try").iterdir()} == written
    folder = tmp_path / "boards" / "try"
    page = (folder / "index.html").read_text()
    for record in _search():
        link = f"../../searches/try/{record.run}.json"
        assert f'href="{link}"' in page
        assert (folder / link).is_file()
    assert f'href="../../runs/{final.run}.json"' in page
    assert "best of 3" in (folder / "table.md").read_text()
    assert "best of 3" in (folder / "table.tex").read_text()


def _edges(scores: Scores) -> list[str]:
    [sheet] = search_sheets(_search(scores))
    return [note for note in sheet.notes if "edge" in note]


def test_best_rates_at_an_edge_are_named() -> None:
    of_tasks: Scores = {
        ("full", "cola"): {1e-4: 0.1, 1e-3: 0.3, 1e-2: 0.2},
        ("bitfit", "cola"): {1e-4: 0.1, 1e-3: 0.2, 1e-2: 0.3},
        ("lora", "cola"): {1e-4: 0.4, 1e-3: 0.2, 1e-2: 0.3},
        ("linear", "cola"): {1e-3: 0.2},  # one rate has no edge
    }
    [note] = _edges(of_tasks)
    assert note.endswith("the lowest: lora on cola; the highest: bitfit on cola.")
    # the mean over tasks chooses where there is one: full's best on cola is its lowest, not here
    assert _edges({k: v for k, v in SCORES.items() if k[0] == "full"}) == []
    [note] = _edges({**of_tasks, ("lora", "stsb"): {1e-4: 0.9, 1e-3: 0.2}})
    assert note.endswith("the lowest: lora; the highest: bitfit on cola.")


def test_no_rate_is_bold_while_some_lack_seeds() -> None:
    """A seed alone has no standard error taken off, so it would beat a better rate's three."""
    records = [_trial("full", "cola", 1e-4, 0.8 + s / 50, seed=s) for s in range(3)]
    records.append(_trial("full", "cola", 1e-3, 0.815, seed=0))
    [sheet] = search_sheets([*records, *_search({("lora", "cola"): {1e-4: 0.2, 1e-3: 0.1}})])
    assert [[e.bold for e in line[2:4]] for line in sheet.body] == [[False] * 2, [True, False]]
    said = "No rate is chosen yet where some lack seeds that others have: full."
    assert said in sheet.notes
    more = [_trial("full", "cola", 1e-3, 0.815, seed=s) for s in (1, 2)]
    [sheet] = search_sheets([*records, *more])
    assert [e.bold for e in sheet.body[0][2:4]] == [False, True]  # .82 less .0115
    assert said not in sheet.notes


def test_two_files_of_one_trial_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("a", "b"):
        write(_search()[0], tmp_path / folder)
    assert main(["search", str(tmp_path)]) == 2
    assert "2 files are a record of this trial; keep one" in capsys.readouterr().err
