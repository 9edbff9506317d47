"""Puts Hydra's errors into one line: what was asked, what is wrong, what to type."""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from methods.registry import default_options, registered
from results.errors import UserError, nearest
from results.places import program
from runners.config.compose import compose, composing
from runners.config.own_files import refuse_hidden
from runners.config.typed import CONFIG_DIR, key_of, options_apart
from runners.root import CONFIGS


def compose_explained(typed: Sequence[str], folder: Path | None) -> dict[str, Any]:
    """Return what the command line would compose; an error of Hydra's is a UserError.

    A `folder` is what `--config-dir` names; a file there that is never read is a UserError too.
    """
    if folder is not None:
        refuse_hidden(folder)
    try:
        return compose(typed, folder)
    except (HydraException, OmegaConfBaseException) as error:
        options = [] if folder is None else [CONFIG_DIR[0], str(folder)]
        raise UserError(explain(error, [*options, *typed])) from None
    except ValueError as error:
        if problem := below_list(error, typed):
            raise UserError(problem) from None
        raise


def below_list(error: Exception, arguments: Sequence[str]) -> str | None:
    """Explain a key that is typed below a list, of which OmegaConf raises a bare ValueError."""
    word = re.fullmatch(r"invalid literal for int\(\) with base 10: '(.+)'", str(error))
    last = next(reversed(list(traceback.walk_tb(error.__traceback__))), None)
    if word is None or last is None or "omegaconf" not in Path(last[0].f_code.co_filename).parts:
        return None
    for key in map(key_of, arguments):
        where, _, below = key.rpartition(".")
        if below == word.group(1):
            return f"{key}: {where} is a list; type all of it, as in {where}=[a,b]"
    return None


def explain(error: Exception, arguments: Sequence[str]) -> str:
    """Put an error of Hydra's into one line: what was asked, what is wrong, what to type."""
    text = str(error) or str(error.__cause__ or type(error).__name__)
    group = re.search(r"Could not (?:find|load) '([\w-]+)/([^']+)'", text)
    if group:
        kind, name = group.groups()
        listed = re.findall(r"^\t(\S+)$", text.split("Config search path")[0], flags=re.MULTILINE)
        known = listed or list(registered() if kind == "method" else _shipped(kind))
        if (kind, name) == ("task", "ax"):
            return "no task called 'ax': it is a report-only split of task=mnli, reported with it"
        of_file = re.match(r"In '([^']+/[^']+)': Could not", text)
        where = f"{of_file.group(1)}.yaml: defaults: " if of_file else ""
        return f"{where}no {kind} called '{name}'{nearest(name, known)}"
    key = re.search(r"Could not override '([^']+)'|Key '([^']+)' is not in struct", text)
    if key:
        name = key.group(1) or key.group(2)
        known = known_keys(arguments)
        if name == "method" and (problem := _options_alone(arguments)):
            return problem
        if name.startswith("task.mlm") and "task.mlm" not in known:
            return "mlm. keys go with a task that predicts masked tokens: type task=mlm"
        return f"no key called '{name}'{_nearest_key(name, known)}"
    return _of_values(text, arguments) or _unreadable(text, arguments)


def _options_alone(arguments: Sequence[str]) -> str | None:
    """Explain that a method's options are typed and no method is named."""
    typed = next((a for a in arguments if a.startswith("method=")), None)
    if typed is None:
        return None
    return options_apart(typed, OverridesParser.create().parse_override(typed).value())


def _of_values(text: str, arguments: Sequence[str]) -> str | None:
    """Explain an error of a value that is another key's, of several values, or of a folder."""
    taken = re.search(r"Interpolation key '([^']+)' not found", text)
    key = re.search(r"full_key: (\S+)", text)
    where = f"{key.group(1)}: " if key else ""
    if taken:
        name = taken.group(1)
        return f"{where}no key called '{name}'{_nearest_key(name, known_keys(arguments))}"
    above = re.search(r"Error trying to access (\S+): node `([^`]+)` is not a container", text)
    if above:
        name, one = above.groups()
        return f"{one}: it is one value, and {name} is read from it; type {name}=VALUE"
    if "Recursive interpolation" in text:
        return f"{where}it would be its own value; write the value itself"
    several = re.search(r"Ambiguous value for argument '([^']+)'", text)
    if several:
        return (
            f"{several.group(1)} has several values; -m makes a run of each, and quotes make one"
            " text of them, as \"KEY='a,b'\""
        )
    other = re.search(r"Error merging override (.+)", text)
    if other:
        return (
            f"{other.group(1)}: another kind of value stands there; a list is [a, b], keys and"
            " values are {a: b}"
        )
    folder = re.search(r"Additional config directory '([^']+)' not found", text)
    if folder:
        return f"--config-dir {folder.group(1)}: no such folder; name one with task/, board/, …"
    return None


def _unreadable(text: str, arguments: Sequence[str]) -> str:
    """Explain any other error, by the first argument that cannot be read, if there is one."""
    folders = [after for option, after in pairwise(arguments) if option in CONFIG_DIR]
    unreadable = [a for a in arguments if a not in folders and not _is_readable(a)]
    if unreadable:
        return (
            f"cannot read '{unreadable[0]}' ({text.splitlines()[0]}); write KEY=VALUE, and lists in"
            " quotes as 'KEY=[a,b]'"
        )
    lines = [line.strip() for line in text.splitlines() if not line.startswith("See https://")]
    return " ".join(line for line in lines if line)


def _nearest_key(name: str, known: Sequence[str]) -> str:
    """Name the key meant; where sections are named too (`lora.r`), among theirs first."""
    if name in known:
        return f"; the file that was chosen leaves it out: type +{name}=VALUE"
    section, _, tail = name.rpartition(".")
    method = section.removeprefix("method.")
    if method in registered() and not any(key.startswith(f"method.{method}.") for key in known):
        options = [f"method.{method}.{option}" for option in default_options(registered()[method])]
        return _among(tail, options).replace("?", f", with method={method}?")
    beside = [
        key for key in known if section and f".{key}".rpartition(".")[0].endswith(f".{section}")
    ]
    return _among(tail, beside) if beside else _nearest(name, known)


def _among(tail: str, keys: Sequence[str]) -> str:
    """Name the key whose last part a tail begins, or is most like."""
    last = {key.rpartition(".")[2]: key for key in keys}
    starts = sorted((part for part in last if part.startswith(tail)), key=len)
    close = starts or difflib.get_close_matches(tail, last, n=1, cutoff=0.6)
    return f"; did you mean {last[close[0]]}?" if close else f"; known: {', '.join(sorted(keys))}"


def _nearest(name: str, known: Sequence[str]) -> str:
    """Name the key most like a word, or else where keys may be looked for."""
    guess = nearest(name, known)
    if guess.startswith("; known"):
        sections = ", ".join(sorted({key.partition(".")[0] for key in known}))
        return f"; known: {sections}, and what {program()} --help shows"
    return guess


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
