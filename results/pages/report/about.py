"""Says what a run cost, what it ran on, how to repeat it, and which runs stand before it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results.pages.board_page import fold
from results.pages.report.answers import section
from results.pages.report.parts import (
    Cell,
    block,
    cut,
    facts,
    flat,
    heading,
    say,
    soft,
    table,
    values,
)
from results.printable import printable
from results.record import Record

STAGES = 50  # of a chain that are listed


def cost(record: Record) -> str:
    """Return times, memory and parameters, and the machine that they are of."""
    times = (
        ("training", record.train_seconds),
        ("before the first step", record.startup_seconds),
        ("passes of methods before it", _felt(record.preparation_seconds)),
        ("evaluation", record.eval_seconds),
        ("from the command to the record", record.whole_seconds),
    )
    body: list[tuple[str, Cell]] = [(f"{n}", seconds(t)) for n, t in times if t is not None]
    if record.tokens_per_second is not None:
        body.append(("real tokens a second", f"{record.tokens_per_second:,.0f}"))
    if record.real_token_share is not None:
        body.append(("of tokens, not padding", f"{100 * record.real_token_share:.1f} %"))
    if record.peak_bytes is not None:
        body.append(("peak memory", size(record.peak_bytes)))
    body += _parameters(record.parameters)
    if record.stored_bytes is not None:
        body.append(("stored", size(record.stored_bytes)))
    if record.micro_batch is not None:
        body.append(("rows a part, as memory ran out", f"{record.micro_batch}"))
    return heading("Cost") + (facts(body) or say("The record holds no cost.")) + _machine(record)


def _felt(duration: float | None) -> float | None:
    """Return a duration that shows in tenths of a second, else None."""
    return duration if duration is not None and duration >= 0.05 else None


def _parameters(counts: Mapping[str, int]) -> list[tuple[str, Cell]]:
    if not counts:
        return []
    total = counts["total"]
    names = (("trained", "trainable"), ("of them without the head", "trainable_without_head"))
    lines: list[tuple[str, Cell]] = [("parameters", f"{total:,}")]
    return lines + [(n, f"{counts[key]:,} ({100 * counts[key] / total:.3g} %)") for n, key in names]


def _machine(record: Record) -> str:
    """Return the machine in a line, and all that the record says of it folded away."""
    there = record.environment
    said = [
        f"{there[key]}{unit}"
        for key, unit in (("device_name", ""), ("threads", " thread(s)"), ("system", ""))
        if there.get(key) is not None
    ]
    if there.get("shared_device"):
        said.append("shared with other runs, so that its seconds are no one's")
    line = soft(cut(", ".join(said), 300)) if said else ""
    return line + fold("Environment", [block("\n".join(flat(there)))] if there else [])


def seconds(value: float) -> str:
    """Return a duration, in seconds and from two minutes on in larger units too."""
    text = f"{value:,.1f} s" if value < 100 else f"{value:,.0f} s"
    if not 120 <= value < 1e9:
        return text
    minutes = round(value / 60)
    return f"{text} ({minutes} min)" if minutes < 120 else f"{text} ({value / 3600:,.1f} h)"


def size(count: float) -> str:
    """Return bytes in the largest unit that they fill, to three digits."""
    for power, unit in ((9, "GB"), (6, "MB"), (3, "kB")):
        if count >= 0.9995 * 10**power:
            return f"{count / 10**power:,.3g} {unit}"
    return f"{count} bytes"


def repeat(record: Record, path: Path) -> str:
    """Return the commands that do the run again, and the code that they are of."""
    commit, dirty = record.environment.get("commit"), record.environment.get("dirty")
    lines = [f"git checkout {shlex.quote(cut(commit))}"] if commit else []
    lines += [record.command, f"python run.py verify={shlex.quote(str(path))}"]
    said = "verify= does the run again apart from all records, and says what differs first."
    if dirty:
        said += " The run was made from a tree with changes that are in no commit."
    return heading("How to repeat it") + block("\n".join(map(printable, lines))) + soft(said)


def chain(record: Record) -> str:
    """Return the runs that this one goes back to, the first one first; empty where it has none."""
    start = section(record.weights, "start")
    if not start:
        return ""
    stages: Any = start.get("chain")
    listed = [one for one in stages if isinstance(one, Mapping)] if isinstance(stages, list) else []
    body = [
        [f"{i}", *(cut(one.get(key, "–"), 120) for key in ("task", "methods", "run"))]
        for i, one in enumerate(listed[:STAGES], start=1)
    ]
    said = f"It starts from what {cut(start.get('run'), 120)} left."
    if len(listed) > STAGES:
        said += f" {len(listed) - STAGES} further stages are left out."
    shown = table(["stage", "task", "methods", "run"], body, "texts")
    return heading("What it starts from") + say(said) + shown


def configuration(record: Record) -> str:
    """Return the configuration and the rest of the record, folded away."""
    data = {k: v for k, v in record.data.items() if k != "splits"}
    return heading("What the record holds") + "".join(
        fold(title, [shown])
        for title, shown in (
            ("Configuration", block("\n".join(flat(record.config)))),
            ("Data", _splits(record) + values(data)),
            ("Weights", values(record.weights)),
            ("What methods report", values(record.method_reports) if record.method_reports else ""),
        )
        if shown
    )


def _splits(record: Record) -> str:
    splits = section(record.data, "splits")
    body = [
        [
            cut(name),
            f"{section(splits, name).get('rows', '–')}",
            _portion(section(splits, name).get("complete")),
            cut(section(splits, name).get("sha256", "–"), 13),
        ]
        for name in list(splits)[:STAGES]
    ]
    return table(["split", "rows", "of the published", "sha256"], body)


def _portion(complete: Any) -> str:
    return "whole" if complete is True else "a part" if complete is False else "–"
