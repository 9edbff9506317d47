"""What a board asks for: its rows, tasks and seeds, and the learning rates of its search."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from hydra._internal.utils import get_args_parser
from pydantic import AfterValidator, Field, field_validator, model_validator

from results import record as records
from results.errors import UserError, nearest
from results.places import program
from results.run_list import ListedRun, RunList, is_within
from results.tables.leaves import typed as typed_value
from results.tables.trials import best_choice, trial_score
from runners.boards.planned import Planned, Planner, Slot, Trial, with_stages
from runners.config.acts import BOARD_KEYS, CHAIN_KEYS, Acts, Sweep
from runners.config.section import Section
from runners.config.stages import Control, Stage
from runners.config.typed import is_typed, key_of
from runners.machine.processes import config_dir


def _is_of_a_run(argument: str) -> str:
    """Return what sets a run's keys; Hydra's own would have code run, others mean a command."""
    elsewhere = (
        "hydra",
        "own_process",
        "start.run",
        "control",
        "push",
        *CHAIN_KEYS,
        *BOARD_KEYS,
        *Acts.model_fields,
    )
    if (
        argument.startswith("-")
        or ("=" not in argument and not argument.startswith("~"))
        or key_of(argument).startswith("hydra/")
        or key_of(argument) == "start"
        or is_typed([argument], *elsewhere)
    ):
        raise ValueError(f"{argument} sets nothing of a run; list KEY=VALUE of a run's keys")
    return argument


LISTED = {"method": "methods", "task": "tasks", "seed": "seeds"}  # by the key of a run


def _is_of_a_row(argument: str) -> str:
    """Return what sets a run's keys but for those by which a board tells its runs apart."""
    if (key := key_of(argument)) in LISTED:
        raise ValueError(f"{argument}: a board lists its {LISTED[key]}; name it there")
    return _is_of_a_run(argument)


Value = bool | int | float | str


OfARow = Annotated[str, AfterValidator(_is_of_a_row)]


class Entry(Section):
    """A row of a board: what `method=` is given, and settings of its own.

    With `stages`, each of its runs starts from what runs on these tasks left, which have the row's
    method and settings too. With `control`, that chain is replaced by what it is compared with. An
    `arm` is a task that the row's runs are of in place of the board's, which has other rows to
    train on.
    """

    method: str
    arm: str | None = None
    set: list[OfARow] = Field(default_factory=list)
    stages: list[Stage] = Field(default_factory=list)
    control: Control | None = None

    @model_validator(mode="after")
    def _controls_a_chain(self) -> Entry:
        for setting in (setting for stage in self.stages for setting in stage.set):
            _is_of_a_run(setting)
        if saved := next((stage.saved for stage in self.stages if stage.saved), None):
            raise ValueError(f"{saved}: a stage leaves its weights; keep=true keeps them")
        if self.control is not None and not self.stages:
            raise ValueError("control goes with stages, a list of the tasks before the row's own")
        return self

    @property
    def names(self) -> list[str]:
        """Its methods."""
        return [name.strip() for name in self.method.strip("[] ").split(",")]

    @property
    def typed(self) -> str:
        """What names the row: its method, settings and stages."""
        after = [f"after {','.join(stage.task for stage in self.stages)}"] if self.stages else []
        control = [f"control={self.control}"] if self.control else []
        arm = [f"on {self.arm}"] if self.arm else []
        return " ".join([self.method, *self.set, *arm, *after, *control])


class Search(Section):
    """A grid of learning rates, the same for every row, each tried a seed once on each task.

    The best score on rows of train that are not trained on decides, of several `seeds` the mean
    less its standard error; report splits have no say. Without `tasks`, every task is searched, and
    a row has a rate for each; with them, a row's one rate is that of the best mean over these
    tasks. `options` are a method's, with the values to try beside each rate in rows that have it.
    """

    lr: list[float] = Field(min_length=3)
    seed: int | None = None
    seeds: list[int] = Field(default_factory=list)
    tasks: list[str] | None = Field(default=None, min_length=1)
    options: dict[str, dict[str, list[Value]]] = Field(default_factory=dict)
    set: list[OfARow] = Field(default_factory=list)

    @model_validator(mode="after")
    def _names_its_seeds_once(self) -> Search:
        if (self.seed is None) == (not self.seeds):
            raise ValueError("seed is one seed, seeds are several: give one of the two")
        return self

    @property
    def tried_seeds(self) -> list[int]:
        return self.seeds if self.seed is None else [self.seed]

    def decides(self, slot: Slot) -> tuple[int, str | None]:
        """Return the row and task that a place's rate is of, or the row and None."""
        return slot.row, None if self.tasks else slot.task

    def trials(self, row: Entry) -> list[Trial]:
        """Return what is tried in a row: each rate with each choice of its methods' options."""
        grids = [
            [f"method.{name}.{key}={typed_value(value)}" for value in values]
            for name in row.names
            for key, values in self.options.get(name, {}).items()
        ]
        return [(rate, chosen) for rate in self.lr for chosen in itertools.product(*grids)]


