"""The command refuses what it would pass over, and writes nothing then."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from results.__main__ import main
from results.record import write
from tests.results.simulated import simulated


@pytest.mark.parametrize("command", ["report", "compare", "boards"])
def test_a_command_shows_what_it_takes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "-h"])
    assert "usage: python -m results" in capsys.readouterr().out


def test_a_reader_that_wants_no_more_of_the_output_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(simulated(), tmp_path / "runs")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main([str(tmp_path / "runs"), "--format", "html"]) == 141


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["claims", "--format", "csv"], "--format csv is for tables; claims has text"),
        (["power", "--format", "parquet"], "--format parquet is for tables; power has text"),
        (["search", "--format", "csv"], "csv is for tables; search has text, md, tex and html"),
        (["boards", "--format", "csv"], "--format does nothing with boards, which reads --pdf"),
        (["boards", "--out", "FILE"], "--out does nothing with boards"),
        (["boards", "--into", "FILE"], "--into does nothing with boards"),
        (["claims", "--split"], "--split does nothing with claims"),
        (["front", "--brief"], "--brief does nothing with front"),
        (["--pdf"], "--pdf does nothing with tables"),
        (["--board", "low1k"], "--board does nothing with tables"),
        (["power", "--boards", "elsewhere"], "--boards does nothing with power"),
        (["--brief", "--format", "csv"], "--brief is for text and md"),
        (["--into", "FILE", "--out", "FILE"], "--into and --out are two places"),
    ],
)
def test_option_that_a_command_does_not_read_is_refused(
    given: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(simulated(), tmp_path / "runs")
    file = tmp_path / "file"
    command = [str(file) if word == "FILE" else word for word in given]
    place = 1 if command[0].isalpha() else 0
    command.insert(place, str(tmp_path / "runs"))
    assert main(command) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1
    assert (shown.out, file.exists()) == ("", False)
