"""Runs that answer texts, and tables of rows to be answered."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from results.record import Record, read

RUNS = {
    "rte": ["method=bitfit", "task=rte"],
    "stsb": ["method=full", "task=stsb"],
    "mix": ["method=full", "task=mix", "task.mixture.of=[rte,stsb]"],
}
PAIRS = [
    ("dogs are asleep", "a dog sleeps"),
    ("the plot is dull", "the film is not dull and the cast is charming"),
    ("anna praised bruno in paris", "bruno was praised"),
]


def record_of(runs: Path, task: str) -> Record:
    [path] = runs.glob(f"{task}.*.json")
    return read(path)


def delta_of(runs: Path, task: str) -> Path:
    [path] = runs.glob(f"{task}.*.delta")
    return path


def write_rows(path: Path, columns: list[str], rows: list[tuple[Any, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        if path.suffix == ".jsonl":
            objects = [dict(zip(columns, row, strict=True)) for row in rows]
            stream.writelines(json.dumps(one) + "\n" for one in objects)
        elif path.suffix == ".csv":
            csv.writer(stream).writerows([columns, *rows])
        else:
            stream.writelines("\t".join(map(str, row)) + "\n" for row in [columns, *rows])
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as stream:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in stream]
        if path.suffix == ".csv":
            return list(csv.DictReader(stream))
        header, *lines = [line.rstrip("\n").split("\t") for line in stream]
        return [dict(zip(header, line, strict=True)) for line in lines]
