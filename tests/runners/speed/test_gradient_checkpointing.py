"""Layers computed again for their gradients: the same to the bit, less kept, off by default."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from methods.surgery.places import layers
from methods.surgery.streams import Streams
from results.errors import UserError
from results.record import read_all
from runners.models.build import trained_sha256
from runners.speed.gradient_checkpointing import GradientCheckpointing, Replayed
from tests.conftest import Cli, architectures, tiny
from tests.methods.reference import prepared_run

ON = "speed.gradient_checkpointing=true"
SIZE = ("data.train_size=16", "budget.batch_size=8", "budget.warmup=0", "budget.dropout=0.3")


def _trained(folder: Path, *arguments: str) -> tuple[list[float], str, int, Counter[str]]:
    """Return losses, the hash of what was trained, bytes kept of a pass, and layers' calls."""
    ready = prepared_run(folder, *SIZE, *arguments)
    loop = ready.loop
    loop.start(ready.encoded)
    calls: Counter[str] = Counter()
    every = layers(loop.model, "full")
    for layer in every:
        inner = layer.at("expansion")
        inner.register_forward_pre_hook(lambda *_, name=layer.name: calls.update([name]))
    own = [type(layer.module) for layer in every]
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loop.forward(loop.batch(next(iter(loop.order.batches(0, 1)))))
    calls.clear()
    loop.run(2)
    loop.finish()
    assert all(
        type(layer.module).__name__ == cls.__name__.removeprefix("Twice")
        for layer, cls in zip(every, own, strict=True)
    )
    return loop.progress.losses, trained_sha256(loop.model), sum(kept.values()), calls


@pytest.mark.parametrize("architecture", architectures("t5"))
def test_training_is_the_same_to_the_bit_and_keeps_less(
    architecture: str, tiny_folder: Callable[[str], Path]
) -> None:
    plain = _trained(tiny_folder(architecture))
    ours = _trained(tiny_folder(architecture), ON)
    assert plain[:2] == ours[:2]
    assert ours[2] < plain[2]
    assert ours[3] == Counter({name: 2 * calls for name, calls in plain[3].items()})


def test_a_run_says_so_and_keeps_its_name(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    records = []
    for more in ([], [ON]):
        assert cli(*tiny(tiny_folder("bert"), *SIZE, *more), "force=true").code == 0
        [record] = read_all(tmp_path / "runs")
        records.append(record)
    assert records[0].run == records[1].run
    assert records[0].trained_sha256 == records[1].trained_sha256
    assert ["gradient_checkpointing" in r.environment for r in records] == [False, True]


def test_streams_of_methods_are_set_back_and_then_go_on() -> None:
    """One that was made during the first pass begins again at its seed."""
    plain, streams = torch.Generator().manual_seed(3), Streams(torch.Generator().manual_seed(4))
    method: Any = SimpleNamespace(generator=plain, streams=streams)
    replayed = Replayed([method])
    like = torch.empty(5)

    def draw() -> list[torch.Tensor]:
        return [torch.rand(5, generator=plain), streams.normal(like, 1.0)]

    first, again = replayed.both_passes()
    with first:
        drawn = draw()
    after = draw()
    with again:
        assert all(map(torch.equal, draw(), drawn))
    further = draw()
    plain.manual_seed(3)
    streams.load_state_dict({"seed": streams.seed, "states": {}})
    in_a_row = [draw(), draw(), draw()]
    for ours, theirs in zip([drawn, after, further], in_a_row, strict=True):
        assert all(map(torch.equal, ours, theirs))


def test_a_model_whose_layers_are_not_known_is_refused() -> None:
    model = SimpleNamespace(config=SimpleNamespace(model_type="gpt2"))
    with pytest.raises(UserError, match=r"speed\.gradient_checkpointing=true: .* a gpt2 model"):
        GradientCheckpointing(True, "cpu").model_loaded(model)
