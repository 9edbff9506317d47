"""The command line: Hydra composes, errors become one line, each job becomes one run."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from results.errors import UserError
from results.places import program
from results.printable import print_anything, printable
from runners.config.acts import Acts, acts_of, is_chain, refuse_shared_push, refuse_unused
from runners.config.check import RunConfig, check
from runners.config.compose import Composer, begin, resolved
from runners.config.explain import below_list, explain
from runners.config.own_files import refuse_hidden
from runners.config.spelling import spelled_out
from runners.config.typed import check_typed, options_first, readable
from runners.machine import processes
from runners.root import CONFIGS
from runners.runs.sweep import Sweep
from runners.subcommands.choose import chosen


class JobFailed(RuntimeError):
    """A job of a sweep whose process ended with another exit code than 0."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def main() -> int:
    """Do what sys.argv asks for: a word's, or a run of each job that it composes.

    With -m, each job is a process of its own, whatever launcher Hydra uses, unless
    own_process=false. The exit code is returned.

    0: every run finished; 1: a run failed or diverged; 2: the request was wrong; 3: another process
    does this run; 130: interrupted; 143: terminated.
    """
    processes.end_with_parent()
    print_anything()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that claims are given back
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting
    codes, sweep = list[int](), Sweep()
    arguments, here = [readable(argument) for argument in sys.argv[1:]], os.getpid()

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
    def job(composed: DictConfig) -> None:
        typed = processes.as_typed()
        several = HydraConfig.get().mode == RunMode.MULTIRUN
        if not several:
            codes.append(
                _guarded(lambda: dispatch(resolved(composed, typed), arguments, typed), arguments)
            )
            return
        said = [*processes.config_dir(), *typed]
        sweep.begin()
        if composed["own_process"]:
            code = processes.run_alone(said)
        else:
            code = _guarded(lambda: dispatch(resolved(composed, typed), said, typed), typed)
        sweep.end(code)
        if code and composed["own_process"] and os.getpid() != here:
            raise JobFailed(code)  # the only word that reaches the sweep from a launcher's job
        codes.append(code)

    def compose_and_run() -> int:
        if (act := chosen(arguments)) is not None:
            return act[0](act[1])
        sys.argv[1:] = arguments[:] = spelled_out(arguments)
        check_typed(arguments)
        options = _options(arguments)
        sys.argv[1:] = options_first(arguments, options.overrides)
        begin(options.config_dir and Path(options.config_dir))
        if not options.multirun:
            job()
            return processes.worst(codes)
        with processes.stopped_together(arguments), sweep.of(options.overrides):
            try:
                job()
            except JobFailed as failed:
                codes.append(failed.code)
        return processes.worst(codes)

    try:
        return _guarded(compose_and_run, arguments)
    except KeyboardInterrupt as end:
        print(*end.args or ["interrupted"], file=sys.stderr)
        return 130


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what Hydra reads of a command; an option that it does not know is a UserError."""
    options, unknown = get_args_parser().parse_known_intermixed_args(arguments)
    if unknown:
        raise UserError(f"no option {unknown[0]}; {program()} --hydra-help lists them")
    refuse_shared_push(options.overrides, options.multirun)
    return options


def dispatch(composed: dict[str, Any], arguments: Sequence[str], typed: Sequence[str]) -> int:
    """Do what a composed configuration asks for: a board, a chain, a run, or an act on some.

    `typed` are those of the arguments that set keys of it.
    """
    check_typed(typed)
    for folder in processes.config_dir()[1::2]:
        refuse_hidden(Path(folder))
    acts = acts_of(composed)
    refuse_unused(acts, composed, typed)
    if composed.get("board") is not None:
        from runners.boards.board import run_board

        return run_board(composed, arguments, Composer())
    if is_chain(composed) and not acts.named:
        from runners.boards.chain import run_chain

        return run_chain(composed, arguments, Composer())
    config = check(composed)
    if acts.named:
        return _act(acts, config, arguments, typed)
    from runners.runs.run import run

    return run(config, arguments)


def _act(acts: Acts, config: RunConfig, arguments: Sequence[str], typed: Sequence[str]) -> int:
    """Do something with stored results."""
    if acts.eval is not None:
        from runners.runs.evaluate import score

        return score(acts.eval, config, typed)
    if acts.export is not None:
        from runners.runs.export import export

        return export(acts.export, config, typed)
    if acts.verify is not None:
        from runners.runs.verify import verify

        return verify(acts.verify, config, arguments)
    if acts.embed is not None:
        from runners.runs.embed import embed_file

        return embed_file(acts, config, typed)
    if acts.predict is not None:
        from runners.runs.predict import predict_file

        return predict_file(acts, config, typed)
    from runners.runs.submission import write_submission

    return write_submission(acts, config, typed)


def _guarded(act: Callable[[], int], arguments: Sequence[str]) -> int:
    """Return what `act` returns, or the exit code of its failure, told on standard error."""
    try:
        return act()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {printable(explain(error, arguments))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # what reads the output wants no more of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if problem := below_list(error, arguments):
            print(f"error: {printable(problem)}", file=sys.stderr)
            return 2
        traceback.print_exc()
        return 1
