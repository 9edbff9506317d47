"""Every form of a table: byte-stable, escaped, readable by its reader, and fast enough."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from results.__main__ import main
from results.pages.data import COLUMNS, lines, to_csv, write_parquet
from results.pages.html import document, figure, links, page, section
from results.pages.latex import escaped, latex
from results.pages.leaderboard.data import to_json
from results.pages.leaderboard.lines import collapsed_runs, trainable_text
from results.pages.report.about import size
from results.pages.sheet import Entry, Sheet
from results.pages.text import BEGIN, END, render, sheets
from results.record import Record, write
from results.stats.compare import judge
from results.tables.collect import tables
from results.tables.conditions import named_apart
from tests.results.simulated import grid, simulated, sliced

GOLDEN = Path(__file__).parents[1] / "golden"
NASTY = "<script>alert('&')</script> a_b 50% $x$ {y} ~ ^ \\end{document} #1 |[z](u)` \"q\""


def _records() -> list[Record]:
    """Three methods, two tasks, six seeds; one failed, and one method on one task only."""
    found = grid({"full": 0, "bitfit": -0.15, "adapter": 0.002}, ["mrpc", "rte"], 6)
    found = [r for r in found if (r.methods, r.seed, r.task) != (["adapter"], 6, "rte")]
    found.append(simulated("adapter", "rte", 6, None))
    return [*found, *(simulated("hype", "rte", s, 0.61 + s / 1000) for s in range(1, 7))]


def _forms(records: list[Record]) -> dict[str, str]:
    made = tables(records)
    drawn = sheets(made)
    return {
        "tables.txt": render(made, "text"),
        "tables.md": render(made, "md"),
        "tables.tex": latex(drawn),
        "tables.csv": to_csv(list(lines(made, [judge(t) for t in made]))),
        "tables.html": page(
            "Golden", drawn, {named_apart(r): f"../runs/{r.run}.json" for r in records}
        ),
    }


@pytest.mark.parametrize("name", ["tables.txt", "tables.md", "tables.tex", "tables.csv",
                                  "tables.html"])  # fmt: skip
def test_form_is_the_golden_file_whatever_the_order_of_records(name: str) -> None:
    """To renew after a wanted change: python -m tests.results.pages.test_outputs."""
    golden = (GOLDEN / name).read_text(encoding="utf-8")
    assert _forms(_records())[name] == golden
    assert _forms(_records()[::-1])[name] == golden


def test_failed_seed_and_missing_task_show_in_every_form() -> None:
    for name, text in _forms(_records()).items():
        assert "5/6" in text or name == "tables.csv", name
    rows = list(csv.DictReader(io.StringIO(_forms(_records())["tables.csv"])))
    [failed] = [r for r in rows if (r["method"], r["task"]) == ("adapter", "rte")]
    assert (failed["finished"], failed["asked"]) == ("5", "6")
    [none] = [r for r in rows if (r["method"], r["task"]) == ("hype", "average")]
    assert none["mean"] == ""


def test_a_finished_run_without_gold_answers_is_not_said_to_have_failed() -> None:
    unscored = dataclasses.replace(simulated("full", "rte", 1, None), status="finished")
    failed = simulated("bitfit", "rte", 1, None, status="failed")
    text = render(tables([unscored, failed]), "text")
    lines = {line.split()[0]: line for line in text.splitlines() if "0/1" in line}
    assert "no score" in lines["full"]
    assert "failed" not in lines["full"]
    assert "failed" in lines["bitfit"]


def test_a_slice_has_no_seconds_of_its_own() -> None:
    """Its task's training had them: a view of slices alone must not say 0."""
    [table] = tables([sliced(seed=1)])
    content = json.loads(to_json(table, judge(table), collapsed_runs(table)))
    assert content["tasks"] == ["opin", "opin seen", "opin unseen"]
    assert content["rows"][0]["seconds"] == [100.0, None, None]


def test_large_numbers_are_written_out() -> None:
    shown = [trainable_text(count, 100.0) for count in (999_400_000, 999_600_000, 3.48e9)]
    assert shown == ["999 M (100 %)", "1,000 M (100 %)", "3,480 M (100 %)"]
    assert [size(count) for count in (999, 999_700_000, 1_240)] == ["999 bytes", "1 GB", "1.24 kB"]


def test_seconds_and_devices_of_a_row_are_its_own() -> None:
    """In the CSV, and in what a browser computes from, which leaves out what the pages do."""
    other = {"environment": {**simulated().environment, "device_name": "another processor"}}
    records = [simulated(m, "rte", s, 0.5) for m in ("full", "hype") for s in (1, 2)]
    records += [simulated("smart", "rte", s, 0.5, **other) for s in (1, 2)]
    [table] = tables(records)
    cells = {line["method"]: line["device"] for line in lines([table], [judge(table)])}
    assert "another processor" in cells["smart"]
    assert "another processor" not in cells["full"]
    data = json.loads(to_json(table, judge(table), collapsed_runs(table)))
    assert {row["name"]: row["seconds"] for row in data["rows"]} == {
        "full": [100.0], "hype": [100.0], "smart": [None],
    }  # fmt: skip
    assert data["untimed"] == "No seconds of smart: made on another device or settings."


