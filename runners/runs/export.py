"""Makes a whole model from a delta, without training: `python run.py export=DELTA out=FOLDER`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError

from results import record as records
from results.errors import UserError
from results.record import Record
from runners.config.check import RunConfig, model_path
from runners.config.saving import model_problems
from runners.config.settings import Model
from runners.config.typed import is_typed
from runners.exports.card import model_card
from runners.exports.delta import load_delta
from runners.exports.hub import push
from runners.exports.model import NotPlain, export_model
from runners.machine.console import show
from runners.machine.device import set_threads
from runners.models.about import read_about, source_of, tells_of_others


def export(named: str, command: RunConfig, typed: Sequence[str]) -> int:
    """Write the model of a stored delta to a new folder; return the exit code.

    A folder that stands there already, and what the plain architecture cannot hold, are a
    UserError.
    """
    settings, out = command.settings, Path(command.settings.out)
    if not is_typed(typed, "out"):
        raise UserError(f"export={named} needs out=FOLDER, a new folder for the model")
    if out.exists():
        raise UserError(f"export={named}: out={out} is there already; name a new folder")
    set_threads(settings.threads)
    try:
        from_delta(Path(named), out, "export", model_path(command, typed), settings.model)
    except (OSError, SafetensorError) as error:
        raise UserError(f"out={out}: cannot be written ({error})") from None
    show(f"{out}: a model that transformers loads, with its tokenizer and README.md")
    if settings.push is not None:
        push(out, settings.push)
    return 0


def from_delta(folder: Path, out: Path, act: str, path_now: str | None, known: Model) -> None:
    """Write the model of a delta; `act` is the key that asks for it.

    `path_now` says where the pretrained weights lie now, if not where they did. Where these are of
    the package that is `known`, the card says what the hub calls them. A delta that cannot be
    read, or is of no such model, is a UserError; a disk without room is an OSError or
    SafetensorError. Then nothing is written.
    """
    delta = load_delta(folder, model_path=path_now, act=act)
    key, settings = f"{act}={folder}", delta.config.settings
    if problems := model_problems(key, settings, delta.config.methods):
        raise UserError("; ".join(problems))
    about = read_about(folder, act)
    package = about["config"]["model"].get("package")
    hub = known.hub if package and package == known.package else None
    model = settings.model.model_copy(update={"hub": hub})
    config = replace(delta.config, settings=settings.model_copy(update={"model": model}))
    card = model_card(delta.run, config, delta.weights, _record_beside(folder, delta.run))
    try:
        source = source_of(delta.run, about.get("trained_sha256"))
        export_model(out, delta.loaded, config, card, source)
    except NotPlain as reason:
        raise UserError(
            f"{key}: transformers' own classes would not give its answers ({reason}); eval= and"
            " load_delta read it as it is"
        ) from None


def _record_beside(folder: Path, run: str) -> Record | None:
    """Return the record of a delta's weights, where it lies beside the delta and is whole."""
    path = records.record_path(folder.absolute().parent, run)
    try:
        record = records.read(path) if path.is_file() else None
    except UserError:
        return None
    return None if record is None or tells_of_others(folder, record, "export") else record
