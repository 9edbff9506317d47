"""The record of a run: one JSON file, written whole or not at all, readable for ever.

Scores are fractions, times seconds, sizes bytes. A field that a later schema adds has a default, so
older records stay readable; `schema_version` says which schema wrote a record.
"""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from results.errors import UserError
from results.places import OWN, read_where, shipped
from results.plain_file import is_file, read_json
from results.sealed import is_changed, sealed
from results.whole import whole

INSTEAD = "name a record's file, or one run of out=FOLDER"


def find_record(named: str, out: Path, key: str = "verify", instead: str = INSTEAD) -> Path:
    """Return a record's file from its path, or from its run's name or the start of one.

    What `out` has none of is looked for among the shipped records. `instead` ends the sentence
    where there is none.
    """
    if is_file(Path(named)):
        return Path(named)
    if Path(named).is_absolute():
        raise UserError(f"{key}={named}: no such file; {instead}")
    paths: list[Path] = []
    for folder in (out, shipped()) if named.strip() else ():
        paths = paths or _named_so(named.removesuffix(".json"), folder)
    if len(paths) != 1:
        what = f"{len(paths)} records begin so" if paths else "no such record"
        where = paths[0].parent if paths else out
        raise UserError(f"{key}={named}: {what} in {where}; {instead}")
    return paths[0]


def _named_so(begin: str, folder: Path) -> list[Path]:
    """Return the record of a name, or where there is none of just that those that begin so."""
    own = record_path(folder, begin)
    return [own] if is_file(own) else sorted(folder.glob(f"{glob.escape(begin)}*.json"))


SCHEMA_VERSION = 1


LARGEST = 2**28  # bytes of a file that is taken for a record


Status = Literal["finished", "diverged", "failed"]


DONE: tuple[Status, ...] = ("finished", "diverged")


_RANKS: dict[Status, int] = {"failed": 0, "diverged": 1, "finished": 2}


@dataclass(kw_only=True)
class Record:
    """What one run was asked, what it found, and what it cost.

    `scores` maps report split to metric to value, of the weights the protocol reports; `score` is
    the task's one number. `evaluations` lists the report scores after each evaluation;
    `best_on_dev` is the best of them, kept because papers print it, and never the headline.
    `startup_seconds` pass before the first step, of them `preparation_seconds` in which methods saw
    training batches; `whole_seconds` pass before the record is written. Of a run that was killed
    they count from the command to its last checkpoint too.
    `initial_sha256` and `trained_sha256` hash the trained tensors before and after training,
    `losses` holds each step's, to nine digits.
    `micro_batch` is the rows a part of a batch had once memory ran out; gradients were added up.
    `resumed` lists the steps from which the run went on after it was killed; seconds are the sum.
    `predictions` holds for each report split one prediction an example, and the gold `references`
    where there are any; of text with masked tokens there is one for each of these.
    `measured` holds for each report split what no score counts, such as the perplexity of masked
    text, `before` and `after` training; a record without it does not name it.
    `slices` holds for each report split of a task with attributes which rows are `unseen`, as a
    value of theirs is in no row of train, and the `scores` of the seen and of these; a record
    without it does not name it.
    `stopped` says at which step training ended before its budget did, and why; `steps` are those
    done. A record of a run that was not stopped does not name it.
    `logits_sha256` is of RUN.logits.npz, which `save=logits` wrote beside the record; a record
    without it does not name it.
    `content_sha256` hashes all the rest, when the record is written; older ones have none.
    """

    schema_version: int = SCHEMA_VERSION
    run: str
    status: Status
    command: str
    methods: list[str]
    task: str
    model: str
    seed: int
    budget: str
    protocol: str
    config: dict[str, Any]
    data: dict[str, Any]
    weights: dict[str, Any]
    score: float | None = None
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    undefined: dict[str, list[str]] = field(default_factory=dict)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    best_on_dev: dict[str, Any] | None = None
    selected: dict[str, Any] | None = None
    predictions: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    measured: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    slices: dict[str, dict[str, Any]] = field(default_factory=dict)
    method_reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    stored_bytes: int | None = None
    logits_sha256: str | None = None
    initial_sha256: str | None = None
    losses: list[float] = field(default_factory=list)
    trained_sha256: str | None = None
    steps: int | None = None
    stopped: dict[str, Any] | None = None
    train_loss: float | None = None
    micro_batch: int | None = None
    resumed: list[int] = field(default_factory=list)
    startup_seconds: float | None = None
    preparation_seconds: float | None = None
    train_seconds: float | None = None
    eval_seconds: float | None = None
    whole_seconds: float | None = None
    tokens_per_second: float | None = None
    real_token_share: float | None = None
    peak_bytes: int | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    start: str = ""
    end: str = ""
    content_sha256: str | None = field(default=None, compare=False)

    @property
    def training_seconds(self) -> float | None:
        """Seconds of the steps, and of what methods did with training batches before the first."""
        if self.train_seconds is None:
            return None
        return self.train_seconds + (self.preparation_seconds or 0.0)

    def to_json(self) -> str:
        """Return JSON with one field a line; nan and infinity are refused.

        Half of a surrogate pair, which a path of odd bytes has, becomes a question mark.
        """
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for key in ("measured", "slices"):
            if not fields[key]:
                del fields[key]
        for key in ("logits_sha256", "stopped"):
            if fields[key] is None:
                del fields[key]
        text = json.dumps(fields, ensure_ascii=False, allow_nan=False)
        content = json.loads(text.encode("utf-8", "replace"))
        return sealed(content)


