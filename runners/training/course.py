"""The course of a run: training, evaluations, selection, and going on where one was killed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from results.errors import UserError
from results.record import Record
from runners.config.check import RunConfig
from runners.config.settings import Checkpoint
from runners.machine.processes import Stop, Stopped
from runners.tasks.kind import Scores
from runners.tasks.metrics import headline
from runners.tasks.scoring import Scoring
from runners.training.checkpoint import Checkpoints
from runners.training.loop import Loop, Progress
from runners.training.schedule import evaluation_steps
from runners.training.watch import Watch

T = TypeVar("T")


class Course:
    """Trains a loop to its end and keeps what the record says about the way there.

    `state_dict` holds all of it, the loop's state included: a course that loads it goes on to the
    same end, to the bit on a CPU. Seconds are by time.perf_counter(): the command `began`,
    `startup_seconds` passed before steps, and `earlier_seconds` in processes that were killed.
    """

    def __init__(
        self, loop: Loop, scoring: Scoring, config: RunConfig, initial_sha256: str, watch: Watch
    ) -> None:
        self.loop, self.scoring, self.config = loop, scoring, config
        self.initial_sha256, self.watch = initial_sha256, watch
        self.evaluations: list[dict[str, Any]] = []
        self.best_on_dev: dict[str, Any] | None = None
        self.selected: dict[str, Any] | None = None
        self.kept_state: dict[str, Any] = {}
        self.measured_before: dict[str, dict[str, float]] = {}
        self.resumed: list[int] = []
        self.code: list[dict[str, Any]] = []  # of the processes so far, each commit once
        self.machines: list[dict[str, Any]] = []  # and their environments, each once
        self.began = time.perf_counter()
        self.startup_seconds = 0.0
        self.earlier_seconds = 0.0

    def run(self, after_step: Callable[[], None], stop: Stop) -> None:
        """Train, evaluating when it is due; `after_step` is called after each step.

        Stopped is raised between two steps, or at once while the model is scored: `state_dict`
        is then such that what goes on from it comes to the same end.
        """
        due = evaluation_steps(self.config.settings.budget, self.loop.order)
        done = self.evaluations[-1]["step"] if self.evaluations else 0
        answered = False
        self.watch.begin(self._numbers())

        def tick(step: int) -> None:
            self.watch.step(step)
            after_step()
            stop.look()

        try:
            if self.scoring.kind.evaluates_start and not self.measured_before:
                self.measured_before = self._evaluated(self._measure, stop)
            for i, until in enumerate(due, 1):
                if self.stopped is not None:
                    break
                self.scoring.evaluation.later = len(due) - i
                if until > done:
                    self.loop.run(until, tick)
                    scored = self._evaluated(partial(self._score, until), stop)
                    self._keep(until, *scored)
                    answered = True
                    stop.look()
            if not answered:  # by this process: one before it was stopped after its last evaluation
                self._evaluated(partial(self._score, self.loop.step), stop)
        except Stopped:
            self.loop.settle()  # a run that has diverged does not go on
            raise
        finally:
            self.watch.end()
        stop.look()  # a signal that comes later finds no checkpoint of this step

    def _evaluated(self, score: Callable[[], T], stop: Stop) -> T:
        """Return what `score` says with what is evaluated in the model; it may be stopped at once.

        Random streams are then as before, and it is done again whole. Nothing that a checkpoint or
        a record holds is set meanwhile, but what a method fits for it, which is fitted again.
        """
        device = self.loop.accelerator.device
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        stream = torch.get_rng_state()
        try:
            with self.loop.averages.evaluated():
                return stop.at_once(score)
        except Stopped:
            torch.set_rng_state(stream)
            if cuda is not None:
                torch.cuda.set_rng_state(cuda, device)
            raise

    def _numbers(self) -> list[float]:
        """Return the task's one number at each evaluation, on the part that selects if there is."""
        parts = (
            {"selection": entry["selection"]} if "selection" in entry else entry["scores"]
            for entry in self.evaluations
        )
        return [headline(self.config.settings.task, scores) for scores in parts if scores]

    @property
    def steps(self) -> int:
        """The steps that were done, once the course is run."""
        return self.loop.steps if self.stopped is None else int(self.stopped["step"])

    @property
    def stopped(self) -> dict[str, Any] | None:
        """Where and why training ended before its budget did; None where it did not."""
        patience = self.config.settings.budget.patience
        if patience is None or self.selected is None:
            return None
        best, last = self.selected["step"], self.evaluations[-1]["step"]
        waited = sum(entry["step"] > best for entry in self.evaluations)
        if waited < patience or last == self.loop.steps:
            return None
        why = f"{patience} evaluations without a better score of selection than at step {best}"
        return {"step": last, "of": self.loop.steps, "patience": patience, "why": why}

    def _measure(self) -> dict[str, dict[str, float]]:
        """Return what the model before the first step says of the report splits, and its scores."""
        report = list(self.scoring.data.report)
        scores = self.scoring(self.loop.model, report, self.loop.step)
        return {name: {**self.scoring.measured[name], **scores[name]} for name in report}

    def _score(self, step: int) -> tuple[Scores, Scores]:
        """Return the scores of the part that selects, and of the report splits, each where due."""
        selects = self.config.settings.protocol.name == "select"
        part = self.scoring(self.loop.model, ["selection"], step) if selects else {}
        report = self._report(step)
        return part, self.scoring(self.loop.model, report, step) if report else {}

    def _report(self, step: int) -> list[str]:
        """Return the report splits that are scored after a step."""
        due = step == self.loop.steps or self.scoring.kind.evaluates == "when due"
        return list(self.scoring.data.report) if due else []

    def _keep(self, step: int, part: Scores, scores: Scores) -> None:
        """Keep what `_score` said after a step, and the weights where they are the best so far.

        A signal waits meanwhile: all of it is kept, or none.
        """
        task, loop = self.config.settings.task, self.loop
        per_epoch = loop.order.steps_per_epoch
        entry: dict[str, Any] = {"step": step, "epoch": round(step / per_epoch, 3)}
        entry["train_loss"] = float(np.mean(loop.progress.losses[-per_epoch:]))
        if part:
            entry["selection"] = part["selection"]
            value = headline(task, part)
            if self.selected is None or value > self.selected["score"]:
                self.kept_state = loop.state_dict()
                self.selected = {"step": step, "score": value, "scores": part["selection"]}
        entry["scores"] = scores
        if self.scoring.measured:
            entry["measured"] = {n: self.scoring.measured[n] for n in self._report(step)}
        final = headline(task, scores) if scores else None
        if final is not None and (self.best_on_dev is None or final > self.best_on_dev["score"]):
            self.best_on_dev = {"step": step, "score": final, "scores": scores}
        self.evaluations.append(entry)
        self.watch.evaluated(entry, self._numbers())

    def result(self, filled: Record) -> Record:
        """Return the record with the scores of the weights that the protocol reports."""
        report = list(self.scoring.data.report)
        scores = self.evaluations[-1]["scores"]
        chosen = self.selected["step"] if self.selected is not None else self.loop.step
        if chosen != self.loop.step:
            self.loop.load_state_dict(self.kept_state)
            with self.loop.averages.evaluated():
                scores = self.scoring(self.loop.model, report, self.loop.step)
        return replace(
            filled,
            score=headline(self.config.settings.task, scores),
            scores=scores,
            undefined={k: v for k, v in self.scoring.undefined.items() if v and k in report},
            best_on_dev=self.best_on_dev,
            selected=self.selected,
            predictions={k: v for k, v in self.scoring.predictions.items() if k in report},
            measured=self._measured(scores),
        )

    def _measured(self, scores: Scores) -> dict[str, dict[str, dict[str, float]]]:
        """Return by split what was measured before and after, where the kind of task does so."""
        measured = self.scoring.measured
        return {
            name: {"before": before, "after": {**measured[name], **scores[name]}}
            for name, before in self.measured_before.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the continuation and the record depend on."""
        self.loop.settle()
        self.watch.look()  # what is logged is then never behind a checkpoint
        return {
            "loop": self.loop.state_dict(),
            "progress": dataclasses.asdict(self.loop.progress),
            "preparation_seconds": self.loop.preparation_seconds,
            "micro_batch": self.loop.micro_batch,
            "evaluations": self.evaluations,
            "best_on_dev": self.best_on_dev,
            "selected": self.selected,
            "kept_state": self.kept_state,
            "measured_before": self.measured_before,
            "eval_seconds": self.scoring.seconds,
            "resumed": self.resumed,
            "code": self.code,
            "machines": self.machines,
            "initial_sha256": self.initial_sha256,
            "device": self.loop.accelerator.device.type,
            "startup_seconds": self.startup_seconds,
            "whole_seconds": self.earlier_seconds + time.perf_counter() - self.began,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; on another kind of device it is a UserError."""
        device = self.loop.accelerator.device.type
        before = state.get("device", device)  # older checkpoints do not say
        if before != device:
            raise UserError(
                f"the run's checkpoint of step {state['loop']['step']} is from device={before},"
                f" and this is {device}: its record could be of neither; use device={before}, or"
                " force=true to begin anew"
            )
        self.startup_seconds += state.get("startup_seconds", 0.0)
        self.earlier_seconds = state.get("whole_seconds", 0.0)
        self.loop.load_state_dict(state["loop"])
        self.loop.progress = Progress(**state["progress"])
        self.loop.preparation_seconds = state["preparation_seconds"]
        self.loop.micro_batch = state["micro_batch"]
        self.evaluations = state["evaluations"]
        self.best_on_dev, self.selected = state["best_on_dev"], state["selected"]
        self.kept_state = state["kept_state"]
        self.measured_before = state.get("measured_before", {})
        self.scoring.seconds = state["eval_seconds"]
        self.resumed = [*state["resumed"], self.loop.step]
        before = state.get("code", [])  # older checkpoints do not say
        self.code = [*before, *(one for one in self.code if one not in before)]
        before = state.get("machines", [])
        self.machines = [*before, *(one for one in self.machines if one not in before)]


class Saving:
    """Saves a course every so many steps or minutes; called after each step."""

    def __init__(self, course: Course, checkpoints: Checkpoints, every: Checkpoint) -> None:
        self.course, self.checkpoints, self.every = course, checkpoints, every
        self.last = time.monotonic()

    def __call__(self) -> None:
        step, minutes = self.course.loop.step, (time.monotonic() - self.last) / 60
        by_steps = self.every.steps is not None and step % self.every.steps == 0
        by_time = self.every.minutes is not None and minutes >= self.every.minutes
        if (by_steps or by_time) and step < self.course.loop.steps:
            self.checkpoints.save(step, self.course.state_dict())
            self.last = time.monotonic()
