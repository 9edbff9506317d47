"""What a method put into the encoder goes on in the next run as it was left, or is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.registry import registered
from methods.surgery.inserted import inserts
from results.errors import UserError
from results.record import Record, read
from runners.contract.parts import task_of
from runners.exports.delta import load_delta
from runners.jobs.identity import recorded_name
from runners.jobs.job import Job
from runners.models.pretrained import Loaded
from runners.training.start import Left, build_model, left_in
from tests.conftest import EACH_KIND, SOAK, Cli, configure, narrow, tiny
from tests.shapes import perturb_trained
from tests.tiny import tiny_batch

Folder = Callable[[str], Path]
DRAWN = {"fourierft", "randlora", "shira", "vera"}  # some of what each keeps frozen, by seed
ADAPTER = ["method=adapter", "method.adapter.size=8"]
PROJECTED = ["method=prefix", "method.prefix.projection=true", "method.prefix.projection_size=8"]
TRIED = sorted(
    name
    for name, cls in registered().items()
    if inserts(cls()) and (SOAK or name in {*EACH_KIND, *DRAWN, "pissa", "olora", "lora"})
)


def _states(model: Any, folder: Path, attributes: int = 0) -> torch.Tensor:
    """Return the last layer's states of the first tokens of a few texts."""
    seen: list[Any] = []
    hook = model.bert.encoder.layer[-1].register_forward_hook(lambda *args: seen.append(args[2]))
    batch = {k: t for k, t in tiny_batch(folder).items() if k != "labels"}
    if attributes:
        batch["attributes"] = torch.ones(len(batch["input_ids"]), attributes, 1, dtype=torch.int64)
    with torch.no_grad():
        model.eval()(**batch)
    hook.remove()
    states: torch.Tensor = seen[0] if torch.is_tensor(seen[0]) else seen[0][0]
    return states[:, 0]


def _trained(job: Job) -> tuple[Loaded, Left]:
    """Return a job's model as if it was trained, and what it leaves."""
    loaded = build_model(job, 3)
    perturb_trained(loaded.model)
    return loaded, left_in(loaded, "R", job.config.methods)


@pytest.mark.parametrize("method", TRIED)
def test_states_are_those_that_the_other_run_left_with_another_seed_too(
    method: str, tiny_folder: Folder
) -> None:
    folder = tiny_folder("bert")
    given = [*tiny(folder, f"task={task_of(method, 'rte')}"), *narrow(method)]
    first = Job(configure(*given, "seed=1"))
    loaded, left = _trained(first)
    typed: list[str] = []
    if method in DRAWN:
        with pytest.raises(UserError, match="would compute something else in this run") as refused:
            build_model(Job(configure(*given, "seed=2")), 3, left)
        typed = re.findall(r"method\.\S+=\d+", str(refused.value))
        assert len(typed) == 1
    second = build_model(Job(configure(*given, "seed=2", "start.freeze=true", *typed)), 3, left)
    known = len(first.attributes)
    theirs, ours = (_states(m.model, folder, known) for m in (loaded, second))
    assert torch.equal(theirs, ours)
    assert not torch.equal(ours, _states(build_model(first, 3).model, folder, known))


@pytest.mark.parametrize(
    ("first", "more", "said"),
    [
        (["method=lora"], ["method.lora.alpha=32"], r"query of its encoder would compute .* else"),
        (ADAPTER, ["method.adapter.activation=relu"], r"activation=gelu_new.* type that"),
        (["method=prompt"], ["method.prompt.place=after_cls"], r"prompt\.place=before, .* type"),
        (["method=raft"], ["method.raft.pooler=keep"], r"put bert\.pooler\.activation.* no place"),
        (PROJECTED, [], "an MLP, which is not kept, .* type start.freeze=true"),
        (PROJECTED, ["method.prefix.length=3"], "no place"),
    ],
)
def test_options_with_which_it_would_be_something_else_are_one_sentence(
    first: list[str], more: list[str], said: str, tiny_folder: Folder
) -> None:
    given = tiny(tiny_folder("bert"), "task=rte", *first)
    _, left = _trained(Job(configure(*given)))
    with pytest.raises(UserError, match=f"^R: .*{said}"):
        build_model(Job(configure(*given, *more)), 3, left)