def record_path(folder: Path, run: str) -> Path:
    """Return where the record of a run lies."""
    return folder / f"{run}.json"


def place_of(record: Record, folder: Path) -> Path:
    """Return where a record is to lie: beside the run's record where that one says more.

    RUN.json.STATUS is no record to any reader.
    """
    path = record_path(folder, record.run)
    if not path.exists() or record.status == "finished" or _rank(path) <= _RANKS[record.status]:
        return path
    return path.with_name(f"{path.name}.{record.status}")


def is_better(record: Record, path: Path) -> bool:
    """Say whether a record says more than the one that lies at `path`."""
    if record.status == "finished":
        return not path.exists() or _rank(path) != _RANKS["finished"]
    return not path.exists() or _rank(path) < _RANKS[record.status]


def _rank(path: Path) -> int:
    """Return how much a record says; one that is damaged or of a later version may say all."""
    try:
        return _RANKS[read(path).status]
    except UserError:
        return len(_RANKS)


def from_mapping(content: Mapping[str, Any], where: str, text: str = "") -> Record:
    """Build a record from parsed JSON of any schema up to this one; a newer one is a UserError."""
    version = content.get("schema_version")
    if not isinstance(version, int) or version < 1:
        raise UserError(f"{where} is no record: schema_version={version!r}")
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{where} has schema {version}; this version reads up to {SCHEMA_VERSION}: update"
            " tunebench"
        )
    from results.shape import check_shape  # pydantic, which no one needs who reads no record

    check_shape(content, Record, where)
    if is_changed(content, text):
        raise UserError(
            f"{where} is damaged or was changed: its content does not have the hash that it holds;"
            " take it from a copy, or run it again with force=true"
        )
    known = {f.name: content[f.name] for f in dataclasses.fields(Record) if f.name in content}
    if not re.fullmatch(r"[A-Za-z0-9_+][A-Za-z0-9._+-]*", known["run"]):
        raise UserError(f"{where} is no record: run={known['run']!r} is no name of a run")
    return Record(**known)


def read_copy(path: Path) -> Record:
    """Read one record from a file of any name; one that is no record is a UserError that names it.

    Its scores are taken as they are.
    """
    try:
        content, text = read_json(path, LARGEST)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise UserError(f"{path} cannot be read as a record: {reason}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is no record")
    return from_mapping(content, str(path), text)


