"""Logs a run's values through accelerate's trackers: what `log=` names."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.errors import UserError
from runners.config.trackers import Tracker
from runners.machine.console import first_line, say
from runners.machine.csv_tracker import CsvTracker
from runners.machine.event_files import tags_at

FOLDER = ".logs"  # beside the records
PROJECT = "tunebench"
SERVICES: tuple[Tracker, ...] = ("wandb", "mlflow", "trackio")  # each call may cross a network
Values = Mapping[str, float]


@dataclass(frozen=True)
class Logged:
    """What is logged and where: trackers, the folder of records, the run, and its settings.

    `after` is the step from which the run goes on; None where it begins anew.
    """

    names: Sequence[Tracker]
    records: Path
    run: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    after: int | None = None

    @property
    def folder(self) -> Path:
        return self.records / FOLDER / self.run


class Trackers:
    """Sends the values of steps and the scores of evaluations to trackers; closed, it ends them.

    One that cannot be started is a UserError. One that fails later is left out from then on: the
    run matters more. Steps that were logged before the run was killed are not logged twice: files
    lose them at the start, services are not told of them again.
    """

    def __init__(self, logged: Logged) -> None:
        self.logged = logged
        self._files: list[Any] = []
        self._services: list[Any] = []
        self._notes: dict[str, Any] = {}
        self._there: frozenset[str] = frozenset()  # in TensorBoard, of the step it goes on from
        if not logged.names:
            return
        if logged.after is None:
            shutil.rmtree(logged.folder, ignore_errors=True)
        self._notes = self._read()
        for name in logged.names:
            try:
                tracker = self._started(name)
            except Exception as error:
                self.close()
                raise UserError(
                    f"log={name}: it could not be started ({first_line(error)}); set {name} up"
                    " first, or leave it out"
                ) from None
            (self._services if name in SERVICES else self._files).append(tracker)

    def __bool__(self) -> bool:
        return bool(self._files or self._services)

    def steps(self, rows: Sequence[tuple[int, Values]]) -> None:
        """Log the values of steps in a row: each in files, their mean at the last to services."""
        for tracker in [*self._files]:
            for step, values in rows:
                self._log(tracker, self._files, values, step)
        if rows and self._services and self._is_new("step", rows[-1][0]):
            last = rows[-1][1]
            mean = {n: sum(values[n] for _, values in rows) / len(rows) for n in last}
            for tracker in [*self._services]:
                self._log(tracker, self._services, mean, rows[-1][0])

    def scores(self, step: int, scores: Mapping[str, Values]) -> None:
        """Log the scores of an evaluation: the metrics of each split, as SPLIT/METRIC."""
        values = {f"{split}/{n}": v for split, own in scores.items() for n, v in own.items()}
        if not values:
            return
        for tracker in [*self._files]:
            self._log(tracker, self._files, values, step)
        if self._services and self._is_new("scores", step):
            for tracker in [*self._services]:
                self._log(tracker, self._services, values, step)

    def close(self) -> None:
        """Let every tracker end its work."""
        for tracker in (*self._files, *self._services):
            with contextlib.suppress(Exception):
                tracker.finish()
        self._files, self._services = [], []

    def _log(self, tracker: Any, among: list[Any], values: Values, step: int) -> None:
        if tracker.name == "tensorboard" and step == self.logged.after:
            values = {name: value for name, value in values.items() if name not in self._there}
        if tracker not in among or not values:
            return
        try:
            tracker.log(dict(values), step=step)
        except Exception as error:
            among.remove(tracker)
            say(f"log={tracker.name} ends at step {step} ({first_line(error)}); the run goes on")

    def _started(self, name: Tracker) -> Any:
        tracker = _STARTS[name](self)
        tracker.start()
        if name in SERVICES:
            self._keep(name, tracker)
        if name == "tensorboard" and self.logged.after is None:
            text = "\n".join(f"    {key}: {value}" for key, value in self._settings().items())
            tracker.log({"settings": text}, step=0)
        return tracker

    def _settings(self) -> dict[str, Any]:
        return dict(_flat(self.logged.settings))

    def _tensorboard(self) -> Any:
        from accelerate.tracking import TensorBoardTracker

        after, more = self.logged.after, {}
        if after is not None:
            self._there, more = tags_at(self.logged.folder, after), {"purge_step": after + 1}
        return TensorBoardTracker(self.logged.run, self.logged.records / FOLDER, **more)

    def _csv(self) -> Any:
        return CsvTracker(self.logged.run, self.logged.records / FOLDER, self.logged.after or 0)

    def _wandb(self) -> Any:
        from accelerate.tracking import WandBTracker

        self.logged.folder.mkdir(parents=True, exist_ok=True)
        self._notes.setdefault("wandb", secrets.token_hex(8))
        more = {"id": self._notes["wandb"], "resume": "allow", "dir": str(self.logged.folder)}
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        return WandBTracker(project, name=self.logged.run, config=self._settings(), **more)

    def _mlflow(self) -> Any:
        from accelerate.tracking import MLflowTracker

        run_id = self._notes.get("mlflow")
        return MLflowTracker(PROJECT, run_name=self.logged.run, run_id=run_id)

    def _trackio(self) -> Any:
        from accelerate.tracking import TrackioTracker

        resume = "never" if self.logged.after is None else "allow"
        name, config = self.logged.run, self._settings()
        return TrackioTracker(PROJECT, name=name, resume=resume, config=config)

    def _keep(self, name: Tracker, tracker: Any) -> None:
        """Note under which id a service has the run, for a process that goes on."""
        if name == "mlflow":
            if "mlflow" not in self._notes:
                tracker.store_init_configuration(self._settings())
            self._notes["mlflow"] = str(tracker.tracker.info.run_id)
        self._write()

    def _is_new(self, what: str, step: int) -> bool:
        """Say whether services have not been told of a step, and note that they are now."""
        if step <= self._notes.get(what, -1):
            return False
        self._notes[what] = step
        self._write()
        return True

    @property
    def _place(self) -> Path:
        return self.logged.folder / "services.json"

    def _read(self) -> dict[str, Any]:
        try:
            notes = json.loads(self._place.read_text())
        except (OSError, ValueError):
            return {}
        return notes if isinstance(notes, dict) else {}

    def _write(self) -> None:
        draft = self._place.with_suffix(".tmp")
        with contextlib.suppress(OSError):
            draft.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(self._notes))
            draft.replace(self._place)


_STARTS: Mapping[Tracker, Callable[[Trackers], Any]] = {
    "tensorboard": Trackers._tensorboard,
    "csv": Trackers._csv,
    "wandb": Trackers._wandb,
    "mlflow": Trackers._mlflow,
    "trackio": Trackers._trackio,
}


def _flat(settings: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Return nested settings as pairs of a dotted key and a plain value."""
    pairs: list[tuple[str, Any]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{before}{key}.")
        else:
            plain = value is None or isinstance(value, bool | int | float | str)
            pairs.append((f"{before}{key}", value if plain else json.dumps(value)))
    return pairs
