"""Finds what RUN names in a command: a finished run, and its model as training left it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results import record as records
from results.errors import UserError
from results.places import OWN, expanded
from results.plain_file import is_file
from runners.config.check import RunConfig
from runners.config.settings import Data
from runners.config.typed import is_typed, key_of
from runners.exports.delta import configuration_of, load_delta
from runners.exports.model import WEIGHTS, read_model
from runners.jobs.job import Job
from runners.models.about import ABOUT, OTHERS, holds_others, read_about, tells_of_others
from runners.models.build import load_pretrained
from runners.models.predecessor import as_started
from runners.models.pretrained import Loaded
from runners.models.sides import check_sides
from runners.models.weights import check_unchanged
from runners.runs.verify import named_record
from runners.training.start import build_model

MODEL = ".model"  # what save=model adds to a run's name


@dataclass(frozen=True)
class Stored:
    """A finished run on disk, of which no weights were read yet.

    `place` is the folder of its delta or of its whole model, or its record where it trained
    nothing. `named` is the argument that named it, `model_path` where its pretrained weights lie if
    not where they did. `weights` is what its record says of these and of what it starts from.
    """

    run: str
    config: RunConfig
    place: Path
    named: str
    model_path: str | None
    weights: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> tuple[Job, Loaded]:
        """Return the run as a job that only scores, and its model, in evaluation mode on the CPU.

        Files that are missing, damaged, or others than the run was made with are a UserError.
        """
        if is_file(self.place / ABOUT):
            act = self.named.partition("=")[0]
            delta = load_delta(self.place, model_path=self.model_path, act=act)
            return Job(delta.config, trains=False, known=delta.attributes), delta.loaded
        job = Job(self.config, trains=False)
        check_unchanged(self.named, self.weights, job.weights)
        truncate = self.config.settings.budget.truncate
        check_sides(self.named, self.weights, job.weights.turned, truncate)
        if self.place.is_dir():
            loaded = load_pretrained(self.config, job.weights)
            read_model(self.place, loaded, self.config, self.named)
            return job, loaded
        self._check_start(job)
        loaded = build_model(job, 0)
        loaded.model.eval()
        return job, loaded

    def _check_start(self, job: Job) -> None:
        """Refuse to build on what another run left where that is not what this one started from."""
        before, now = self.weights.get("start") or {}, job.predecessor
        if now is not None and before.get("sha256", now.sha256) != now.sha256:
            raise UserError(
                f"{self.named}: it starts from {now.run}, which holds other weights than then, as"
                " that run was done again since; run this one again"
            )


def find_stored(
    run: str | Path, act: str, *, out: str | Path = OWN, model_path: str | None = None
) -> Stored:
    """Return the finished run that `act=RUN` names.

    RUN is a folder that save=delta or save=model wrote, or a record (its file, or the run's name in
    `out`), of which one of these must lie beside it if the run trained. Everything else is a
    UserError.
    """
    named = f"{act}={run}"
    place = _place(expanded(str(run)), Path(expanded(str(out))), act)
    if is_file(place / ABOUT):
        about = read_about(place, act)
        name, file, composed = str(about["run"]), ABOUT, about["config"]
        weights: Mapping[str, Any] = about["weights"]
    else:
        path = place.with_suffix(".json") if place.is_dir() else place
        record = records.read_copy(path)
        # What it starts from lies beside it, whatever was typed as out= then.
        beside = {**record.config, "out": str(path.parent)}
        start = record.weights.get("start") or {}
        first = records.record_path(path.parent, str(start.get("run")))
        if is_file(first):
            run = str(as_started(first, start))
            beside["start"] = {**record.config["start"], "run": run}
        name, file, composed = record.run, path.name, beside
        weights = record.weights
    config = configuration_of(named, file, composed, model_path)
    return Stored(name, config, place, named, model_path, weights)


def _place(named: str, out: Path, act: str) -> Path:
    """Return the folder of a delta or a whole model, or the record of a run that trained nothing.

    Whatever else a run may be kept as is told from these here.
    """
    folder = Path(named)
    if is_file(folder / ABOUT):
        return folder
    if is_file(folder / WEIGHTS):
        if folder.suffix != MODEL or not is_file(folder.with_suffix(".json")):
            raise UserError(
                f"{act}={named}: a whole model, which does not say of which run; name RUN.model"
                " beside its record RUN.json, or the delta that it was made from"
            )
        return folder
    instead = f"name the folder of a delta, a record's file, or a run of {out}"
    record = named_record(named.removesuffix(".delta").removesuffix(MODEL), out, act, instead)
    delta, model = record.with_suffix(".delta"), record.with_suffix(MODEL)
    stored = records.read_copy(record)
    for folder, are_others in ((delta, tells_of_others), (model, holds_others)):
        if not folder.is_dir():
            continue
        if are_others(folder, stored, act):
            save = folder.suffix.removeprefix(".")
            raise UserError(
                f"{act}={named}: {folder} {OTHERS}; run it again with save={save}, or name"
                f" {folder} itself"
            )
        return folder
    if stored.status != "finished":
        raise UserError(f"{act}={named}: that run is {stored.status}; name a finished one")
    if stored.steps:
        raise UserError(
            f"{act}={named}: that run trained, and {delta} is not there; run it again with"
            " save=delta"
        )
    return record


def data_of(stored: Data, command: RunConfig, typed: Sequence[str]) -> Data:
    """Return the command's data where a source of data is typed, else the stored with what is."""
    own = command.settings.data
    if any(key_of(argument) == "data" for argument in typed):
        return own
    keys = [key for key in Data.model_fields if is_typed(typed, f"data.{key}")]
    return stored.model_copy(update={key: getattr(own, key) for key in keys})
