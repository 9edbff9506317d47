"""One run: check, name, skip if it is done, else train, and write the record."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from results import logits, places
from results import record as records
from results.errors import UserError
from results.pages.text import one_run
from results.plain_file import is_folder, is_there
from results.printable import printable
from results.record import Record
from runners.config.check import RunConfig
from runners.config.settings import Settings
from runners.jobs.job import Job
from runners.machine.console import say
from runners.machine.device import set_threads
from runners.models.about import OTHERS, holds_others, read_about, tells_of_others
from runners.runs.again import Again, Differs, as_it_ran
from runners.runs.attempt import blank_record, now, train
from runners.runs.lease import Claim
from runners.runs.passing import keep_saved
from runners.runs.sweep import note

FINISHED, NOT_FINISHED, CLAIMED = 0, 1, 3


def run(config: RunConfig, arguments: Sequence[str]) -> int:
    """Do one run, or print its stored result; return the exit code.

    Mistakes raise UserError, before training. Where another process does this very run, it is left
    to it.

    A failure while training becomes a record of status failed, a loss that is not finite one of
    status diverged. Neither takes the place of a better record of the run. One that is finished is
    done again for what `save=` keeps; where it then differs that is a UserError, and it stays.
    """
    began = time.perf_counter()
    settings = config.settings
    folder = Path(settings.out)
    job = Job(config)
    _ = job.weights  # before the data: they are looked at faster
    if job.data.source == "embedded":
        say(
            f"DATA: EMBEDDED, generated English in the shape of {settings.task.name}, not GLUE"
            f" ({job.data.reason})"
        )
    name = job.name
    path = records.record_path(folder, name)
    keep_saved(path, settings.save)
    stored = _stored(places.stored(path), job)
    if stored is not None:
        return stored
    records.check_writable(folder)  # not before: a stored result needs no room
    claim = Claim(folder, name)
    try:
        owner = claim.take()
        if owner is not None:
            who = f"process {owner.get('pid')} on {owner.get('host')} since {owner.get('since')}"
            say(f"{name} is being done by {who}; nothing is left to do here")
            return CLAIMED
        stored = _stored(path, job)  # another process may have done it in the meantime
        if stored is not None:
            return stored
        done = _do(job, path, arguments, began, claim)
    except Differs:
        if claim.holds():
            _discard_checkpoints(folder, name)  # they are of the other result
        raise
    finally:
        claim.release()
    if done is None:
        return CLAIMED
    _push(done, path, settings)
    return FINISHED if done.status == "finished" else NOT_FINISHED


def _do(
    job: Job, path: Path, arguments: Sequence[str], began: float, claim: Claim
) -> Record | None:
    """Train, and write and print the record; None where another process took the run over.

    A signal that comes when all steps are done waits until the record is written.
    """
    settings, name, before = job.config.settings, job.name, _stamp(path)
    if settings.force:
        _discard_checkpoints(path.parent, name)
    stored = _finished(path, settings)
    job = job if stored is None else replace(job, config=as_it_ran(job.config, stored))
    blank = blank_record(job, arguments)
    again = Again(stored, blank)
    set_threads(settings.threads or again.threads)
    with contextlib.ExitStack() as ending:
        done = again.with_logits(train(job, blank, began, again, ending))
        seconds = (done.whole_seconds or 0.0) + time.perf_counter() - began
        done = replace(done, whole_seconds=round(seconds, 3), end=now())
        # A claim that vanished with a finished takeover was put back by the heart that beat again.
        if not (claim.holds() or claim.regain()) or _was_done(path, before, done):
            say(f"another process took {name} over while this one stood still; its record stands")
            return None
        written = records.write(done, path.parent)
        keep_saved(path, settings.save)  # a chain may have come to wait for it
        if done.status in records.DONE:
            _discard_checkpoints(path.parent, name)
        beside = f"; {path} holds a better one, which stays" if written != path else ""
        note(record=str(written.absolute()))
        _print_result(done, f"record: {written}{beside}")
    return done


def _finished(path: Path, settings: Settings) -> Record | None:
    """Return the result that a run is to come to, where it is not to be replaced."""
    stored = None if settings.force or not is_there(path) else records.read(path)
    return stored if stored is not None and stored.status == "finished" else None


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when a record is written; None where there is none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def _was_done(path: Path, before: tuple[int, int] | None, done: Record) -> bool:
    """Say whether a record came to lie there since, of which this one would not take the place."""
    now = _stamp(path)
    return now not in (None, before) and not records.is_better(done, path)


def _stored(path: Path, job: Job) -> int | None:
    """Print the stored result of a run that need not be done again; None where it must be."""
    settings = job.config.settings
    if settings.force or not is_there(path):
        return None
    stored = records.read(path)
    kept = _is_kept(settings.save, path, stored) or _exported(path, stored, job)
    if stored.status == "finished" and not kept:
        say(f"{path} is finished but was run without save={settings.save}: it runs again for that")
        return None
    if stored.status not in records.DONE:
        return None
    note(record=str(path.absolute()))
    _print_result(stored, f"stored result of {path}; force=true runs it again")
    _push(stored, path, settings)
    return FINISHED if stored.status == "finished" else NOT_FINISHED


def _is_kept(save: str | None, path: Path, stored: Record) -> bool:
    """Say whether what save= asks for lies beside a record."""
    if save == "logits":
        return logits.is_of(stored, path.parent)
    folder = path.with_suffix(f".{save}")
    if save is None or not folder.is_dir():
        return save is None
    are_others = tells_of_others if save == "delta" else holds_others
    try:
        return not are_others(folder, stored, "save")
    except UserError:
        return False


def _exported(path: Path, stored: Record, job: Job) -> bool:
    """Make a finished run's model from the delta beside its record; say whether it is there now."""
    delta = path.with_suffix(".delta")
    finished = stored.status == "finished" and job.config.settings.save == "model"
    if not finished or not is_folder(delta):
        return False
    settings, model = job.config.settings, path.with_suffix(".model")
    set_threads(settings.threads)
    from safetensors import SafetensorError

    from runners.runs.export import from_delta

    try:
        other = read_about(delta, "save")["run"] != stored.run
        if other or tells_of_others(delta, stored, "save"):
            return False
        from_delta(delta, model, "save", settings.model.name_or_path, settings.model)
    except UserError as error:
        say(str(error))
        return False
    except (OSError, SafetensorError) as error:
        say(f"warning: {model} could not be written ({error})")
    return True


def _push(record: Record, path: Path, settings: Settings) -> None:
    """Send a finished run's model to the hub, where that is asked for.

    One that could not be written now, where an older one lies, is not sent.
    """
    if settings.push is None or record.status != "finished":
        return
    folder = path.with_suffix(".model")
    try:
        others = holds_others(folder, record, "push")
    except UserError as error:
        say(f"warning: {error}; nothing was sent")
        return
    if others:
        say(f"warning: push={settings.push}: {folder} {OTHERS}, so nothing was sent")
        return
    from runners.exports.hub import push

    push(folder, settings.push)


def _print_result(record: Record, line: str) -> None:
    """Print a run's result and its last line at once, so that runs with one log mix no lines."""
    print(f"{one_run(record)}\n{printable(line)}\n", end="", flush=True)


def _discard_checkpoints(folder: Path, name: str) -> None:
    from runners.training.checkpoint import Checkpoints

    Checkpoints(folder, name, say).remove()
