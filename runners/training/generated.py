"""Makes labelled rows with a causal language model that is tuned on each label's rows.

After Wullach, Adler and Minkov 2021 (Fight Fire with Fire, arXiv 2109.00591), who generate hate
speech to train its detectors: a generator a label, tuned on the rows that are trained on, and a
classifier trained on gold rows that says which samples stay. Amounts, sizes and rates are options,
and none of their defaults is taken from the paper.

What is made is kept in OUT/.generated, by a hash of all that it follows from.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from results.errors import UserError
from results.whole import whole
from runners.data.evaluated import Evaluated, normal
from runners.data.split import Split
from runners.jobs.identity import GENERATED_VERSION
from runners.jobs.job import Job
from runners.machine.console import say
from runners.training.language_model import LanguageModel
from runners.training.teaching import Teacher, load_teacher

FOLDER = ".generated"  # beside the records
ROWS = 64  # samples at a time, each time from a stream of its own

_Texts = tuple[str, ...]
WHY = ("malformed", "left_out_as_duplicates", "left_out_as_evaluated", "left_out_by_teacher")


def generated_rows(job: Job, accelerator: Accelerator) -> tuple[Split, dict[str, Any]]:
    """Return rows that a generator made, and what the record says of them."""
    settings, train = job.config.settings, job.data.train
    path = Path(settings.out) / FOLDER / f"{_key(job, accelerator.device.type)}.json"
    content = _read(path)
    if content is None:
        content = _make(job, accelerator)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as temporary:
            temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    rows = Split(
        train.name, tuple(tuple(texts) for _, texts in content["rows"]),
        tuple(label for label, _ in content["rows"]),
    )  # fmt: skip
    return rows, {**content["facts"], "file": f"{FOLDER}/{path.name}", "sha256": rows.sha256}


def _key(job: Job, device: str) -> str:
    settings, generator, teacher = job.config.settings, job.generator, job.teacher
    assert generator is not None
    assert job.data.evaluated is not None
    options = settings.data.generated.model_dump(exclude={"generator", "teacher", "control"})
    parts = {
        **options,
        "version": GENERATED_VERSION,
        "generator": [generator.sha256, generator.files_sha256],
        "teacher": None if teacher is None else [teacher.run, teacher.sha256],
        "labels": list(settings.task.labels),
        "train": job.data.train.sha256,
        "evaluated": job.data.evaluated.sha256,
        "seed": settings.seed,
        "computed": [device, job.config.precision, ROWS],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    known = isinstance(content, dict) and {"facts", "rows"} <= content.keys()
    return content if known else None


def _make(job: Job, accelerator: Accelerator) -> dict[str, Any]:
    """Return rows of all labels, as JSON holds them, and their counts."""
    settings, train = job.config.settings, job.data.train
    task, options = settings.task, settings.data.generated
    assert job.generator is not None
    assert job.data.evaluated is not None
    teacher = None if job.teacher is None else load_teacher(job, accelerator)
    sieve = Sieve(len(task.columns), job.data.evaluated, teacher, options.threshold)
    sieve.seen |= {tuple(map(normal, texts)) for texts in train.texts}
    counts: dict[str, dict[str, int]] = {}
    rows: list[tuple[int, _Texts]] = []
    for number, label in enumerate(task.labels):
        own = [t for t, k in zip(train.texts, train.labels or (), strict=True) if k == number]
        say(f"{job.generator.name_or_path} is tuned on {len(own):,} rows of {label}")
        model = LanguageModel(job.generator, options, accelerator, settings.seed, label)
        model.tune(own)
        kept, why = sieve.fill(number, options.times * len(own), options.most, model.sample)
        counts[label] = why
        if not kept:
            listed = ", ".join(f"{why[name]:,} {name.replace('_', ' ')}" for name in WHY)
            raise UserError(
                f"data.generated: of {label} {why['sampled']:,} samples were drawn, and none stays"
                f" ({listed}); give the generator more data.generated.epochs, or take a better one"
            )
        rows += [(number, texts) for texts in kept]
    by_reason = {name: {label: counts[label][name] for label in counts} for name in
                 ("sampled", *WHY, "rows")}  # fmt: skip
    return {"facts": by_reason, "rows": rows}


@dataclass
class Sieve:
    """Says which samples stay: whole rows that are new, not scored, and of their label.

    `seen` holds the rows that are there already, as `normal` has their texts.
    """

    columns: int
    evaluated: Evaluated
    teacher: Teacher | None
    threshold: float = 0.0
    seen: set[_Texts] = field(default_factory=set)

    def fill(
        self, label: int, wanted: int, most: int, sample: Callable[[int, int], list[str]]
    ) -> tuple[list[_Texts], dict[str, int]]:
        """Return as many rows of a label as are wanted, where `most` samples for each give them.

        `sample` returns so many texts, by the number of its round. The counts say what became of
        the samples; those beyond what is wanted are not counted.
        """
        kept, counts, number = list[_Texts](), Counter[str](), 0
        while len(kept) < wanted and counts["sampled"] < most * wanted:
            texts = sample(min(ROWS, most * wanted - counts["sampled"]), number)
            for row, reason in self.judged(label, texts):
                if len(kept) == wanted:
                    break
                counts["sampled"] += 1
                if reason:
                    counts[reason] += 1
                else:
                    kept.append(row)
                    self.seen.add(tuple(map(normal, row)))
            number += 1
        counts["rows"] = len(kept)
        return kept, {name: counts[name] for name in ("sampled", *WHY, "rows")}

    def judged(self, label: int, texts: Sequence[str]) -> list[tuple[_Texts, str]]:
        """Return the row of each text, and why it does not stay; nothing where it does."""
        rows = [tuple(" ".join(part.split()) for part in text.split("\n")) for text in texts]
        reasons, new = [""] * len(rows), set[_Texts]()
        for n, row in enumerate(rows):
            words = tuple(map(normal, row))
            if len(row) != self.columns or not all(row):
                reasons[n] = "malformed"
            elif words in self.seen or words in new:
                reasons[n] = "left_out_as_duplicates"
            elif self.evaluated.has_text(row):
                reasons[n] = "left_out_as_evaluated"
            else:
                new.add(words)
        open_rows = [n for n, reason in enumerate(reasons) if not reason]
        if self.teacher is not None and open_rows:
            left = Split("samples", tuple(rows[n] for n in open_rows), None)
            shares = self.teacher.probabilities(self.teacher.tokenised(left), ROWS)
            right = (shares.argmax(axis=1) == label) & (shares[:, label] >= self.threshold)
            for place in np.flatnonzero(~right):
                reasons[open_rows[int(place)]] = "left_out_by_teacher"
        return list(zip(rows, reasons, strict=True))
