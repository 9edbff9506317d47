"""Float32 matrix products on a CPU through oneDNN, where that is the faster library.

torch gives them to MKL, which uses half of the vector width of some processors that Intel did not
make; oneDNN, which is in torch too, uses all of it. What is computed is the same but for the order
of a sum's terms. The kernels of `aten::mm` and `aten::addmm` are replaced below autograd, so that
forward and backward passes of every method take the same way.
"""

from __future__ import annotations

import time
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from runners.speed.lever import Lever

WORTH = 1.5  # times as fast as MKL


TIMES = 3  # that a measurement has to say so: one alone may have been disturbed


SMALLEST = 2**20  # multiplications in a product; below, oneDNN's overhead is what is measured


_route: Any = None  # torch.library.Library while products are routed


def route_products(on: bool, device: str, precision: str) -> bool:
    """Send this process's float32 products through oneDNN, or no longer; say whether they go there.

    They do where it is asked for, the device is a CPU, the precision fp32, and oneDNN is at least
    WORTH times as fast here.
    """
    wanted = on and device == "cpu" and precision == "fp32" and pays(torch.get_num_threads())
    if wanted != routed():
        _install() if wanted else _remove()
    return wanted


def routed() -> bool:
    """Say whether float32 products go through oneDNN now."""
    return _route is not None


@lru_cache
def pays(threads: int) -> bool:
    """Say whether oneDNN is worth it with so many threads; measured where it can be (60 ms)."""
    mkl, mkldnn = torch.backends.mkl, torch.backends.mkldnn
    there = mkl.is_available() and mkldnn.is_available()
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    if not there or not wide or _intel():
        return False
    return all(speed_ratio() >= WORTH for _ in range(TIMES))  # the first that does not ends it


def _intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return True  # unknown: leave torch as it is


def speed_ratio(rows: int = 512) -> float:
    """Return how many times as fast oneDNN multiplies [rows, 384] by [384, 1536] as MKL does.

    Processor time of this thread decides: the clock would count what other processes took.
    """
    left, right = torch.ones(rows, 384), torch.ones(1536, 384)
    seconds: dict[str, list[float]] = {"mkl": [], "onednn": []}
    with torch.inference_mode():
        for _ in range(6):  # in turns; the first of each also sets the library up
            for name, product in (("mkl", _by_torch), ("onednn", _by_onednn)):
                begun = time.thread_time()
                product(left, right)
                seconds[name].append(time.thread_time() - begun)
    return min(seconds["mkl"]) / min(seconds["onednn"])


def _by_torch(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return torch.mm(left, right.t(), out=left.new_empty(left.shape[0], right.shape[0]))


def _by_onednn(
    left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Return left · rightᵀ + bias, [rows, columns], by oneDNN."""
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return product


def _suits(left: torch.Tensor, right: torch.Tensor) -> bool:
    return (
        left.dtype is torch.float32
        and right.dtype is torch.float32
        and left.shape[0] * left.shape[1] * right.shape[1] >= SMALLEST
    )


def _install() -> None:
    global _route
    mm = torch.library.get_kernel("aten::mm", "CPU")
    addmm = torch.library.get_kernel("aten::addmm", "CPU")

    def routed_mm(keys: Any, left: torch.Tensor, right: torch.Tensor) -> Any:
        if _suits(left, right):
            return _by_onednn(left, right.t())
        return mm.call_boxed(keys, left, right)

    def routed_addmm(
        keys: Any,
        added: torch.Tensor,
        left: torch.Tensor,
        right: torch.Tensor,
        *,
        beta: float = 1,
        alpha: float = 1,
    ) -> Any:
        bias = added.dim() == 1 and added.shape[0] == right.shape[1] and beta == alpha == 1
        if bias and added.dtype is torch.float32 and _suits(left, right):
            return _by_onednn(left, right.t(), added)
        return addmm.call_boxed(keys, added, left, right, beta=beta, alpha=alpha)

    _route = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*Overriding a previously registered kernel")
        for name, kernel in (("mm", routed_mm), ("addmm", routed_addmm)):
            _route.impl(name, kernel, "CPU", with_keyset=True, allow_override=True)


def _remove() -> None:
    global _route
    _route._destroy()
    _route = None


class OneDNN(Lever):
    """speed.onednn; off, it also takes an earlier run's route away."""

    def device_chosen(self, precision: str) -> None:
        route_products(self.on, self.device, precision)

    def facts(self, model: Any) -> dict[str, Any]:
        return {"onednn_products": routed()}
