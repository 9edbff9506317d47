"""The device that a run trains on."""

from __future__ import annotations

import os
import resource
import sys
from typing import TYPE_CHECKING

from results.errors import UserError
from runners.config.check import RunConfig

if TYPE_CHECKING:
    from accelerate import Accelerator


_SHARED = "tunebench_shared"  # of a handle: what all handles of accelerate share


def make_accelerator(device: str, config: RunConfig) -> Accelerator:
    """Return accelerate's handle on one device, in place of an earlier run's.

    What the environment says to accelerate, as its own launcher does, changes nothing; where that
    is another device, it is a UserError.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import AutocastKwargs, GradientAccumulationPlugin

    from runners.speed.levers import Levers
    from runners.speed.repeat import repeats_on

    AcceleratorState._reset_state(reset_partial_state=True)
    mixed = "bf16" if config.precision == "bf16" else "no"
    Levers(config.settings.speed.switches, device).device_chosen(config.precision)
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
        reset_peak(device)
        # cuDNN compiles its attention for each length, which takes longer than a run gains by it.
        torch.backends.cuda.enable_cudnn_sdp(False)
    # What autocast keeps of one pass may lie in memory that a graph has for another.
    handlers = [AutocastKwargs(cache_enabled=False)] if repeats_on(device) else []
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision=mixed,
        kwargs_handlers=handlers,
        # Else the environment may divide each loss by a number of steps.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )
    if (taken := accelerator.device.type) != device.partition(":")[0]:
        raise UserError(
            f"device={device}: accelerate takes {taken}, as its variables say (ACCELERATE_…);"
            " unset them, or start without its launcher"
        )
    shared = [dict(kind._shared_state) for kind in (PartialState, AcceleratorState)]
    vars(accelerator)[_SHARED] = shared
    return accelerator


def put_in_place(accelerator: Accelerator) -> None:
    """Let what accelerate shares among its handles be again as `make_accelerator` left it.

    A handle that was made later, as for another model in one process, had replaced precision and
    device.
    """
    from accelerate.state import AcceleratorState, PartialState

    kinds = (PartialState, AcceleratorState)
    for kind, own in zip(kinds, vars(accelerator)[_SHARED], strict=True):
        kind._shared_state.clear()
        kind._shared_state.update(own)


def set_threads(threads: int | None) -> None:
    """Fix the number of CPU threads; call before torch is imported."""
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if "torch" in sys.modules and threads is not None:
        import torch

        torch.set_num_threads(threads)


def choose_device(device: str) -> str:
    """Return cpu, mps or cuda:N for what was asked; a device that is not there is a UserError."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda:0" if count else "cpu"
    if device == "mps":
        if not torch.backends.mps.is_available():
            raise UserError(
                "device=mps: this machine has no Apple GPU that torch can use; use device=cpu"
            )
        return device
    if device.startswith("cuda"):
        index = int(device.partition(":")[2] or 0)
        if index >= count:
            gpus = f"{count} GPU{'s' if count != 1 else ''}"
            raise UserError(
                f"device={device}: torch sees {gpus} here; use device=cpu or device=auto"
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


def reset_peak(device: str) -> None:
    """Begin the GPU's peak memory anew; what was resident on a CPU is the whole process's."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: str) -> int:
    """Return this process's peak memory: the GPU's if it trains there, else what was resident."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
