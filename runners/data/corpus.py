"""What a method that makes sentence vectors trains on: sentences, or pairs and triplets of NLI.

A text that occurs in the pairs it will be evaluated on is left out, as are a second copy and a row
of NLI with an empty text; how many were is in the record.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from methods.method import TrainingText
from results.errors import UserError
from results.places import expanded
from runners.config.settings import Data
from runners.config.task import Task
from runners.data.embedded.splits import embedded_tasks, read_embedded
from runners.data.files import is_whole, place_of, read_rows, read_sentences, refuse_json
from runners.data.hub import hub_commit, hub_table, read_hub_train
from runners.data.local import read_file
from runners.data.split import Split
from runners.root import CONFIGS

TASKS = CONFIGS / "task"


ENTAILMENT, CONTRADICTION = "entailment", "contradiction"


Source = Literal["local", "hub", "embedded"]


Rows = list[tuple[str, ...]]


_GRADES = (1.0, 4.0)  # of embedded pairs: at most, for a negative; at least, for a positive


@dataclass
class _Text:
    """Rows to train on and where they are from; rows that were malformed or empty are counted."""

    rows: Rows
    origin: str
    malformed: int = 0
    empty: int = 0


def read_training_text(
    data: Data, source: str, wanted: TrainingText, evaluated: set[str], of_pairs: str = ""
) -> tuple[Split, dict[str, Any]]:
    """Return a train split without labels, and what the record says of where it is from.

    Its rows hold one sentence, a sentence and one that follows from it, or these and one that
    contradicts it. Sentences in `evaluated` are not among them. `of_pairs` says what to do with a
    file of such pairs where sentences are wanted.
    """
    named = [data.text] if isinstance(data.text, str) else data.text
    if wanted == "sentences":
        text = _sentences(data, source, named, of_pairs)
    else:
        text = _triplets(data, source, named, hard=wanted == "triplets")
    kept = [row for row in text.rows if not evaluated.intersection(row)]
    unique = list(dict.fromkeys(kept))
    facts = {
        "kind": wanted,
        "from": text.origin,
        "rows": len(unique),
        "left_out_as_evaluated": len(text.rows) - len(kept),
        "left_out_as_duplicates": len(kept) - len(unique),
    }
    if text.empty:
        facts["left_out_as_empty"] = text.empty
    if not unique:
        what = "sentence" if wanted == "sentences" else f"{wanted.removesuffix('s')} of NLI"
        raise UserError(f"data.text: not one {what} to train on in {text.origin}")
    return Split("train", tuple(unique), None, text.malformed), facts


def _sentences(data: Data, source: str, named: Sequence[str] | None, of_pairs: str) -> _Text:
    if named:
        rows, origins = list[tuple[str, ...]](), []
        for place in named:
            on_hub = _on_hub(place)
            lines, origin = _hub_lines(place) if on_hub else (_lines(place, of_pairs), place)
            rows += [(t,) for t in clean(lines)]
            origins.append(origin)
        return _Text(rows, ", ".join(origins))
    rows, counts, malformed = [], Counter[str](), 0
    for task in glue_tasks():
        split = _glue_train(task, data, source)
        if split is not None:
            texts = list(clean(text for row in split.texts for text in row))
            counts[task.name] = len(texts)
            malformed += split.skipped_rows
            rows += [(text,) for text in texts]
    if not rows:
        raise UserError(_where_from(data))
    sizes = ", ".join(f"{name} ({n})" for name, n in counts.items())
    return _Text(rows, f"training sets of {sizes}", malformed)


def _triplets(data: Data, source: str, named: Sequence[str] | None, hard: bool) -> _Text:
    if named:
        text = _Text([], ", ".join(named))
        for place in named:
            if _on_hub(place):
                raise UserError(f"data.text={place}: name files of NLI pairs, or leave it null")
            _read_nli(Path(expanded(place)), hard, data.malformed_rows == "skip", text)
        return text
    if source == "embedded":
        return _Text(_embedded_triplets(hard), "embedded stsb")
    mnli = next(task for task in glue_tasks() if task.name == "mnli")
    split = _glue_train(mnli, data, source)
    if split is None:
        raise UserError(_where_from(data))
    assert split.labels is not None
    labelled = [
        (*row, mnli.labels[int(k)]) for row, k in zip(split.texts, split.labels, strict=True)
    ]
    text = _Text([], f"mnli ({len(labelled)} pairs)", split.skipped_rows)
    _join(labelled, hard, text)
    return text


def _join(labelled: Iterable[tuple[str, ...]], hard: bool, text: _Text) -> None:
    """Add each premise's entailments with its contradictions, each used once, in their order."""
    by_premise: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for premise, hypothesis, label in labelled:
        texts = [" ".join(part.split()) for part in (premise, hypothesis)]
        if all(texts):
            by_premise[texts[0]][label].append(texts[1])
        else:
            text.empty += 1
    for premise, hypotheses in by_premise.items():
        near, far = hypotheses[ENTAILMENT], hypotheses[CONTRADICTION]
        pairs = zip(near, far, strict=False) if hard else ((one,) for one in near)
        text.rows += [(premise, *pair) for pair in pairs]