def test_latex_has_every_sign_that_this_project_writes() -> None:
    """A sign is looked for in every text of the package that may reach a table."""
    written = {
        sign
        for path in [*Path("results").rglob("*.py"), *Path("results/papers").glob("*.yaml")]
        for sign in path.read_text(encoding="utf-8")
        if not sign.isascii()
    }
    assert {sign for sign in written if "?" in escaped(sign)} <= set("＝＋－＠")  # not let into CSV
    assert escaped("ε=∞ (PRV, δ=1/2N)") == (r"$\varepsilon$=$\infty$ (PRV, $\delta$=1/2N)")


def _nasty() -> list[Sheet]:
    return [Sheet(NASTY, ("a", NASTY), ((Entry(NASTY), Entry(NASTY, True, NASTY)),), (NASTY,))]


class _Page(HTMLParser):
    """Collects a page's tags, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open = "", [""]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag  # every element is closed in order

    def handle_data(self, data: str) -> None:
        self.text += "" if self.open[-1] in ("script", "style") else data


def test_page_escapes_what_comes_from_records_and_needs_nothing_from_elsewhere() -> None:
    parts = [section(sheet, "t", {NASTY: "../runs"}) for sheet in _nasty()]
    parts += [figure(NASTY, NASTY, "<svg/>"), links([(NASTY, "a b.csv")])]
    text = document(NASTY, parts)
    found = _Page(text)
    assert found.open == [""]
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert found.text.count(NASTY) >= 6
    for _, attributes in found.tags:
        for name in ("src", "href"):
            assert not (attributes.get(name) or "").startswith(("http", "//"))
        assert not any(name.startswith("on") for name in attributes)


def test_cell_of_the_page_links_each_of_its_records() -> None:
    made = tables(_records())
    files = {named_apart(r): f"../runs/{r.seed}/{r.run}.json" for r in _records()}
    found = _Page(page("T", sheets(made), files))
    links = {a["href"] for tag, a in found.tags if tag == "a"}
    assert links == {*files.values()}
    unknown = _Page(page("T", sheets(made), {}))
    assert "a" not in [tag for tag, _ in unknown.tags]


def test_page_of_a_folder_links_files_that_are_there(tmp_path: Path) -> None:
    folder = tmp_path / "ru ns"  # a space, which an address may not hold
    paths = {write(record, folder / f"of seed {record.seed}") for record in _records()}
    assert main([str(folder), "--format", "html", "--out", str(tmp_path / "t.html")]) == 0
    found = _Page((tmp_path / "t.html").read_text())
    links = {str(a["href"]) for tag, a in found.tags if tag == "a"}
    assert {Path(unquote(urlsplit(link).path)) for link in links} == paths
    assert {urlsplit(link).scheme for link in links} == {"file"}


def test_cells_of_two_devices_link_each_to_its_own_record(tmp_path: Path) -> None:
    """Runs on two devices bear one name; a page of both has a table of each."""
    runs = {}
    for device, score in (("cpu", 0.5), ("cuda", 0.25)):
        record = simulated(score=score, environment={"device": device, "device_name": device})
        runs[f"seed 1: {100 * score:.2f}"] = write(record, tmp_path / device)
    out = tmp_path / "t.html"
    assert main([str(tmp_path), "--split", "--format", "html", "--out", str(out)]) == 0
    links = re.findall('href="([^"]+)">([^<]+)<', out.read_text())
    assert {said: Path(unquote(urlsplit(to).path)) for to, said in links} == runs


def test_markdown_escapes_what_comes_from_records() -> None:
    from results.pages.text import write as written

    text = written(_nasty()[0], "md")
    assert "<script>" not in text
    row = text.splitlines()[4]
    assert row.replace("\\|", "").count("|") == 3


def _document(sheets: list[Sheet]) -> str:
    return (
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{textcomp}\n"
        "\\usepackage{booktabs,graphicx}\n\\usepackage[a3paper,landscape,margin=1cm]{geometry}\n"
        "\\begin{document}\n" + latex(sheets) + "\\end{document}\n"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
@pytest.mark.parametrize("nasty", [False, True])
def test_latex_compiles(nasty: bool, tmp_path: Path) -> None:
    drawn = _nasty() if nasty else sheets(tables(_records()))
    (tmp_path / "t.tex").write_text(_document(drawn))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 1000


def test_latex_has_no_unescaped_sign_of_its_own() -> None:
    assert escaped("a_b 5% & #1") == r"a\_b 5\% \& \#1"
    assert escaped("\\x{y}") == r"\textbackslash{}x\{y\}"
    assert escaped("5.0 ± 0.1 − [é]") == r"5.0 $\pm$ 0.1 $-$ {[}é{]}"
    assert escaped("日本") == "??"


def test_parquet_and_csv_hold_the_same_cells(tmp_path: Path) -> None:
    import pyarrow.parquet

    made = tables(_records())
    found = list(lines(made, [judge(t) for t in made]))
    write_parquet(found, tmp_path / "t.parquet")
    read = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert read == [{name: line[name] for name in COLUMNS} for line in found]
    rows = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert [r["method"] for r in rows] == [line["method"] for line in found]
    means = [None if not r["mean"] else float(r["mean"]) for r in rows]
    assert means == pytest.approx([line["mean"] for line in found])


def test_a_row_without_a_score_is_in_no_tie_group_of_csv_and_out_of_none() -> None:
    """Its average lacks a task: nothing says that seeds set it below another."""
    made = tables(_records())
    cells = {(c["method"], c["task"]): c for c in lines(made, [judge(t) for t in made])}
    assert {m: cells[m, "average"]["tied"] for m in ("full", "bitfit", "hype")} == {
        "full": True,
        "bitfit": False,
        "hype": None,
    }
    assert cells["hype", "average"]["mean"] is None
    failed = [*_records(), *(simulated("lora", task, 1, None) for task in ("mrpc", "rte"))]
    made = tables(failed)
    cells = {(c["method"], c["task"]): c for c in lines(made, [judge(t) for t in made])}
    assert cells["lora", "rte"]["tied"] is None


def test_command_writes_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for record in _records():
        write(record, tmp_path / "runs")
    for form in ("text", "md", "tex", "html", "csv", "parquet"):
        out = tmp_path / f"t.{form}"
        assert main([str(tmp_path / "runs"), "--format", form, "--out", str(out)]) == 0
        assert out.stat().st_size > 500
    assert main([str(tmp_path / "runs"), "--format", "parquet"]) == 2
    assert "--out FILE" in capsys.readouterr().err
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "none" / "t")]) == 2
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty")]) == 0
    assert "no records yet" in capsys.readouterr().out
    assert main([str(tmp_path / "empty"), "--format", "html"]) == 2


@pytest.mark.parametrize("form", ["text", "md", "tex", "html", "csv", "parquet"])
@pytest.mark.parametrize(
    ("place", "said"), [("none/t", "No such file or directory"), ("runs", "Is a directory")]
)
def test_out_that_cannot_be_written_is_one_line(
    form: str, place: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(simulated(), tmp_path / "runs")
    out = tmp_path / place
    assert main([str(tmp_path / "runs"), "--format", form, "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"error: --out {out}: {said}\n"


def test_page_that_cannot_be_written_or_is_no_text_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name so long that none fits beside it refuses root too, as a folder of others does us."""
    write(simulated(), tmp_path / "runs")
    page = tmp_path / ("p" * 250)
    page.write_text(f"{BEGIN}\n{END}\n")
    assert main([str(tmp_path / "runs"), "--into", str(page)]) == 2
    said = capsys.readouterr().err
    assert said == f"error: --into {page}: cannot be written (File name too long)\n"
    assert page.read_text() == f"{BEGIN}\n{END}\n"
    (tmp_path / "page").write_bytes(b"\xff\xfe")
    assert main([str(tmp_path / "runs"), "--into", str(tmp_path / "page")]) == 2
    assert "is no UTF-8 text" in capsys.readouterr().err


def test_terminal_gets_a_folded_table(capsys: pytest.CaptureFixture[str]) -> None:
    from results.pages.text import show

    show(sheets(tables(_records())))
    text = capsys.readouterr().out
    assert "bitfit" in text
    assert "Difference to full" in text


def test_ten_thousand_records_make_a_page_in_less_than_a_minute() -> None:
    """Twelve to twenty-one seconds of a core were seen, by what else the machine does."""
    gains = {f"method{i}": i / 1000 for i in range(99)} | {"full": 0.0}
    records = grid(gains, [f"task{i}" for i in range(10)], 10)
    assert len(records) == 10_000
    began = time.process_time()
    text = page(
        "Many", sheets(tables(records)), {named_apart(r): f"../runs/{r.run}.json" for r in records}
    )
    assert time.process_time() - began < 60
    assert text.count("<a href") == 10_000
    assert len(text) < 6_000_000


if __name__ == "__main__":
    for name, text in _forms(_records()).items():
        (GOLDEN / name).write_text(text, encoding="utf-8")
