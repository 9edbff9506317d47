"""Reads a user's own configurations, which set keys of their own group and run no code.

Hydra lets any file set any key. Its callbacks are among them: it imports and calls what they name.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from results.errors import UserError
from runners.config.resolvers import refuse_resolvers
from runners.root import CONFIGS

_NAME = re.compile(r"[\w.+-][\w.+ -]*(/[\w.+ -]+)*")  # of a file in the same folder or below it


def check_own_files() -> None:
    """Have Hydra read every file of configurations by `FileConfigSource` below."""
    SourcesRegistry.instance().types["file"] = FileConfigSource


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's source of files under Hydra's name for it, of which it registers only one."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Return a file's content; what a user's own may not say is a UserError that names it."""
        path = Path(self.path, self._normalize_file_name(config_path))
        if path.resolve().is_relative_to(CONFIGS.resolve()):
            return super().load_config(config_path)
        group = config_path.partition("/")[0]
        if group not in groups() or "/" not in config_path:
            listed = ", ".join(f"{name}/" for name in groups())
            raise UserError(f"{path} is read for no group; a file of your own lies in {listed}")
        text = _text(path)
        content = _mapping(path, text)
        try:
            header = self._get_header_dict("\n".join(_head(text)))
            problem = next(_problems(content, header["package"], group), None)
        except ValueError as error:
            problem = f"{error}; write '# @package {group}', or leave the line out"
        if problem is not None:
            raise UserError(f"{path}: {problem}")
        refuse_resolvers(OmegaConf.to_container(content, resolve=False), f"{path}: ")
        return ConfigResult(self.provider, f"{self.scheme()}://{self.path}", content, header)


def groups() -> list[str]:
    """Return the names of the groups that a configuration has files of."""
    return sorted(path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name[0] != "_")


def refuse_hidden(folder: Path) -> None:
    """Raise UserError for a file that is never read, as a shipped one has its name."""
    for group in groups():
        for path in sorted((folder / group).glob("*.yaml")):
            shipped = CONFIGS / group / path.name
            if shipped.is_file() and shipped.read_bytes() != path.read_bytes():
                raise UserError(
                    f"{path} is not read: there is a shipped {group} of that name; call the file"
                    f" otherwise, as my_{path.name}"
                )


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8") from None


def _mapping(path: Path, text: str) -> DictConfig:
    """Return the keys that a file sets."""
    try:
        content = OmegaConf.load(io.StringIO(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where} is no YAML: {error.problem}; write KEY: VALUE") from None
    except (
        *(yaml.YAMLError, OmegaConfBaseException),
        *(OSError, ValueError, RecursionError),
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is no YAML of keys and values: {reason}") from None
    if not isinstance(content, DictConfig) or not content:
        raise UserError(f"{path} holds no keys; write KEY: VALUE, a line each")
    return content


def _head(text: str) -> Iterator[str]:
    """Yield the lines of comments that a file begins with, of which some may speak to Hydra."""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            return
        yield line


def _problems(content: DictConfig, package: str | None, group: str) -> Iterator[str]:
    """Yield what would reach beyond the file's group, or have code run."""
    own = re.compile(rf"_group_|{group}(\.(?!_)[\w-]+)*")
    if package is not None and not own.fullmatch(package):
        yield (
            f"'# @package {package}' leaves its group; a {group} of your own sets {group}'s keys"
            f" only: write '# @package {group}{'.NAME' if group == 'method' else ''}'"
        )
    plain = OmegaConf.to_container(content, resolve=False)
    assert isinstance(plain, dict)
    if "hydra" in plain:
        yield f"hydra is no key of a {group}; Hydra's settings are typed in the command"
    for name in _defaults(plain.get("defaults", [])):
        if not isinstance(name, str) or not _NAME.fullmatch(name) or _goes_out(name):
            yield (
                f"defaults: {name} is no file of {group}/; list names of such files, and type the"
                " others in the command"
            )
    for key in _keys(plain):
        if key.rpartition(".")[2] == "_target_":
            yield f"{key} names code to run; a configuration holds values only"


def _goes_out(name: str) -> bool:
    return name.split("/")[0] == "hydra" or ".." in name.split("/")


def _defaults(listed: Any) -> Iterator[object]:
    """Yield each name of a group or a file in a list of defaults, and whatever is no name."""
    for default in listed if isinstance(listed, list) else [str(listed)]:
        if not isinstance(default, dict) or len(default) != 1:
            yield default
            continue
        [(group, names)] = default.items()
        yield str(group).split(" ")[-1]  # after optional or override
        yield from names if isinstance(names, list) else [names]


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _keys(value, f"{prefix}{key}.")
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from _keys(value, f"{prefix}{place}.")