class Board(Section):
    """Every method on every task with every seed, under common settings.

    With a `search`, each row's rate on each task is the one that its search found best. `records`
    is a folder in the project of which the board's pages are made; its runs are written to out=.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    methods: list[str | Entry] = Field(min_length=1)
    tasks: list[str] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    set: list[OfARow] = Field(default_factory=list)
    search: Search | None = None
    records: str | None = None

    @field_validator("records")
    @classmethod
    def _lie_in_the_project(cls, folder: str | None) -> str | None:
        if folder is not None and not is_within(folder):
            raise ValueError(f"{folder} is no folder in the project, as results/runs is")
        return folder

    @model_validator(mode="after")
    def _searches_what_no_row_sets(self) -> Board:
        if (search := self.search) is None:
            return self
        for row in self.rows:
            tried = [f"method.{n}.{key}" for n in row.names for key in search.options.get(n, {})]
            for argument in (*self.set, *row.set, *search.set):
                if key_of(argument) in ("lr", *tried):
                    raise ValueError(f"search tries values of {key_of(argument)}=: leave it out")
        return self

    @property
    def rows(self) -> list[Entry]:
        return [Entry(method=m) if isinstance(m, str) else m for m in self.methods]


def expand(board: Board, typed: Sequence[str]) -> list[Slot]:
    """Return each run's place and what to type: row, method, task, seed, then the user's own.

    A stage's own settings come after all of these. Seeds change slowest, so that an unfinished
    board has all its methods.
    """
    own = [a for a in overrides_of(typed) if not is_typed([a], *BOARD_KEYS, *CHAIN_KEYS)]

    def run(row: Entry, task: str, seed: int) -> list[str]:
        named = [f"method={row.method}", f"task={task}", f"seed={seed}"]
        return [*named, *board.set, *row.set, *own]

    return [
        Slot(
            number,
            task,
            seed,
            run(row, row.arm or task, seed),
            tuple([*run(row, stage.task, seed), *stage.set] for stage in row.stages),
            row.control,
        )
        for seed in board.seeds
        for task in board.tasks
        for number, row in enumerate(board.rows)
    ]


def expand_search(board: Board, search: Search, typed: Sequence[str]) -> list[Slot]:
    """Return the places of a board's search: every trial of every row, for each task and seed."""
    tasks = search.tasks or board.tasks
    tried = board.model_copy(update={"seeds": search.tried_seeds, "tasks": tasks})
    apart = [] if is_typed(typed, "out") else [f"out=results/searches/{board.name}"]
    _refuse_unknown_options(board, search)
    return [
        replace(
            slot,
            overrides=[
                *slot.overrides,
                "protocol=select",
                *search.set,
                *apart,
                *typed_trial(trial),
            ],
            stages=tuple([*stage, *apart] for stage in slot.stages),
            trial=trial,
        )
        for rate in search.lr
        for slot in expand(tried, typed)
        for trial in search.trials(board.rows[slot.row])
        if trial[0] == rate
    ]


def typed_trial(trial: Trial) -> list[str]:
    """Return what a search's choice is typed as."""
    return [f"lr={trial[0]:g}", *trial[1]]


def _refuse_unknown_options(board: Board, search: Search) -> None:
    names = {name for row in board.rows for name in row.names}
    for name in search.options:
        if name not in names:
            raise UserError(
                f"board.search.options.{name}: no row of {board.name} has it{nearest(name, names)}"
            )


def overrides_of(typed: Sequence[str]) -> list[str]:
    """Return what was typed without Hydra's own options, such as --config-dir DIR, and -m."""
    options, _ = get_args_parser().parse_known_intermixed_args(list(typed))
    return list(options.overrides)


def as_typed(board: Board, typed: Sequence[str]) -> str:
    """Return what names a board in a command: its file, whose name may be another than its own."""
    chosen = [a for a in overrides_of(typed) if key_of(a) == "board"]
    return chosen[-1] if chosen else f"board={board.name}"


def board_file(typed: Sequence[str]) -> str:
    """Return the beginning of a sentence that names the user's file of the board, if it is one.

    Where a key of the board is typed as well, the fault may be there.
    """
    folders, mine = config_dir()[1::2], overrides_of(typed)
    [*_, chosen] = [a.partition("=")[2] for a in mine if key_of(a) == "board"] or [""]
    paths = [Path(folder, "board", f"{chosen}.yaml") for folder in folders]
    typed_too = any(key_of(a).startswith("board.") for a in mine)
    return next((f"{path}: " for path in paths if path.is_file() and not typed_too), "")


def search_command(typed: Sequence[str]) -> str:
    """Return the command that does the search of the board that was typed, with all that was."""
    mine = overrides_of(typed)
    chosen = [a for a in mine if key_of(a) == "board"]
    rest = [a for a in mine if key_of(a) not in ("board", *Sweep.model_fields)]
    return f"{program()} {shlex.join([*config_dir(), *chosen, 'search=true', *rest])}"