def read(path: Path) -> Record:
    """Read the record that a run left at a path; anything else there is a UserError that names it.

    A record of another run is something else, and one whose scores are not its predictions'.
    """
    from results.rescored import check_scores

    record = read_copy(path)
    if path.name not in (f"{record.run}.json", f"{record.run}.json.{record.status}"):
        raise UserError(
            f"{path} holds the record of another run, {record.run}: move it to {record.run}.json"
        )
    check_scores(record, str(path))
    return record


def read_all(folder: Path, bad: list[str] | None = None) -> list[Record]:
    """Read every record below a folder, in the order of their names.

    With `bad`, files that are no records are passed over and named there, a sentence each; without,
    the first one is a UserError. Hidden folders and exports of trained models hold none.
    """
    return [record for _, record in read_each(folder, bad)]


def read_each(folder: Path, bad: list[str] | None = None) -> list[tuple[Path, Record]]:
    """Read what `read_all` reads, each record with its file."""
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder of records; run something first, or name another folder"
        )
    records, problems = [], list[UserError]()
    for path in sorted(_json_below(folder, problems)):
        try:
            records.append((path, read(path)))
        except UserError as error:
            problems.append(error)
        if problems and bad is None:
            raise problems[0]
    if bad is not None:
        bad += map(str, problems)
    return records


def read_each_for_boards(
    folder: Path | None, bad: list[str] | None = None
) -> list[tuple[Path, Record]]:
    """Read what a board's list chooses among: a folder, or where none is typed the own and shipped.

    A run that has a record in both is read from the own folder, of which every record counts. Each
    comes with its file.
    """
    if folder is not None or not (OWN.is_dir() and shipped().is_dir()):
        return read_each(read_where(folder), bad)
    theirs, own = (read_each(place, bad) for place in (shipped(), OWN))
    runs = {record.run for _, record in own}
    each = [*own, *((path, record) for path, record in theirs if record.run not in runs)]
    return sorted(each, key=lambda one: one[1].run)


def _json_below(folder: Path, problems: list[UserError]) -> Iterator[Path]:
    """Yield all that is called .json below a folder, without what lies in folders of other use.

    In a folder that may be a model's, that is what is called as records are.
    """

    def note(error: OSError) -> None:
        problems.append(UserError(f"{error.filename} cannot be read: {error.strerror}"))

    models = set[Path]()
    for name, folders, files in os.walk(folder, onerror=note):
        here = Path(name)
        if here != folder and here.suffix in _EXPORTS:
            folders.clear()
            continue
        if here != folder and (here.parent in models or not _MARKS.isdisjoint(files)):
            models.add(here)
        folders[:] = [one for one in folders if not one.startswith(".")]
        ours = (one for one in (*files, *folders) if one.endswith(".json"))
        yield from (here / one for one in ours if here not in models or _OF_RUN.search(one))


# What save= writes beside records, and the files by which such a folder is known under any name.
_EXPORTS = (".delta", ".sentence-transformers")
_MARKS = frozenset({"delta.json", "modules.json", "adapter_config.json", "config.json"})
_OF_RUN = re.compile(r"\.s[0-9]+\.[0-9a-f]+\.json$")  # a config.json may lie beside records too


def check_writable(folder: Path) -> None:
    """Make the folder and try to write; a folder that cannot be written is a UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".try-"):
            pass
    except OSError as error:
        raise UserError(
            f"out={folder}: cannot be written ({error.strerror}); name another folder with out="
        ) from None


def write(record: Record, folder: Path) -> Path:
    """Write a record whole, flushed to the disk, and return where: `place_of` says it.

    When that fails, what stood there before is unharmed, and the record is kept in the system's
    temporary folder if it can be; the UserError says where.
    """
    path, text = place_of(record, folder), record.to_json()
    try:
        _put(text, path)
    except OSError as error:
        kept = place_of(record, Path(tempfile.gettempdir()))
        try:
            _put(text, kept)
        except OSError:
            raise UserError(
                f"the record could not be written to {path} ({error.strerror}), nor to {kept}"
            ) from None
        raise UserError(
            f"the record could not be written to {path} ({error.strerror}); it is kept at {kept}:"
            " move it when there is room"
        ) from None
    return path


def _put(text: str, path: Path) -> None:
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
