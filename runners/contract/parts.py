"""What the contract takes from the rest of the project: a configuration, and a loop of it."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from methods.method import Method
from methods.registry import method_class
from runners.config.check import RunConfig, check
from runners.config.compose import compose
from runners.jobs.job import Job
from runners.machine.device import make_accelerator, make_deterministic
from runners.models.build import trained_sha256
from runners.models.pretrained import Loaded
from runners.root import CONFIGS
from runners.training.loop import Loop
from runners.training.prepare import prepare

SMALL = (
    *("data=embedded", "data.train_size=48", "data.eval_size=24", "data.balanced=all"),
    *("budget=smoke", "device=cpu"),
)


@functools.cache
def composed(overrides: tuple[str, ...], config_dir: Path | None = None) -> dict[str, Any]:
    """Return what run.py would compose; not to be changed, as it is composed once."""
    return compose(overrides, config_dir)


def configure(*overrides: str, config_dir: Path | None = None) -> RunConfig:
    """Compose and check a configuration as run.py does."""
    return check(copy.deepcopy(composed(overrides, config_dir)))


def prepared(config: RunConfig) -> tuple[Loop, Loaded]:
    """Return the loop of a run on the CPU before its first step, and what was loaded."""
    make_deterministic()
    ready = prepare(Job(config), make_accelerator("cpu", config))
    return ready.loop, ready.loaded


def kept_sha256(loop: Loop) -> str:
    """Return the hash of the weights that a run is evaluated with and would leave now."""
    with loop.averages.evaluated():
        return trained_sha256(loop.model)


def tiny(folder: Path, *more: str) -> list[str]:
    """Return the arguments of a run that takes a second: a tiny model, few examples, few steps."""
    return [*SMALL, f"model.name_or_path={folder}", *more]


def typed(method: str, options: Mapping[str, Any]) -> list[str]:
    """Return the arguments that set options of a method."""
    return _typed(f"method.{method}", options)


def _typed(section: str, options: Mapping[str, Any]) -> list[str]:
    return [
        argument
        for key, value in options.items()
        for argument in (
            _typed(f"{section}.{key}", value)
            if isinstance(value, Mapping)
            else [f"{section}.{key}={json.dumps(value)}"]
        )
    ]


def narrow(method: str) -> list[str]:
    """Return the arguments that choose a method with options that fit a tiny model."""
    return [f"method={method}", *typed(method, method_class(method).narrow)]


def task_of(method: str, otherwise: str) -> str:
    """Return the task that suits a method: sts where it makes vectors of sentences.

    It is tastes where it needs attributes.
    """
    cls = method_class(method)
    return "sts" if cls.represents else "tastes" if "attributes" in cls.needs else otherwise


def yaml_of(method: type[Method], config_dir: Path | None = None) -> Path | None:
    """Return the YAML that holds a method's options, None where its class alone does."""
    folders = [CONFIGS, *([] if config_dir is None else [config_dir])]
    paths = [folder / "method" / f"{method.name}.yaml" for folder in folders]
    return next((path for path in paths if path.is_file()), None)
