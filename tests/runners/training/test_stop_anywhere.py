"""Wherever in an evaluation a signal comes, what goes on from there ends as if none had come."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from runners.jobs.job import Job
from runners.machine.device import make_accelerator, make_deterministic
from runners.machine.processes import Stop, Stopped, stoppable
from runners.machine.trackers import Logged, Trackers
from runners.models.build import trained_sha256
from runners.runs.attempt import blank_record
from runners.tasks.classification import Classification
from runners.tasks.scoring import Scoring
from runners.training.checkpoint import Tensors, digest, flatten, unflatten
from runners.training.course import Course
from runners.training.loop import Loop
from runners.training.prepare import prepare
from runners.training.watch import Watch
from tests.conftest import ROOT, SOAK, configure, narrow, tiny

Folder = Callable[[str], Path]
Place = tuple[str, int]  # file and line
OWN = tuple(str(ROOT / room) for room in ("runners", "methods"))


@pytest.fixture(autouse=True)
def _hears_ctrl_c() -> Iterator[None]:
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


class Tracer:
    """Notes the lines of the project that are come to; sends a signal at the first time at one."""

    def __init__(self, signal_at: Place | None = None) -> None:
        self.signal_at = signal_at
        self.functions: dict[Place, str] = {}  # of each line, in the order of coming to it

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        file, line = frame.f_code.co_filename, frame.f_lineno
        if not file.startswith(OWN):
            return None
        if event == "line" and (file, line) not in self.functions:
            self.functions[file, line] = f"{file} {frame.f_code.co_qualname}"
            if (file, line) == self.signal_at:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return self

    def begin(self) -> None:
        """Trace what is called from now on, and the rest of the functions that are under way."""
        sys.settrace(self)
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename.startswith(OWN):
                frame.f_trace = self
            frame = frame.f_back

    def places(self, closely: Sequence[str]) -> list[Place]:
        """Return every line of some functions, and the first one of others: of all in make soak."""
        first: dict[str, Place] = {}
        for place, function in self.functions.items():
            first.setdefault(function, place)
        chosen = {*[*first.values()][:: 1 if SOAK else 9]}
        return [p for p, f in self.functions.items() if p in chosen or f.endswith(tuple(closely))]


def _course(given: Sequence[str], tmp_path: Path) -> tuple[Course, Job]:
    config = configure(*given)
    make_deterministic()
    accelerator, job = make_accelerator("cpu", config), Job(config)
    ready = prepare(job, accelerator)
    ready.loop.start(ready.encoded)
    scoring = Scoring(job, ready.kind, ready.encoded, accelerator, ready.loop.evaluation())
    trackers = Trackers(Logged((), tmp_path, job.name))
    return Course(ready.loop, scoring, config, "", Watch(ready.loop, trackers)), job


def _end(course: Course, job: Job) -> dict[str, Any]:
    """Return all that a record could say of a course that is run, but for time."""
    record = course.result(blank_record(job, []))
    course.loop.finish()
    names = ("score", "scores", "undefined", "best_on_dev", "selected", "predictions", "measured")
    kind = course.scoring.kind
    logits = kind.logits if isinstance(kind, Classification) else {}
    return {
        **{name: getattr(record, name) for name in names},
        "evaluations": course.evaluations,
        "losses": course.loop.progress.losses,
        "weights": trained_sha256(course.loop.model),
        "reports": [method.report() for method in course.config.methods],
        "logits": {split: rows.tolist() for split, rows in logits.items()},
    }


def _kept(course: Course) -> tuple[str, dict[str, Any]]:
    """Return a course's state as a checkpoint gives it back, and a hash of all but its seconds."""
    tensors: Tensors = {}
    kept = course.state_dict()
    image = json.dumps(flatten(kept, tensors))
    state: dict[str, Any] = unflatten(json.loads(image), tensors)
    timeless: Tensors = {}
    progress = {k: v for k, v in kept["progress"].items() if "seconds" not in k}
    rest = {k: v for k, v in kept.items() if "seconds" not in k} | {"progress": progress}
    return digest(timeless, json.dumps(flatten(rest, timeless))), state


def _run(course: Course, tracer: Tracer, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a course to its end; trace what it does after a step, 0 for none, until the next."""
    run, usual = Loop.run, sys.gettrace()

    def loop_run(self: Loop, until: int, *more: Any) -> None:
        sys.settrace(usual)
        run(self, until, *more)
        if self.step == step:
            tracer.begin()

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "run", loop_run)
        try:
            with stoppable() as stop:
                if step == 0:
                    tracer.begin()
                course.run(lambda: None, stop)
        finally:
            sys.settrace(usual)


SELECT = ("protocol=select", "lr=1e-2")
RUNS = {
    "full": ("task=rte", "method=full", *SELECT),
    "final": ("task=rte", "method=full", "save=logits"),
    "setfit": ("task=rte", *narrow("setfit"), *SELECT),  # fits its head in an evaluation
    "unipelt": ("task=rte", *narrow("unipelt"), *SELECT),  # reports what it saw in the last one
    "mlm": ("task=mlm", "mlm.on=[cola,rte]", "protocol=final"),  # scored before the first step too
    "ema": ("task=rte", *narrow("ema"), *SELECT),
}


@pytest.mark.parametrize(
    ("name", "step", "closely"),
    [
        ("full", 1, ["Course.run", "Course._keep"]),
        ("final", 2, ["Course.run", "Course._keep", "Watch.evaluated"]),
        ("setfit", 1, ["Setfit._fit"]),
        ("unipelt", 2, ["Watch.evaluated"]),
        ("mlm", 0, ["Course.run", "Course._measure"]),
        ("mlm", 2, ["Course._keep"]),
        ("ema", 1, ["Averages.evaluated", "Averages._put"]),
    ],
)
def test_a_signal_at_any_place_of_an_evaluation_changes_nothing(
    name: str,
    step: int,
    closely: list[str],
    tiny_folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two evaluations, each after a step. What is left is the state before one or after it."""
    given = [*tiny(tiny_folder("bert"), *RUNS[name]), "budget.steps=2", "budget.evaluate=1"]
    course, job = _course(given, tmp_path)
    _run(course, Tracer(), step, monkeypatch)  # what is imported or kept once is so from here on
    tracer = Tracer()
    course, job = _course(given, tmp_path)
    _run(course, tracer, step, monkeypatch)
    whole = _end(course, job)
    ends: dict[str, Any] = {}  # by the state that was left
    differ = {}
    for place in tracer.places(closely):
        course, _ = _course(given, tmp_path)
        with pytest.raises(Stopped):
            _run(course, Tracer(place), step, monkeypatch)
        name_of_state, state = _kept(course)
        if name_of_state not in ends:
            course, _ = _course(given, tmp_path)
            course.load_state_dict(state)
            course.run(lambda: None, Stop())
            ends[name_of_state] = _end(course, job)
        end = ends[name_of_state]
        if end != whole:
            differ[place] = [key for key in whole if end[key] != whole[key]]
    assert not differ
    assert len(ends) > 1  # where it was not yet evaluated, and where it was
