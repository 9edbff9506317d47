"""One bad file takes down no page: it is named and passed over, and what it says only shows."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.__main__ import main
from results.pages.data import escaped as csv_cell
from results.pages.text import escaped, one_run, paragraph
from results.printable import printable
from results.record import Record, read_all, record_path, write
from results.run_list import ListedRun, RunList, read_list, write_list
from tests.results.simulated import grid, simulated

FORMS: list[list[str]] = [
    *([f"--format={form}"] for form in ("text", "md", "tex", "html", "csv", "parquet")),
    ["power"],
    ["claims"],
    ["search"],
    ["front"],
    ["boards"],
]
SECTIONS = [
    *("config", "data", "weights", "scores", "predictions", "parameters", "environment", "losses"),
    *("config.budget", "config.method", "config.protocol", "config.task", "config.speed"),
    *("config.optimizer", "config.data", "config.model", "data.splits", "data.splits.train"),
    *("config.task.labels", "config.task.diagnostics", "evaluations", "method_reports"),
]


def _content(place: str = "", value: Any = None) -> dict[str, Any]:
    """Return what a record holds, without a hash, and with a value at a place."""
    content: dict[str, Any] = json.loads(simulated(seed=77, config={"speed": {}}).to_json())
    del content["content_sha256"]
    *above, last = place.split(".")
    node = content
    for key in above:
        node = node.setdefault(key, {})
    if last:
        node[last] = value
    return content


def _deep() -> Any:
    node: Any = 1
    for _ in range(500):
        node = {"a": node}
    return node


TEXTS: dict[str, str] = {
    **{f"null.{place}": json.dumps(_content(place)) for place in SECTIONS},
    **{
        f"digits.{place}": json.dumps(_content(place, 7)).replace(": 7", ": " + "7" * 400, 1)
        for place in ("seed", "losses", "config.task.version", "parameters.total")
    },
    "surrogate": json.dumps(_content("model", "a\ud800b")),
    "surrogate.key": json.dumps(_content("environment.\udfff", 1)),
    "deep": json.dumps(_content("config.task.local", _deep())),
    "deeper": "[" * 100_000,
    "infinite": json.dumps(_content("environment.speed", 7.5)).replace("7.5", "1e999"),
    "infinite.sealed": simulated(seed=77, environment={"x": 7.5}).to_json().replace("7.5", "1e999"),
    "nan": json.dumps(_content("environment.speed", float("nan"))),
    "large": json.dumps(_content("train_seconds", 1e300)),
    "chosen": json.dumps(_content("selected", {"step": 1})),
    "cut": json.dumps(_content())[:500],
    "changed": simulated(seed=77).to_json().replace('"mrpc"', '"mrpd"', 1),
    "foreign": json.dumps(_content()),
    "no record": '{"a": 1}',
    "empty": "",
}
FILES: dict[str, Callable[[Path], object]] = {
    "pipe": lambda path: os.mkfifo(path),
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "random": lambda path: path.symlink_to("/dev/urandom"),
    "itself": lambda path: path.symlink_to(path),
    "nowhere": lambda path: path.symlink_to("nothing"),
    "folder": lambda path: path.mkdir(),
    "sparse": lambda path: (path.touch(), os.truncate(path, 2**40)),
    "bytes": lambda path: path.write_bytes(bytes(range(256))),
    "odd\n\x1b[2Jname": lambda path: path.write_text("{"),
}


def _good() -> list[Record]:
    chosen = {"step": 1, "score": 0.5, "scores": {}}
    trials = [
        simulated("full", "rte", 9, 0.5, config={"lr": lr}, protocol="select", selected=chosen)
        for lr in (1e-4, 2e-4)
    ]
    for number, trial in enumerate(trials):
        trial.run += f".{number}"
        trial.config["protocol"] = {"name": "select", "fraction": 0.1}
    return [*grid({"full": 0, "bitfit": -0.15}, ["mrpc", "rte"], 6), *trials]


def _printed(
    folder: Path, form: list[str], boards: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[str, str]:
    """Return what a command gives, on standard output or in files, and what it says beside."""
    out, selected = boards.parent / "out", ["--only", "protocol=final"]
    out.unlink(missing_ok=True)
    given = {
        "--format=html": [*selected, f"--out={out}"],
        "--format=parquet": [*selected, f"--out={out}"],
        "boards": [f"--boards={boards}"],
        "front": ["--board", "try", f"--boards={boards}"],
        "search": [],
    }.get(form[0], selected)
    command = [*form[:1], str(folder)] if not form[0].startswith("-") else [str(folder), *form]
    assert main([*command, *given]) == 0, capsys.readouterr().err
    printed = capsys.readouterr()
    written = [out] if out.is_file() else []
    written += sorted(p for p in (boards / "try").iterdir() if form == ["boards"])
    texts = [path.read_bytes().decode("utf-8", "replace") for path in written]
    return "".join([printed.out, *texts]).replace(folder.name, "RUNS"), printed.err


def _board(records: list[Record], folder: Path) -> Path:
    rows = ("full", "bitfit")
    runs = [ListedRun(rows.index(r.methods[0]), r.task, r.seed, r.run) for r in records[:-2]]
    write_list(RunList("try", rows, tuple(runs)), folder)
    return folder


def test_every_form_is_that_of_the_good_records_and_names_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = _good()
    clean, mixed = tmp_path / "clean", tmp_path / "mixed"
    for record in records:
        write(record, clean)
        write(record, mixed)
    own = f"{simulated(seed=77, config={'speed': {}}).run}.json"
    bad = []
    for name, text in TEXTS.items():
        path = mixed / name / (own if name != "foreign" else "foreign.json")
        path.parent.mkdir()
        path.write_text(text)
        bad.append(path)
    for name, make in FILES.items():
        bad.append(mixed / f"{name}.json")
        make(bad[-1])
    expected = {}
    for form in FORMS:
        expected[form[0]], said = _printed(clean, form, _board(records, tmp_path / "b"), capsys)
        assert said == ""
    for form in FORMS:
        began = time.monotonic()
        shown, said = _printed(mixed, form, _board(records, tmp_path / "b"), capsys)
        assert time.monotonic() - began < 10
        assert shown == expected[form[0]], form
        lines = said.splitlines()
        assert [line for line in lines if not line.startswith("passed over: ")] == []
        unnamed = [p for p in bad if not any(printable(p) in line for line in lines)]
        assert unnamed == []
        assert len(lines) == len(bad)
        assert printable(said, kept="\n") == said


def test_a_bad_list_and_a_bad_trial_take_down_no_board(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = _good()
    for record in records:
        write(record, tmp_path / "runs")
    boards = _board(records, tmp_path / "boards")
    expected, _ = _printed(tmp_path / "runs", ["boards"], boards, capsys)
    for name, harm in (("pipe", os.mkfifo), ("empty", Path.touch), ("deep", _write_deep)):
        (boards / name).mkdir()
        harm(boards / name / "runs.json")
    (tmp_path / "searches" / "try").mkdir(parents=True)
    (tmp_path / "searches" / "try" / "bad.json").write_text("{")
    shown, said = _printed(tmp_path / "runs", ["boards"], boards, capsys)
    assert shown == expected
    assert said.count("passed over: ") == len(said.splitlines()) == 4
    assert main(["boards", str(tmp_path / "runs"), f"--boards={boards / 'pipe'}"]) == 2


def _write_deep(path: Path) -> None:
    path.write_text('{"board": "a", "methods": [], "runs": ' + "[" * 200 + "]" * 200 + "}")


def test_a_list_with_half_a_letter_is_refused_by_name(tmp_path: Path) -> None:
    from results.errors import UserError

    path = tmp_path / "runs.json"
    path.write_text(json.dumps({"board": "b", "methods": ["a\ud800"], "runs": []}))
    with pytest.raises(UserError, match=r"runs\.json is no list of a board's runs"):
        read_list(path)


def test_exports_and_leftovers_make_no_noise(tmp_path: Path) -> None:
    record = simulated()
    write(record, tmp_path)
    left = {
        f"{record.run}.delta": ("delta.json", "adapter_config.json"),
        f"{record.run}.sentence-transformers": ("config.json", "1_Pooling/config.json"),
        f"{record.run}.delta/inner": ("x.json",),
        "renamed model": ("config.json", "tokenizer.json", "deep/below/a.json"),
        "renamed export": ("modules.json", "0_Transformer/config.json"),
        "renamed delta": ("delta.json", "more.json"),
        f".{record.run}.delta.77.tmp": ("delta.json",),
        f".{record.run}.sentence-transformers.77.tmp/1_Pooling": ("x.json",),
        f".{record.run}.delta.77.old": ("y.json",),
        ".claims": ("a.json",),
        ".checkpoints/run": ("b.json",),
        ".logs": ("c.json",),
    }
    for folder, names in left.items():
        for name in names:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text("{")
    (tmp_path / f".{record.run}.json.77.tmp").write_text("{")
    (tmp_path / f"{record.run}.json.failed").write_text("{")
    bad: list[str] = []
    assert [r.run for r in read_all(tmp_path, bad)] == [record.run]
    assert bad == []
    # Records are read wherever a file of another use lies beside or above them.
    for place, seed in (("one more", 3), ("renamed model/deep", 4)):
        beside = simulated(seed=seed)
        write(beside, tmp_path / place)
        (tmp_path / place / "config.json").write_text("{")
    assert sorted(r.seed for r in read_all(tmp_path, bad)) == [1, 3, 4]
    assert bad == []
    for path in [*tmp_path.rglob("*.s3.*"), *tmp_path.rglob("*.s4.*")]:
        path.unlink()
    # A folder of records of its own is read, and one that is named is read whatever lies in it.
    other = simulated(seed=2)
    write(other, tmp_path / "more" / "below")
    (tmp_path / "config.json").write_text("{")
    assert {r.run for r in read_all(tmp_path, bad)} == {record.run, other.run}
    assert len(bad) == 1


HOSTILE = "=1+1\x1b[31m\r\n| x | `y` <b>&amp; *z* [l](u) $a$ ~~s~~ _e_\t\x9b2J\u202edesrever"


def _hostile() -> list[Record]:
    """Records whose every name is hostile, as far as a record may say it."""
    records = grid({"full": 0, HOSTILE: 0.1}, [HOSTILE, "rte"], 6)
    for number, record in enumerate(records):
        record.run, record.model = f"run{number}", HOSTILE
        record.environment = {"device": "cpu", "device_name": HOSTILE}
        record.config["task"]["labels"] = [HOSTILE, "b"]
    failed = simulated(HOSTILE, "rte", 9, None, status="failed", error={"message": HOSTILE})
    failed.run, failed.model, failed.environment = "failed", HOSTILE, records[0].environment
    return [*records, failed]


def test_names_act_in_no_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = _hostile()
    for record in records:
        write(record, tmp_path / "runs")
    runs = [ListedRun(i % 2, r.task, r.seed, r.run) for i, r in enumerate(records[:-1])]
    write_list(RunList("try", ("full", HOSTILE), tuple(runs)), tmp_path / "boards")
    for form in FORMS:
        if form == ["search"]:
            continue
        given = [f"--boards={tmp_path / 'boards'}"] if form[0] in ("boards", "front") else []
        given += ["--board=try"] if form[0] == "front" else []
        given += [f"--out={tmp_path / 'out'}"] if "parquet" in form[0] else []
        command = (
            [form[0], str(tmp_path / "runs")]
            if form[0][0] != "-"
            else [str(tmp_path / "runs"), *form]
        )
        assert main([*command, *given]) == 0, form
        printed = capsys.readouterr()
        assert printable(printed.out, kept="\n") == printed.out, form
        assert printable(printed.err, kept="\n") == printed.err, form
    for path in (tmp_path / "boards" / "try").iterdir():
        text = path.read_text(encoding="utf-8")
        assert printable(text, kept="\n") == text, path
        if path.suffix == ".svg":
            import xml.etree.ElementTree

            xml.etree.ElementTree.fromstring(text)
    assert main([str(tmp_path / "runs"), "--only", "task=x"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert printable(said, kept="\n") == said


def test_a_run_printed_alone_and_a_refusal_show_what_would_act() -> None:
    from results.errors import UserError

    for record in _hostile():
        text = one_run(record)
        assert printable(text, kept="\n") == text
    error = UserError(f"first {HOSTILE}", "second\nline")
    assert str(error).splitlines() == [f"first {printable(HOSTILE)}", "second\\nline"]


def test_what_acts_is_shown_and_the_rest_stays() -> None:
    assert printable("é ± 漢 \x1b[1m\r\n\t\x00\x7f\x9b\u2028\u202e\udcff") == (
        "é ± 漢 \\x1b[1m\\r\\n\\t\\x00\\x7f\\x9b\\u2028\\u202e\\udcff"
    )
    assert printable(printable("a\nb")) == "a\\nb"
    for code in range(0x11000):
        sign = chr(code)
        if printable(sign) == sign:
            assert sign == " " or sign.isprintable() or not sign.isspace() or code in _SPACES


_SPACES = {0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000}


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1+1", "-1+1", "@SUM(A1)", " =1", "－1+cmd", "-0.1 =1", "=", "-", "--1", "- 1"],
)
def test_no_cell_of_csv_is_a_formula(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize(
    "text", ["-0.12", "-0.12 0.3 -1e-05", "1", "0.5 0.6", "lora", "full (lr=-1)", "", "a=b", "–"]
)
def test_numbers_and_names_of_csv_stay_as_they_are(text: str) -> None:
    assert csv_cell(text) == text


def test_cells_of_csv_that_begin_with_white_space_show_it() -> None:
    assert csv_cell("\t=1") == "\\t=1"
    assert csv_cell("\r=1") == "\\r=1"
    assert csv_cell("\n@a") == "\\n@a"


def test_a_negative_score_stays_a_number_in_csv(tmp_path: Path, capsys: Any) -> None:
    for seed, score in ((1, -0.12), (2, 0.3)):
        record = simulated("full", "cola", seed, score)
        record.scores = {"validation": {"matthews_correlation": score}}
        write(record, tmp_path)
    assert main([str(tmp_path), "--format=csv"]) == 0
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["mean"], row["scores"]) == ("0.09", "-0.12 0.3")


def test_markdown_shows_what_would_be_markup() -> None:
    for sign in "\\|*`[~$":
        assert escaped(f"a{sign}b") == f"a\\{sign}b"
    assert escaped("_a_b_ child_tuning_d") == "\\_a_b\\_ child_tuning_d"
    assert escaped("<b>&") == "&lt;b>&amp;"
    for line in ("# a", "> a", "- a", "+ a", "=== a", "  # a"):
        assert paragraph(line) == "\\" + line.strip()
    assert paragraph("12. a") == "12\\. a"
    assert paragraph("12.5 a") == "12\\.5 a"
    assert paragraph("260 of 432") == "260 of 432"
    assert not re.search(r"(?<!\\)\|", escaped(HOSTILE))


def test_many_classes_are_scored_in_bounded_memory(tmp_path: Path) -> None:
    """As many classes as examples, which a table of examples by classes would square."""
    import numpy as np

    from results.record import read
    from results.stats.resampling import resampled_scores

    n = 20_000
    record = simulated("full", "cola", 1, 0.5)
    gold = list(range(n))
    kept = {"predictions": [*gold[: n // 2], *[0] * (n // 2)], "references": gold}
    record.predictions = {"validation": kept}
    right = n // 2
    p, g = np.bincount(kept["predictions"], minlength=n), np.ones(n)
    top = right * n - p @ g
    mcc = top / np.sqrt((n * n - p @ p) * (n * n - g @ g))
    f1 = np.mean([2 * min(1, c) * (i < right) / (1 + c) for i, c in enumerate(p)])
    record.scores = {"validation": {"matthews_correlation": float(mcc), "macro_f1": float(f1)}}
    record.score = float(mcc + f1) / 2
    began = time.monotonic()
    assert read(write(record, tmp_path)).score == record.score
    record.scores = {"validation": {"matthews_correlation": float(mcc)}}
    drawn = resampled_scores(record, 50)
    assert drawn is not None
    assert abs(float(drawn.mean()) - mcc) < 0.02
    assert time.monotonic() - began < 20
    assert record_path(tmp_path, record.run).is_file()
