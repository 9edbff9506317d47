"""Composes each choice of shipped files once a test process: Hydra takes a fifth of a second.

Values that are typed are set in a copy, as Hydra itself sets them after it has composed the files.
Whoever adds files of their own, or methods, is composed anew. Fresh processes of tests, and users,
have Hydra as it is; tests/runners/config/test_compose.py holds the two against each other.
"""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult

from runners.config.compose import CONFIGS
from runners.config.own_files import FileConfigSource

_SHIPPED = {f"file://{CONFIGS}", "pkg://hydra.conf", "structured://"}
_lists: dict[Any, DefaultsList] = {}
_composed: dict[int, bytes] = {}  # by the list of files, which _lists keeps
_parsed: dict[str, Override] = {}

_files: dict[str, bytes] = {}
_load = FileConfigSource.load_config
_mode = Hydra.get_mode
_parse = OverridesParser.parse_rule
_compose = ConfigLoaderImpl._compose_config_from_defaults_list


def _listed(
    repo: Any, config_name: str, overrides_list: list[Override], prepend_hydra: bool,
    skip_missing: bool,
) -> DefaultsList:  # fmt: skip
    sources = {f"{source.scheme()}://{source.path}" for source in repo.get_sources() if source.path}
    given = (config_name, overrides_list, prepend_hydra, skip_missing)
    if not sources <= _SHIPPED:
        return create_defaults_list(repo, *given)
    typed = Overrides(repo=repo, overrides_list=overrides_list)
    values = {id(override) for override in typed.config_overrides}
    choices = tuple(o.input_line for o in overrides_list if id(o) not in values)
    methods = tuple(sorted(ConfigStore.instance().repo.get("method", {})))
    key = (config_name, choices, prepend_hydra, skip_missing, methods)
    if key not in _lists:
        _lists[key] = create_defaults_list(repo, *given)
        return _lists[key]
    known = _lists[key]
    return DefaultsList(
        defaults=known.defaults,
        defaults_tree=known.defaults_tree,
        config_overrides=typed.config_overrides,
        overrides=known.overrides,
    )


def _files_composed(self: ConfigLoaderImpl, defaults: Any, repo: Any) -> Any:
    if not any(known.defaults is defaults for known in _lists.values()):
        return _compose(self, defaults, repo)
    if id(defaults) not in _composed:
        _composed[id(defaults)] = pickle.dumps(_compose(self, defaults, repo))
    return pickle.loads(_composed[id(defaults)])  # faster than a deep copy


def _read(self: OverridesParser, text: str, rule: str) -> Any:
    if rule != "override":
        return _parse(self, text, rule)
    if text not in _parsed:
        _parsed[text] = _parse(self, text, rule)
    return copy.copy(_parsed[text])


def _mode_of(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """Return hydra.mode, for which Hydra composes all a first time; shipped files set none."""
    paths = {item.path for item in self.config_loader.get_search_path().get_path()}
    shipped = {path.removeprefix("file://") for path in _SHIPPED}
    if paths <= shipped and not any("hydra" in text for text in overrides):
        return None
    return _mode(self, config_name, overrides)


def _loaded(self: FileConfigSource, config_path: str) -> ConfigResult:
    if Path(self.path) != CONFIGS:
        return _load(self, config_path)
    if config_path not in _files:
        _files[config_path] = pickle.dumps(_load(self, config_path))
    result: ConfigResult = pickle.loads(_files[config_path])
    return result


def _of_the_same_sources(self: CachingConfigRepository, delegate: Any) -> None:
    """Keep a copy whose list of sources may become another; the sources are not copied."""
    self.delegate = copy.copy(delegate)
    self.cache = {}


def remember_compositions() -> None:
    """Compose by memory from here on."""
    CachingConfigRepository.__init__ = _of_the_same_sources  # type: ignore[method-assign]
    config_loader_impl.create_defaults_list = _listed  # type: ignore[attr-defined]
    ConfigLoaderImpl._compose_config_from_defaults_list = _files_composed  # type: ignore[method-assign]
    OverridesParser.parse_rule = _read  # type: ignore[method-assign]
    Hydra.get_mode = _mode_of  # type: ignore[method-assign]
    FileConfigSource.load_config = _loaded  # type: ignore[method-assign]