def plan(
    board: Board, typed: Sequence[str], planner: Planner, searching: bool = False
) -> list[Planned]:
    """Check every run, or every trial of the search, before any is started."""
    named = as_typed(board, typed)
    for argument in overrides_of(typed):
        if (key := key_of(argument)) in LISTED:
            value = argument.partition("=")[2]
            value = f'"{value}"' if value.startswith("[") else value  # a row of several methods
            raise UserError(
                f"{named} {argument}: a board lists its {LISTED[key]}, by which its tables count;"
                f" type 'board.{LISTED[key]}=[{value}]'"
            )
    if board.search is not None and is_typed(typed, "lr"):
        raise UserError(f"{named} searches its learning rates: leave lr= out")
    if searching:
        if board.search is None:
            raise UserError(f"{named} has no search: learning rates are its rows' own")
        slots = expand_search(board, board.search, typed)
    else:
        slots = expand(board, typed)
    if board.search is None or searching:
        runs = [planner.planned(slot) for slot in slots]
    else:
        search, chosen = board.search, _chosen(board, board.search, typed, planner)
        runs = [_with_trial(one, chosen.get(search.decides(one)), board, planner) for one in slots]
    _leave_weights(runs)
    twice = [name for name, n in Counter(run.name for run in runs).items() if n > 1]
    if twice:
        raise UserError(
            f"{named}: {twice[0]} is asked for more than once; list each method, task and seed once"
        )
    return runs


def _chosen(
    board: Board, search: Search, typed: Sequence[str], planner: Planner
) -> dict[tuple[int, str | None], Trial]:
    """Return the best trials, those in the search's own folder where out= has none."""
    own = [argument for argument in typed if not is_typed([argument], "out")]
    chosen: dict[tuple[int, str | None], Trial] = {}
    for arguments in dict.fromkeys((tuple(typed), tuple(own))):
        slots = [
            slot
            for slot in expand_search(board, search, arguments)
            if search.decides(slot) not in chosen
        ]
        chosen |= best_trials(search, [planner.planned(slot) for slot in slots])
    return chosen


def _leave_weights(runs: Sequence[Planned]) -> None:
    """Have a run that is a stage of another too leave its weights.

    They stay where `save=delta` is typed. A run that is to leave something else is a UserError.
    """
    stages = {stage.name for stage in with_stages(runs)} - {run.name for run in runs}
    stages |= {run.before.name for run in runs if run.before is not None}
    for run in runs:
        saved = [a for a in run.overrides if key_of(a) == "save"][-1:]
        run.kept = saved == ["save=delta"]
        if run.name not in stages:
            continue
        if not run.kept and saved not in ([], ["save=null"]):
            raise UserError(
                f"{saved[0]}: {run.slot.task} by {run.name} is also what another run starts from,"
                " for which it leaves its weights by save=delta; a run saves one thing, so do"
                " the rows with stages on a board of their own"
            )
        run.overrides = [*run.overrides, "save=delta"]
    passing = {run.name for run in with_stages(runs) if run.passing}
    passing -= {run.name for run in runs if run.kept}
    for run in with_stages(runs):
        run.passing = run.name in passing


def best_trials(search: Search, trials: Sequence[Planned]) -> dict[tuple[int, str | None], Trial]:
    """Return the best choice of each row, or row and task, whose trials are all done.

    The scores on rows of train that are not trained on decide, by `results.tables.trials`.
    """
    scores: dict[tuple[int, str | None], dict[Trial, dict[int, list[float]]]] = {}
    unfinished = set()
    for trial in trials:
        key, choice = search.decides(trial.slot), trial.slot.trial
        if trial.state not in records.DONE or choice is None:
            unfinished.add(key)
            continue
        by_seed = scores.setdefault(key, {}).setdefault(choice, {})
        score = trial_score(records.read(trial.record))
        by_seed.setdefault(trial.slot.seed, []).append(score)
    return {key: best_choice(tried) for key, tried in scores.items() if key not in unfinished}


def _with_trial(slot: Slot, trial: Trial | None, board: Board, planner: Planner) -> Planned:
    """Return a place's run at what its search chose, or waiting for it."""
    if trial is not None:
        return planner.planned(replace(slot, overrides=[*slot.overrides, *typed_trial(trial)]))
    run = planner.planned(slot)
    name = f"{board.name}.waits.{slot.row}.{slot.task}.s{slot.seed}"
    return Planned(slot, slot.overrides, name, run.path.with_name(f"{name}.json"), "waiting")


def row_names(rows: Sequence[Entry]) -> list[str]:
    """Return what names each row, with its stages' settings where rows differ in these alone."""
    names = []
    for row in rows:
        like = [set(_of_stages(other)) for other in rows if other.typed == row.typed]
        own = (one for one in _of_stages(row) if one not in set.intersection(*like))
        names.append(" ".join([row.typed, *own]))
    return names


def _of_stages(row: Entry) -> list[str]:
    return [f"stages.{i}.{one}" for i, stage in enumerate(row.stages) for one in stage.set]


def listed(board: Board, runs: Sequence[Planned]) -> RunList:
    """Return the list by which the board's tables count."""
    return RunList(
        board.name,
        tuple(row_names(board.rows)),
        tuple(ListedRun(r.slot.row, r.slot.task, r.slot.seed, r.name) for r in runs),
        board.records,
    )