@pytest.mark.parametrize(
    "typed",
    [["method=pissa"], narrow("unipelt"), PROJECTED, ["method=raft"]],
    ids=["pissa", "unipelt", "prefix", "raft"],
)
def test_a_head_is_trained_on_what_a_delta_holds_and_the_next_delta_holds_it_too(
    typed: list[str], cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out, folder = tmp_path / "runs", tiny_folder("bert")
    rate = ["method.raft.lr_rational=0.01"] if typed == ["method=raft"] else []
    small = tiny(folder, *typed, *rate, "lr=0.01", "budget.warmup=0", "budget.steps=2")
    first = _ended(cli, out, *small, "task=mnli")
    probe = _ended(cli, out, *small, "task=rte", f"start={first.run}", "start.freeze=true")
    assert probe.parameters["trainable_without_head"] == 0
    assert probe.weights["start"]["version"] == 2
    assert recorded_name(probe) == probe.run
    again = Job(
        configure(*small, "task=rte", f"start={probe.run}", "start.freeze=true", f"out={out}")
    )
    again_states = _states(build_model(again, 3).model, folder)
    theirs, ours = (load_delta(out / f"{r.run}.delta").loaded.model for r in (first, probe))
    assert torch.equal(_states(theirs, folder), _states(ours, folder))
    assert torch.equal(_states(ours, folder), again_states)
    fresh = build_model(Job(configure(*small, "task=rte")), 3).model
    assert not torch.allclose(_states(ours, folder), _states(fresh, folder), atol=1e-4)
    if typed == ["method=raft"]:
        named = [dict(m.named_parameters()) for m in (theirs, ours, fresh)]
        pooler = [own["bert.pooler.activation.numerator"] for own in named]
        assert torch.equal(pooler[0], pooler[1])
        assert not torch.equal(pooler[0], pooler[2])


def _ended(cli: Cli, out: Path, *arguments: str) -> Record:
    before = set(out.glob("*.json"))
    done = cli(*arguments, "save=delta", f"out={out}")
    assert done.code == 0, done.err
    [path] = set(out.glob("*.json")) - before
    return read(path)


@pytest.mark.parametrize("typed", [PROJECTED, narrow("unipelt")], ids=["prefix", "unipelt"])
def test_a_prefix_that_is_kept_alone_follows_the_model(
    typed: list[str], tiny_folder: Folder
) -> None:
    given = tiny(tiny_folder("bert"), "task=rte", *typed)
    _, left = _trained(Job(configure(*given)))
    model: Any = build_model(Job(configure(*given, "start.freeze=true")), 3, left).model.double()
    prefixes = model.prefixes() if "method=unipelt" in typed else model.prompt_encoder()
    assert prefixes.dtype == torch.float64


def _merged(layer: Any) -> torch.Tensor:
    whole: torch.Tensor = layer.base_layer.weight + layer.get_delta_weight("default")
    return whole


def test_matrices_are_split_where_there_is_no_pair_yet_and_noise_stays(
    tiny_folder: Folder,
) -> None:
    name = "bert.encoder.layer.0.attention.self.query"
    given = tiny(tiny_folder("bert"), "task=rte")
    whole, left = _trained(Job(configure(*given, "method=full")))
    split = build_model(Job(configure(*given, "method=pissa")), 3, left).model
    layer, before = split.get_submodule(name), whole.model.get_submodule(name).weight
    assert not torch.allclose(layer.base_layer.weight, before, atol=1e-3)
    assert torch.allclose(_merged(layer), before, atol=1e-5)
    first, left = _trained(Job(configure(*given, "method=pissa")))
    wider = configure(*given, "method=pissa", "method.pissa.targets=attention")
    more = build_model(Job(wider), 3, left).model
    for place in ("query", "key"):
        there, here = (m.get_submodule(name.replace("query", place)) for m in (first.model, more))
        whole_there = _merged(there) if place == "query" else there.weight
        assert torch.allclose(_merged(here), whole_there, atol=1e-5)
    noisy = build_model(Job(configure(*given, "method=[pissa,noisytune]")), 3, left).model
    theirs, ours = (m.get_submodule(name).base_layer.weight for m in (first.model, noisy))
    apart = (ours - theirs).abs().max()
    assert 0 < apart < 0.08 * theirs.std()
