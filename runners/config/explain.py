"""Puts Hydra's errors into one line: what was asked, what is wrong, what to type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from methods.registry import registered
from results.errors import nearest
from runners.config.compose import composing
from runners.root import CONFIGS


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
        return f"no key called '{name}'{_nearest_key(name, known_keys(arguments))}"
    unreadable = [a for a in arguments if not _is_readable(a)]
    if unreadable:
        return (
            f"cannot read '{unreadable[0]}' ({text.splitlines()[0]}); write KEY=VALUE, and lists in"
            " quotes as 'KEY=[a,b]'"
        )
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _nearest_key(name: str, known: Sequence[str]) -> str:
    """Name the key meant; where sections are named too (`lora.r`), among theirs first."""
    section, _, tail = name.rpartition(".")
    beside = [
        key for key in known if section and f".{key}".rpartition(".")[0].endswith(f".{section}")
    ]
    starts = [key for key in beside if key.rpartition(".")[2].startswith(tail)]
    return nearest(min(starts, key=len), starts) if starts else nearest(name, known)


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
    with nullcontext() if begun else composing():
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
