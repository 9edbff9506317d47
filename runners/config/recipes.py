"""Recipes: `recipe=lp_ft` stands for stages, methods and settings that a paper uses together.

A recipe is a file of configs/recipe: pieces by name, each of which can be switched by itself with
`recipe.PIECE=false`. What is typed beside it counts more than what it sets, in its stages too:
these keep their methods, and the tasks whose text they read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from results.errors import UserError, nearest
from runners.config.section import Section
from runners.config.stages import checked, written
from runners.config.typed import is_typed, key_of
from runners.root import CONFIGS

FOLDER = CONFIGS / "recipe"

# Where a key is typed, the other is read by nothing or would be read in its place.
_IN_PLACE_OF = {"budget.epochs": "budget.steps", "budget.steps": "budget.epochs"}
# What a stage is, of which the target has its own: typed for a whole chain, it is the target's.
_THE_STAGE_ITSELF = ("method", "mlm.on")


class Piece(Section):
    """A part of a recipe: settings and methods of the target, or a stage before it.

    One that is not there `by_default` is switched on. `stage` holds that stage's settings, in which
    `{task}` is the target's name; `task` is the stage's task, the target where there is none.
    """

    by_default: bool = True
    set: list[str] = Field(default_factory=list)
    methods: list[str] = Field(default_factory=list)
    stage: list[str] | None = None
    task: str = "{task}"


def with_recipe(arguments: Sequence[str]) -> list[str]:
    """Return what was typed with its recipe spelled out; a wrong one is a UserError."""
    typed = [a for a in arguments if is_typed([a], "recipe")]
    rest = [a for a in arguments if a not in typed]
    chosen = [a.partition("=")[2] for a in typed if key_of(a) == "recipe"]
    if not typed:
        return rest
    if not chosen:
        raise UserError(f"{typed[0]} is of no recipe: name one by recipe=NAME ({_known()})")
    keys = [key_of(a) for a in rest]
    for other in ("stages", "board"):
        if other in keys or (other == "board" and is_typed(rest, other)):
            raise UserError(f"recipe={chosen[-1]} is of one run, and {other}= of several")
    switches = [a for a in typed if key_of(a) != "recipe"]
    pieces = _switched(chosen[-1], switches)
    ours, methods = [], []
    for name, piece in pieces.items():
        if not (piece.methods and "method" in keys):
            ours += [s for s in piece.set if not _counts_less(s, rest)]
            methods += piece.methods
        elif f"recipe.{name}" in map(key_of, switches):
            raise UserError(
                f"recipe.{name}=true adds method={','.join(piece.methods)}, and what is typed as"
                " method= replaces it: leave that switch out, and name"
                f" {' and '.join(piece.methods)} in method= to have it"
            )
    if methods:
        ours.append(f"method=[{','.join(methods)}]")
    before = [piece for piece in pieces.values() if piece.stage is not None]
    if not before:
        return [*rest, *ours]
    targets = [a.partition("=")[2] for a in rest if key_of(a) == "task"]
    if not targets:
        raise UserError(f"recipe={chosen[-1]} has stages before the target: name it by task=NAME")
    stages = [
        piece.model_copy(update={"stage": _of_stage(piece.stage or [], number, rest)})
        for number, piece in enumerate(before)
    ]
    chains = [_chain(stages, target, ours) for target in re.split(r"\s*,\s*", targets[-1])]
    return [*(a for a in rest if key_of(a) != "task"), f"stages={','.join(chains)}"]


def _counts_less(setting: str, typed: Sequence[str]) -> bool:
    """Say whether a setting's key is typed, or the other one of how long a run trains."""
    key = key_of(setting)
    if key in map(key_of, typed) or (key != "method" and is_typed(typed, key)):
        return True
    other = _IN_PLACE_OF.get(key)
    return any(key_of(a) == other and a.partition("=")[2] != "null" for a in typed)


def _of_stage(settings: Sequence[str], number: int, typed: Sequence[str]) -> list[str]:
    """Return a stage's settings without those that are typed, for all stages or for this one."""
    start = f"stages.{number}."
    own = [a.removeprefix(start) for a in typed if a.startswith(start)]
    return [
        setting
        for setting in settings
        if not _counts_less(setting, own)
        and (key_of(setting) in _THE_STAGE_ITSELF or not _counts_less(setting, typed))
    ]


def _chain(before: Sequence[Piece], target: str, ours: list[str]) -> str:
    def filled(text: str) -> str:
        return text.replace("{task}", target)

    stages = [
        {"task": filled(p.task), "set": [filled(setting) for setting in p.stage or ()]}
        for p in before
    ]
    return written(checked([*stages, {"task": target, "set": ours}]))


def _switched(name: str, switches: Sequence[str]) -> dict[str, Piece]:
    """Return the pieces of a recipe that are on by their names, in their order."""
    path = FOLDER / f"{name}.yaml"
    names = sorted(p.stem for p in FOLDER.glob("*.yaml"))
    if name not in names:
        raise UserError(f"recipe={name}: no such recipe{nearest(name, names) or f' ({_known()})'}")
    try:
        pieces = TypeAdapter(dict[str, Piece]).validate_python(
            yaml.safe_load(path.read_text(encoding="utf-8"))
        )
    except (OSError, ValueError, ValidationError, yaml.YAMLError) as error:
        raise UserError(f"{path}: {error}") from None
    for switch in switches:
        key, _, value = switch.partition("=")
        piece = key_of(key).removeprefix("recipe.")
        if piece not in pieces:
            raise UserError(f"{switch}: recipe={name} has the pieces {', '.join(pieces)}")
        if value not in ("true", "false"):
            raise UserError(f"{switch}: a piece is true or false")
        pieces[piece] = pieces[piece].model_copy(update={"by_default": value == "true"})
    return {name: piece for name, piece in pieces.items() if piece.by_default}


def _known() -> str:
    return f"known: {', '.join(sorted(p.stem for p in FOLDER.glob('*.yaml')))}"
