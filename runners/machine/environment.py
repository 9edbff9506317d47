"""What a run ran on: libraries, commit, device, threads, memory."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from runners.root import ROOT

_LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "peft", "datasets", "evaluate",
              "scikit-learn", "scipy", "numpy", "hydra-core")  # fmt: skip


# What sums to the last digit depend on.
SAME_MACHINE = (
    *("device", "device_name", "threads", "libraries", "python", "system"),
    "onednn_products",
)


def describe_environment(device: str, precision: str) -> dict[str, Any]:
    """Return the environment part of the record."""
    import torch

    on_gpu = device.startswith("cuda")
    return {
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        **commit(),
        "device": device.partition(":")[0],
        "device_name": torch.cuda.get_device_name(device) if on_gpu else cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "shared_device": os.environ.get("TUNEBENCH_SHARED_DEVICE") == "1",
        **({"mps": True} if on_gpu and has_mps() else {}),
        # Of fp32 products; some images of torch have it so, by TORCH_ALLOW_TF32_CUBLAS_OVERRIDE.
        **({"tf32": True} if on_gpu and torch.get_float32_matmul_precision() != "highest" else {}),
        "runs_beside": int(os.environ.get("TUNEBENCH_RUNS_BESIDE", 0)),
        "system": f"{platform.system()} {platform.machine()}",
    }


def has_mps() -> bool:
    """Say whether NVIDIA's MPS server takes this machine's processes: CUDA finds it where it is."""
    place = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))  # CUDA's default
    return (place / "control").exists()


def _holds_no_code(folder: Path) -> bool:
    return folder.is_dir() and not (folder / "__init__.py").exists()


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cpu_name() -> str:
    """Return the processor's model name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def of_several(code: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a record says of its code where several processes did the run; `code` is theirs.

    That is nothing where it was the same in all. Else it was changed where one's was.
    """
    if len(code) < 2:
        return {}
    changed = [one.get("dirty") for one in code]
    dirty = True if True in changed else None if None in changed else False
    return {"commits": [one.get("commit") for one in code], "dirty": dirty}


def machine_of(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides the last digits of a process's sums, and its seconds.

    On a GPU that is shared it does not matter with how many others.
    """
    is_shared = bool(environment.get("shared_device")) and environment.get("device") != "cpu"
    beside = "shared" if is_shared else environment.get("runs_beside")
    return {**{key: environment.get(key) for key in SAME_MACHINE}, "beside": beside}


def of_machines(machines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a record says where the processes of a run had different environments.

    `machines` are what `machine_of` has of each, and the switches of speed; older checkpoints tell
    of fewer. A switch that one with others lacks was not there yet, and is off. The values that
    they do not share stand in their order.
    """
    switches = [key for key in machines[-1] if key.startswith("speed.")]
    not_yet = dict.fromkeys(switches, False)
    machines = [{**not_yet, **one} if not_yet.keys() & one else one for one in machines]
    known = [key for key in machines[-1] if all(key in one for one in machines)]
    changed = {
        key: [one[key] for one in machines]
        for key in known
        if any(one[key] != machines[0][key] for one in machines)
    }
    return {"changed": changed} if changed else {}


def commit() -> dict[str, Any]:
    """Return the code's commit and whether it was changed since; records are not code.

    Nothing is written: killed meanwhile, git would leave a lock in the repository.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "--no-optional-locks", "-C", str(ROOT), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    top = git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != ROOT.resolve():  # of another project around this one
        return {"commit": None, "dirty": None}
    head = git("rev-parse", "HEAD")
    data = [d.name for d in sorted((ROOT / "results").glob("*")) if _holds_no_code(d)]
    kept = [f":!results/{name}" for name in data]
    changes = git("status", "--porcelain", "--", ".", *kept)
    return {"commit": head, "dirty": None if changes is None else bool(changes)}
