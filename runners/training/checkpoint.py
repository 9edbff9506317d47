"""Checkpoints of one run: whole or not there, checked when read, nothing pickled.

A checkpoint is one safetensors file: the tensors of a nested state, and in its metadata the shape
of that state as JSON, the run's name and a hash of every tensor. The last two are kept, so that a
damaged one leaves the one before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from results.whole import whole
from runners.machine.console import first_line

FORMAT = "tunebench checkpoint 1"


KEPT = 2


Tensors = dict[str, torch.Tensor]


def flatten(state: Any, tensors: Tensors) -> Any:
    """Return a JSON-ready image of nested dicts, lists, tuples, scalars and tensors.

    The tensors go to `tensors` under the names that the image holds. Anything else is a TypeError.
    """
    if isinstance(state, torch.Tensor):
        name = f"{len(tensors):06d}"
        tensors[name] = state.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(state, dict):
        return {"dict": [[flatten(k, tensors), flatten(v, tensors)] for k, v in state.items()]}
    if isinstance(state, list | tuple):
        kind = "tuple" if isinstance(state, tuple) else "list"
        return {kind: [flatten(v, tensors) for v in state]}
    if state is None or isinstance(state, bool | int | float | str):
        return state
    raise TypeError(f"a state holds {type(state).__name__}, which a checkpoint cannot keep")


def unflatten(image: Any, tensors: Tensors) -> Any:
    """Return the state that `flatten` made the image of."""
    if not isinstance(image, dict):
        return image
    [(kind, content)] = image.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {unflatten(k, tensors): unflatten(v, tensors) for k, v in content}
    values = [unflatten(v, tensors) for v in content]
    return tuple(values) if kind == "tuple" else values


def digest(tensors: Tensors, image: str) -> str:
    """Return a hash of every tensor's name, type, shape and bytes, and of the image."""
    hashed = hashlib.sha256(image.encode())
    for name, tensor in sorted(tensors.items()):
        hashed.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


def _step_of(path: Path) -> int:
    return int(path.stem.partition("-")[2])


class Checkpoints:
    """The checkpoints of one run, in a folder of their own below the records."""

    def __init__(self, records: Path, run: str, say: Callable[[str], None]) -> None:
        self.folder, self.run, self.say = records / ".checkpoints" / run, run, say

    def _files(self) -> list[Path]:
        """Return the checkpoints there are, newest first."""
        named = (re.fullmatch(r"step-(\d{9})\.safetensors", p.name) for p in self._listed())
        steps = sorted((int(m.group(1)) for m in named if m), reverse=True)
        return [self._file(step) for step in steps]

    def _listed(self) -> list[Path]:
        return list(self.folder.iterdir()) if self.folder.is_dir() else []

    def _file(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}.safetensors"

    def save(self, step: int, state: dict[str, Any]) -> bool:
        """Write a checkpoint and drop old ones; say so and return False where there is no room."""
        tensors: Tensors = {}
        image = json.dumps(flatten(state, tensors))
        facts = {
            "format": FORMAT,
            "run": self.run,
            "torch": torch.__version__,
            "state": image,
            "sha256": digest(tensors, image),
        }
        try:
            with whole(self._file(step)) as temporary:
                save_file(tensors, temporary, metadata=facts)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.say(f"checkpoint of step {step} not written ({reason}); the run goes on without")
            return False
        # Those of later steps were of no use when the run began anew, and must not oust this one.
        for old in [path for path in self._files() if _step_of(path) <= step][KEPT:]:
            old.unlink(missing_ok=True)
        return True

    def newest(self) -> tuple[int, dict[str, Any]] | None:
        """Return step and state of the newest checkpoint that is whole; name those that are not."""
        for path in self._files():
            try:
                state = self._read(path)
            except (OSError, SafetensorError, ValueError, KeyError) as error:
                self.say(f"checkpoint {path} is not used: {first_line(error)}")
                continue
            return _step_of(path), state
        return None

    def _read(self, path: Path) -> dict[str, Any]:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if facts.get("format") != FORMAT:
            raise ValueError("it is no checkpoint of this project")
        if facts["run"] != self.run:
            raise ValueError(f"it belongs to {facts['run']}")
        if facts["torch"] != torch.__version__:
            raise ValueError(f"torch {facts['torch']} wrote it, this is {torch.__version__}")
        if digest(tensors, facts["state"]) != facts["sha256"]:
            raise ValueError("its content is not what was written")
        state: dict[str, Any] = unflatten(json.loads(facts["state"]), tensors)
        return state

    def remove(self) -> None:
        """Remove all checkpoints of the run, and the folder when it holds no other run's."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()
