"""Composes configurations: of one run, or of a board's runs, that differ in plain values, once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from methods.registry import default_options, registered
from results.errors import UserError, nearest
from runners.config.named_weights import with_named_weights
from runners.config.own_files import check_own_files
from runners.config.rates import refuse_unread_rates
from runners.config.resolvers import refuse_resolvers
from runners.config.spelling import spelled_out
from runners.config.texts import with_texts
from runners.config.typed import check_typed, is_typed, readable
from runners.root import CONFIGS

PLAIN = ("seed", "lr")  # top-level values that choose no file of configs/


def resolved(
    composed: DictConfig, typed: Sequence[str], searched: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a composed configuration with its interpolations resolved, as plain containers.

    A resolver that may read the machine is a UserError: files and `typed` values meet here. The
    tasks whose text another one reads are added to it, so that Hydra must be running; `searched`
    says where it looks besides, as it was said for `composed`. Other weights replace a package. A
    rate of the model that no method reads is a UserError too.
    """
    plain = _plain(composed)
    unresolved = OmegaConf.to_container(composed, resolve=False)
    refuse_unread_rates(plain, unresolved, _folders(), [*searched, *typed])
    whole = with_texts(plain, partial(_task, [*searched]))
    return with_named_weights(whole, typed)


def _folders() -> list[str]:
    """Return where Hydra looks for files, a command's `hydra.searchpath=` among them."""
    folders = [str(source.path) for source in GlobalHydra.instance().config_loader().get_sources()]
    if HydraConfig.initialized():  # of a command: what is typed for Hydra itself is only there
        folders += [str(source.path) for source in HydraConfig.get().runtime.config_sources]
    return folders


# Of one command, by name and the folders that were searched.
_tasks: dict[tuple[str, ...], dict[str, Any]] = {}


def _task(searched: list[str], name: str) -> dict[str, Any]:
    """Return what the file of a task says."""
    loader = GlobalHydra.instance().config_loader()
    key = (name, *searched, *(str(source.path) for source in loader.get_sources()))
    if key not in _tasks:
        known = loader.get_group_options("task", config_name="config", overrides=searched)
        if name not in known:
            raise UserError(f"no task called '{name}'{nearest(name, known)}")
        overrides = [*searched, f"task={name}"]
        _tasks[key] = _plain(hydra.compose("config", overrides=overrides))["task"]
    return _tasks[key]


def _plain(composed: DictConfig) -> dict[str, Any]:
    refuse_resolvers(OmegaConf.to_container(composed, resolve=False))
    container = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    assert isinstance(container, dict)
    return {str(k): v for k, v in container.items()}


def begin(config_dir: Path | None = None) -> None:
    """Prepare Hydra: a user's files are checked, method=NAME works for a method without YAML.

    Files may have changed since: tasks that were read before are read anew.
    """
    _tasks.clear()
    check_own_files()
    folders = [CONFIGS, *([config_dir] if config_dir else [])]
    for name, cls in registered().items():
        if not any((folder / "method" / f"{name}.yaml").exists() for folder in folders):
            ConfigStore.instance().store(
                group="method", name=name, node=default_options(cls), package=f"method.{name}"
            )


@contextmanager
def composing(config_dir: Path | None = None) -> Iterator[None]:
    """Start Hydra on the shipped configurations, outside of the command line."""
    begin(config_dir)
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield


def compose(overrides: Sequence[str], config_dir: Path | None = None) -> dict[str, Any]:
    """Return what the command line would compose, with `--config-dir` where one is given."""
    overrides = spelled_out([readable(override) for override in overrides])
    check_typed(overrides)
    more: list[str] = []
    if config_dir is not None:
        more = [f"hydra.searchpath={json.dumps([f'file://{config_dir.resolve()}'])}"]
    with composing(config_dir):
        return resolved(hydra.compose("config", overrides=[*more, *overrides]), overrides, more)


_alone = Lock()  # Hydra is one of a process, and threads of a notebook may ask for runs


@contextmanager
def no_other_hydra() -> Iterator[None]:
    """Let a block compose beside other threads, and inside of somebody's Hydra application too."""
    with _alone:
        theirs = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            yield
        finally:
            GlobalHydra.instance().hydra = theirs


class Composer:
    """Composes what is typed for a run, inside a running Hydra application.

    Hydra takes about a sixth of a second each time. Runs that differ only in their seed or learning
    rate share one composition: those values are set in it before interpolations are resolved.
    """

    def __init__(self) -> None:
        self._shared: dict[tuple[str, ...], DictConfig] = {}
        self._parser = OverridesParser.create()

    def __call__(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return the resolved configuration; Hydra's errors for what it cannot compose."""
        overrides = spelled_out([readable(override) for override in overrides])
        check_typed(overrides)
        plain = [o for o in overrides if o.partition("=")[0] in PLAIN]
        rest = [o for o in overrides if o not in plain]
        parsed = self._parser.parse_overrides(plain)
        elsewhere = is_typed(rest, *PLAIN)
        if elsewhere or any(p.is_sweep_override() for p in parsed):
            return resolved(hydra.compose("config", overrides=list(overrides)), overrides)
        values = {p.key_or_group: p.value() for p in parsed}  # the last word counts, as in Hydra
        key = (*sorted(values), *rest)
        if key not in self._shared:
            self._shared[key] = hydra.compose("config", overrides=rest)
        composed = self._shared[key]
        for name, value in values.items():
            composed[name] = value
        return resolved(composed, overrides)
