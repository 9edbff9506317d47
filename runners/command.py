"""The command line: Hydra composes, errors become one line, each job becomes one run."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from methods.registry import default_options, registered
from results.errors import UserError, nearest
from runners import processes
from runners.composer import Composer, resolved
from runners.config import RunConfig, check

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


class JobFailed(RuntimeError):
    """A job of a sweep whose process ended with another exit code than 0."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


RunFunction = Callable[[RunConfig, Sequence[str]], int]


def main(run: RunFunction) -> int:
    """Compose what sys.argv asks for, run each job, and return the exit code.

    With -m, each job is a process of its own, whatever launcher Hydra uses, unless
    own_process=false.

    0: every run finished; 1: a run failed or diverged; 2: the request was wrong; 3: another process
    does this run; 130: interrupted; 143: terminated.
    """
    processes.end_with_parent()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that claims are given back
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting
    codes: list[int] = []
    arguments, sweep = sys.argv[1:], os.getpid()

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
    def job(composed: DictConfig) -> None:
        configuration = resolved(composed)
        several = HydraConfig.get().mode == RunMode.MULTIRUN
        own = [*HydraConfig.get().overrides.task] if several else arguments
        if several and configuration["own_process"]:
            code = processes.run_alone([*_config_dir(), *own])
            if code and os.getpid() != sweep:
                raise JobFailed(code)  # the only word that reaches the sweep from a launcher's job
            codes.append(code)
        elif configuration.get("board") is not None:
            codes.append(_guarded(lambda: _board(configuration, own), own))
        else:
            codes.append(_guarded(lambda: run(check(configuration), own), own))

    def compose_and_run() -> int:
        _offer_methods_without_yaml()
        try:
            job()
        except JobFailed as failed:
            codes.append(failed.code)
        return max(codes, default=0)

    try:
        return _guarded(compose_and_run, arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _config_dir() -> list[str]:
    """Return what says again where configurations beside the shipped ones come from."""
    sources = HydraConfig.get().runtime.config_sources
    return [
        part
        for source in sources
        if source.provider == "command-line"
        for part in ("--config-dir", source.path)
    ]


def _board(configuration: dict[str, Any], arguments: Sequence[str]) -> int:
    from runners.board import run_board

    return run_board(configuration, arguments, Composer())


def _guarded(act: Callable[[], int], arguments: Sequence[str]) -> int:
    """Return what `act` returns, or the exit code of its failure, told on standard error."""
    try:
        return act()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {explain(error, arguments)}", file=sys.stderr)
        return 2
    except Exception:
        traceback.print_exc()
        return 1


def _offer_methods_without_yaml() -> None:
    """Let method=NAME work for a method without YAML: one file, or an entry point."""
    for name, cls in registered().items():
        if not (CONFIGS / "method" / f"{name}.yaml").exists():
            ConfigStore.instance().store(
                group="method", name=name, node=default_options(cls), package=f"method.{name}"
            )


def explain(error: Exception, arguments: Sequence[str]) -> str:
    """Put an error of Hydra's into one line: what was asked, what is wrong, what to type."""
    text = str(error)
    group = re.search(r"Could not (?:find|load) '([\w-]+)/([^']+)'", text)
    if group:
        kind, name = group.groups()
        listed = re.findall(r"^\t(\S+)$", text.split("Config search path")[0], flags=re.MULTILINE)
        known = listed or list(registered() if kind == "method" else _shipped(kind))
        if (kind, name) == ("task", "ax"):
            return "no task called 'ax': it is a report-only split of task=mnli, reported with it"
        return f"no {kind} called '{name}'{nearest(name, known)}"
    key = re.search(r"Could not override '([^']+)'|Key '([^']+)' is not in struct", text)
    if key:
        name = key.group(1) or key.group(2)
        return f"no key called '{name}'{nearest(name, known_keys(arguments))}"
    unreadable = [a for a in arguments if not _is_readable(a)]
    if unreadable:
        return (
            f"cannot read '{unreadable[0]}' ({text.splitlines()[0]}); write KEY=VALUE, and lists in"
            " quotes as 'KEY=[a,b]'"
        )
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _shipped(group: str) -> list[str]:
    return [path.stem for path in (CONFIGS / group).glob("*.yaml")]


def _is_readable(argument: str) -> bool:
    if argument.startswith("-"):
        return True
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True


def known_keys(arguments: Sequence[str]) -> list[str]:
    """Return every dotted key of the configuration that the arguments' choices lead to."""
    groups = tuple(f"{p.name}=" for p in CONFIGS.iterdir() if p.is_dir())
    choices = [a for a in arguments if a.startswith(groups)]
    begun = GlobalHydra.instance().is_initialized()  # as it is where a board composes its runs
    with nullcontext() if begun else hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            composed = hydra.compose("config", overrides=choices)
        except HydraException:
            composed = hydra.compose("config")
    keys: list[str] = []

    def walk(node: Any, prefix: str) -> None:
        for key, value in node.items():
            keys.append(f"{prefix}{key}")
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")

    walk(OmegaConf.to_container(composed, resolve=False), "")
    return keys
