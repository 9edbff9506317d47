"""What a run ran on: libraries, commit, device, threads, memory."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from results.errors import UserError

_LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "peft", "datasets", "evaluate",
              "scikit-learn", "scipy", "numpy", "hydra-core")  # fmt: skip
_ROOT = Path(__file__).resolve().parent.parent


def set_threads(threads: int | None) -> None:
    """Fix the number of CPU threads; call before torch is imported."""
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if "torch" in sys.modules and threads is not None:
        import torch

        torch.set_num_threads(threads)


def choose_device(asked: str) -> str:
    """Return cpu, mps or cuda:N for what was asked; a device that is not there is a UserError."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto":
        return "cuda:0" if count else "cpu"
    if asked == "mps":
        if not torch.backends.mps.is_available():
            raise UserError(
                "device=mps: this machine has no Apple GPU that torch can use; use device=cpu"
            )
        return asked
    if asked.startswith("cuda"):
        index = int(asked.partition(":")[2] or 0)
        if index >= count:
            found = f"{count} GPU{'s' if count != 1 else ''}"
            raise UserError(
                f"device={asked}: torch sees {found} here; use device=cpu or device=auto"
            )
        return f"cuda:{index}"
    return "cpu"


def computes_bf16(device: str) -> bool:
    """Say whether a device multiplies bfloat16 matrices itself; a CPU that does not emulates it.

    Emulated products are many times slower than float32 ones.
    """
    import torch

    return device != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def make_deterministic() -> None:
    """Ask torch for deterministic kernels; an operation that has none warns and runs."""
    import torch

    torch.set_deterministic_debug_mode("warn")  # as use_deterministic_algorithms, without inductor
    # Filling fresh memory only makes bugs visible, and costs a write of every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def describe_environment(device: str, precision: str) -> dict[str, Any]:
    """Return the environment part of the record."""
    import torch

    from runners.products import routed

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
        "onednn_products": routed(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "shared_device": os.environ.get("TUNEBENCH_SHARED_DEVICE") == "1",
        "runs_beside": int(os.environ.get("TUNEBENCH_RUNS_BESIDE", 0)),
        "system": f"{platform.system()} {platform.machine()}",
    }


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


def commit() -> dict[str, Any]:
    """Return the code's commit and whether it was changed since; records are not code."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(_ROOT), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    head = git("rev-parse", "HEAD")
    kept = [f":!results/{name}" for name in ("runs", "boards", "searches", "embedded")]
    changes = git("status", "--porcelain", "--", ".", *kept)
    return {"commit": head, "dirty": None if changes is None else bool(changes)}


def release_memory() -> None:
    """Give freed memory that glibc's allocator keeps back to the system; nothing elsewhere."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@functools.cache
def _c_library() -> Any:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def peak_bytes(device: str) -> int:
    """Return this process's peak memory: the GPU's if it trains there, else what was resident."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