def _embedded_triplets(hard: bool) -> Rows:
    stsb = next(task for task in glue_tasks() if task.name == "stsb")
    train, _ = read_embedded(stsb)
    assert train.labels is not None
    scored = list(zip(train.texts, train.labels, strict=True))
    near = [texts for texts, score in scored if score >= _GRADES[1]]
    far = [texts[1] for texts, score in scored if score <= _GRADES[0]]
    return [(*pair, text) if hard else pair for pair, text in zip(near, far, strict=False)]


@cache
def glue_tasks() -> tuple[Task, ...]:
    """Return GLUE's tasks, in the order of their names; what is generated only is none of them."""
    tasks = [
        Task.model_validate(OmegaConf.to_container(OmegaConf.load(p)))
        for p in sorted(TASKS.glob("*.yaml"))
    ]
    known = embedded_tasks()
    return tuple(t for t in tasks if t.name in known and not (t.facts.vectors or t.generated))


def _glue_train(task: Task, data: Data, source: str) -> Split | None:
    """Return a task's training set; None where the local folder does not hold it."""
    if source == "embedded":
        return read_embedded(task)[0]
    if source == "hub":
        return read_hub_train(task, data.revision)
    folder = data.glue_dir or os.environ.get("GLUE_DIR")
    if folder is None:
        raise UserError(_where_from(data))
    assert task.local is not None
    path = Path(expanded(str(folder))) / task.local.train
    if not path.is_file():
        return None
    return read_file(task, task.local, path, "train", data.malformed_rows == "skip")


def _where_from(data: Data) -> str:
    folder = data.glue_dir or os.environ.get("GLUE_DIR")
    tried = f"{folder} holds no training set of GLUE" if folder else "none is named"
    return (
        f"this method trains on text of its own, and {tried}: give data.text=FILE, or the folder of"
        " GLUE's training sets by data.glue_dir=FOLDER or the environment's GLUE_DIR"
    )


def _on_hub(place: str) -> bool:
    return place.startswith("hub:")


def _lines(place: str, of_pairs: str) -> list[str]:
    path = Path(expanded(place))
    return read_sentences(path, f"data.text={path}", of_pairs)


def clean(texts: Iterable[str]) -> Iterator[str]:
    """Yield texts with white space made single blanks, empty ones left out."""
    for text in texts:
        words = " ".join(text.split())
        if words:
            yield words


def _hub_lines(place: str) -> tuple[list[str], str]:
    """Return a hub data set's lines, and its name with the commit."""
    repository = place.removeprefix("hub:")
    commit = hub_commit(repository, None)
    table = hub_table(repository, None, "train", commit, f"data.text={place}")
    column = next((c for c in ("text", "sentence") if c in table.column_names), None)
    if column is None:
        raise UserError(f"data.text={place} has no column text or sentence: {table.column_names}")
    texts = ["" if text is None else str(text) for text in table[column]]
    return texts, f"{place}@{commit}" if commit else place


def _read_nli(path: Path, hard: bool, skip: bool, into: _Text) -> None:
    """Read sentence1, sentence2, gold_label (MNLI, SNLI), or sent0, sent1, hard_neg (.csv)."""
    where = f"data.text={path}"
    rows = read_rows(path, where)
    first = next(rows, None)
    header = [] if first is None else first.fields
    joined = path.suffix.lower() == ".csv"
    names = ["sent0", "sent1", "hard_neg"] if joined else ["sentence1", "sentence2", "gold_label"]
    if joined and not hard:
        names.pop()
    lacking = set(names) - set(header)
    if lacking:
        refuse_json(" ".join(header), where)
        raise UserError(f"{where} has no column {', '.join(sorted(lacking))}")
    places = [place_of(name, header, where) for name in names]
    fields = []
    for row in rows:
        if is_whole(row, len(header), where, skip):
            fields.append(tuple(row.fields[place] for place in places))
        else:
            into.malformed += 1
    if not joined:
        _join(fields, hard, into)
        return
    normal = [tuple(" ".join(text.split()) for text in texts) for texts in fields]
    whole = [texts for texts in normal if all(texts)]
    into.empty += len(normal) - len(whole)
    into.rows += whole
