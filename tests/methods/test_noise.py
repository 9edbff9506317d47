"""HyPe, NoisyTune and the provisional PATS against their definitions written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.hype import Hype
from methods.noisytune import Noisytune
from methods.pats_provisional import PatsProvisional
from methods.surgery.streams import Streams
from results.errors import UserError
from tests.conftest import Cli, architectures, configure, tiny
from tests.methods.reference import (
    Model,
    inner_stream,
    largest_difference,
    prepared,
    stream,
    train,
    trained,
)
from tests.shapes import setting_of
from tests.tiny import tiny_batch, tiny_model

Folder = Callable[[str], Path]


def _hidden_dropout_off(model: Model, loaded: Any) -> None:
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout) and not name.endswith("attention.self.dropout"):
            module.p = 0.0


@pytest.mark.parametrize("distribution", ["normal", "uniform", "uniform_positive"])
def test_hype_equals_noise_on_each_layers_input_written_out(
    distribution: str, tiny_folder: Folder
) -> None:
    folder, draws = tiny_folder("bert"), inner_stream("hype")

    def noised(hidden_states: torch.Tensor) -> torch.Tensor:
        if distribution == "normal":
            return hidden_states + 0.1 * torch.randn(hidden_states.shape, generator=draws)
        unit = torch.rand(hidden_states.shape, generator=draws)
        return hidden_states + 0.1 * (2 * unit - 1 if distribution == "uniform" else unit)

    def loss_of(model: Model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        x = model.bert.embeddings(
            input_ids=batch["input_ids"], token_type_ids=batch["token_type_ids"]
        )
        visible = batch["attention_mask"].bool()[:, None, None, :]
        mask = visible.expand(-1, -1, x.shape[1], -1)
        for layer in model.bert.encoder.layer:
            x = layer(noised(x), mask)
        logits = model.classifier(model.dropout(model.bert.pooler(x)))
        return torch.nn.functional.cross_entropy(logits, batch["labels"])

    given = [f"method.hype.{o}" for o in ("sigma=0.1", f"distribution={distribution}")]
    ours = trained(folder, "method=hype", *given)
    theirs = train(folder, start=_hidden_dropout_off, loss_of=loss_of)
    assert largest_difference(ours, theirs) < 1e-5
    silent = train(folder, start=_hidden_dropout_off)
    assert largest_difference(ours, silent) > 1e-3


def test_hype_without_noise_is_the_no_dropout_control(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    quiet = trained(folder, "method=hype", "method.hype.sigma=0")
    control = trained(folder, "method=no_dropout")
    assert largest_difference(quiet, control) == 0
    assert largest_difference(control, train(folder, start=_hidden_dropout_off)) == 0
    assert largest_difference(control, trained(folder, "method=full")) > 1e-4


@pytest.mark.parametrize("architecture", architectures("t5"))
def test_noise_reaches_every_layer_in_training_only(architecture: str, tiny_folder: Folder) -> None:
    folder = tiny_folder(architecture)
    model, batch = tiny_model(folder), tiny_batch(folder)
    method = Hype(sigma=0.1, hidden_dropout="keep")
    method.prepare(model, setting_of(model))
    drawn: list[torch.Tensor] = []
    plain = method.streams.normal

    def watched(like: torch.Tensor, std: float) -> torch.Tensor:
        drawn.append(plain(like, std))
        return drawn[-1]

    method.streams.normal = watched  # type: ignore[method-assign]
    with torch.no_grad():
        base = tiny_model(folder)(**batch).logits
        assert torch.equal(model.eval()(**batch).logits, base)
        assert not drawn
        model.train()(**batch)
        layers = 4 if architecture == "t5" else 2  # ALBERT's one layer is used twice
        assert len(drawn) == layers
        method.paused = True
        model(**batch)
        assert len(drawn) == layers
    shape = (5, batch["input_ids"].shape[1], 32)
    if architecture == "xlnet":  # it has places first
        drawn = [d.transpose(0, 1) for d in drawn]
    assert all(d.shape == shape for d in drawn)
    a, b = (d.flatten() for d in drawn[-2:])
    assert abs(float((a * b).mean())) < 4 * 0.01 / len(a) ** 0.5
    assert float(a.std()) == pytest.approx(0.1, rel=0.1)


def test_uniform_noise_is_symmetric_and_bounded(tiny_folder: Folder) -> None:
    model = tiny_model(tiny_folder("bert"))
    for distribution, low in (("uniform", -1e-5), ("uniform_positive", 0.0)):
        method = Hype(distribution=distribution)  # type: ignore[arg-type]
        method.prepare(model, setting_of(model))
        noise = method._noised(torch.zeros(100_000))
        assert float(noise.abs().max()) <= 1e-5
        assert float(noise.min()) == pytest.approx(low, abs=1e-6)
        assert float(noise.mean()) == pytest.approx((1e-5 + low) / 2, abs=1e-7)


def test_noise_that_bf16_would_lose_is_refused(cli: Cli, tiny_folder: Folder) -> None:
    arguments = tiny(tiny_folder("bert"), "method=hype", "task=rte", "precision=bf16")
    done = cli(*arguments)
    assert done.code == 2
    assert "noise of sigma=1e-05 is lost in bf16" in done.err
    assert cli(*arguments, "method.hype.sigma=0.01").code == 0


def test_noisytune_equals_its_formula(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    draws = stream("noisytune")

    def noise(model: Model, loaded: Any) -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith("bert."):
                    unit = torch.empty(parameter.shape).uniform_(-0.075, 0.075, generator=draws)
                    parameter += unit * parameter.std()

    ours = trained(folder, "method=noisytune")
    assert largest_difference(ours, train(folder, start=noise)) == 0
    assert largest_difference(ours, train(folder)) > 1e-3


def test_noisytune_is_bounded_and_spares_the_head_and_single_entries(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    model, before = tiny_model(folder, num_labels=1), tiny_model(folder, num_labels=1)
    setting = replace(setting_of(model), pretrained=dict(before.named_parameters()))
    Noisytune(scope="all").prepare(model, setting)
    start = dict(before.named_parameters())
    for name, parameter in model.named_parameters():
        moved = (parameter - start[name]).abs().max()
        if parameter.numel() == 1:
            assert moved == 0
        else:
            assert moved <= 0.075 * start[name].std() + 1e-7, name
    words = model.get_input_embeddings().weight - start["bert.embeddings.word_embeddings.weight"]
    scale = start["bert.embeddings.word_embeddings.weight"].std()
    assert float(words.std() / scale) == pytest.approx(0.15 / 12**0.5, rel=0.05)


@pytest.mark.parametrize("mapping", ["sensitivity", "uniform", "reversed", "reversed_equal"])
def test_pats_equals_its_design_written_out(mapping: str, tiny_folder: Folder) -> None:
    folder, draws = tiny_folder("bert"), inner_stream("pats_provisional")
    average: dict[str, torch.Tensor] = {}
    scale: dict[str, torch.Tensor] = {}

    def remember(model: Model, loaded: Any) -> None:
        for name, parameter in model.named_parameters():
            if ".layer." in name and parameter.ndim == 2:
                scale[name] = parameter.detach().clone().std()

    def measure(model: Model, step: int, lr: float) -> None:
        for name in scale:
            parameter = dict(model.named_parameters())[name]
            now = (parameter.detach() * parameter.grad).abs()
            average[name] = 0.85 * average.get(name, torch.zeros_like(now)) + 0.15 * now

    def noise(model: Model, step: int, lr: float) -> None:
        if step < 1:  # a tenth of ten steps
            return
        for name, parameter in model.named_parameters():
            if name not in scale:
                continue
            s = average[name] / (1 - 0.85 ** (step + 1))
            mean = s.mean()
            a = ((mean - s) / (s + 0.01 * mean)).clamp(0, 1)
            length = a.norm()
            if mapping == "uniform":
                a = torch.full_like(a, float((a**2).mean() ** 0.5))
            if mapping.startswith("reversed"):
                a = ((s - mean) / (1.01 * mean)).clamp(0, 1)
            if mapping == "reversed_equal":
                a = a * length / a.norm()
            z = torch.randn(parameter.shape, generator=draws)
            with torch.no_grad():
                parameter += 0.05 * lr / 1e-3 * scale[name] * a * z

    given = [f"method.pats_provisional.{o}" for o in ("strength=0.05", f"mapping={mapping}")]
    ours = trained(folder, "method=pats_provisional", *given)
    theirs = train(folder, start=remember, after_backward=measure, after_step=noise)
    assert largest_difference(ours, theirs) < 1e-5
    assert largest_difference(ours, train(folder)) > 1e-3


def test_pats_noise_falls_with_sensitivity_and_ignores_the_losss_scale() -> None:
    method = PatsProvisional()
    s = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    amount = method.amount(s, 5)
    ordered = amount[s.argsort()]
    assert (ordered.diff() <= 0).all()
    assert (amount[s >= s.mean()] == 0).all()
    assert 0 < amount.max() <= method.a_max
    assert torch.allclose(amount, method.amount(1000 * s, 5), atol=1e-5)
    even = PatsProvisional(mapping="uniform").amount(s, 5)
    assert float(even.pow(2).sum()) == pytest.approx(float(amount.pow(2).sum()), rel=1e-4)


def test_pats_controls_spend_the_energy_of_its_noise() -> None:
    """The squared length of what one step adds to a matrix whose sensitivities have a long tail."""
    draws = torch.Generator().manual_seed(0)
    sensitivities = torch.randn(300, 300, generator=draws).mul(1.5).exp()

    def added(mapping: Any) -> float:
        model = torch.nn.Linear(300, 300, bias=False)
        torch.nn.init.zeros_(model.weight)
        method = PatsProvisional(strength=0.1, mapping=mapping, start=0)
        method.streams = Streams(torch.Generator().manual_seed(1))
        method.scale, method.average, method.first = {"weight": 2.0}, {"weight": sensitivities}, 0
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        optimizer.param_groups[0]["initial_lr"] = 1.0
        method.optimizer_built(optimizer)
        method.after_step(model, 3)
        return float(model.weight.detach().square().sum())

    energy = added("sensitivity")
    assert energy > 100
    assert added("uniform") == pytest.approx(energy, rel=0.03)
    assert added("reversed_equal") == pytest.approx(energy, rel=0.03)
    assert added("reversed") < 0.6 * energy


def test_pats_goes_on_from_a_file_wherever_the_weights_are() -> None:
    model = torch.nn.Linear(3, 2, bias=False, device="meta")
    model.weight.grad = torch.empty_like(model.weight)
    method = PatsProvisional()
    method.scale, method.average = {"weight": 1.0}, {"weight": torch.ones(2, 3)}  # as a file has it
    method.after_backward(model, 5)
    assert method.average["weight"].device.type == "meta"


def test_pats_reversed_noise_goes_to_sensitive_entries_and_nowhere_if_all_are_alike() -> None:
    s = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    method = PatsProvisional(mapping="reversed_equal")
    amount = method.amount(s, 5)
    assert (amount[s.argsort()].diff() >= 0).all()
    assert (amount[s <= s.mean()] == 0).all()
    assert method.amount(torch.ones(9), 5).abs().max() == 0
    assert method.amount(torch.zeros(9), 5).abs().max() == 0


@pytest.mark.parametrize(
    "option",
    ["strength=-1", "beta=1", "beta=-0.1", "gamma=0", "a_max=0", "start=1", "mapping=equal"],
)
def test_wrong_options_of_pats_are_named(option: str) -> None:
    with pytest.raises(UserError, match=rf"pats_provisional\.{option.partition('=')[0]}"):
        configure("method=pats_provisional", f"method.pats_provisional.{option}")


def test_sensitivity_is_the_first_order_change_of_the_loss() -> None:
    stream = torch.Generator().manual_seed(1)
    x, y = (torch.randn(8, 5, generator=stream, dtype=torch.float64) for _ in range(2))
    errors = []
    for size in (1e-2, 1e-3):
        w = (size * torch.randn(5, 5, generator=stream, dtype=torch.float64)).requires_grad_(True)

        def loss(w: torch.Tensor) -> torch.Tensor:
            return ((x @ w - y) ** 2).mean()

        [g] = torch.autograd.grad(loss(w), w)
        without = w.detach().clone()
        without[2, 3] = 0
        change = float((loss(w) - loss(without)).abs().detach())
        errors.append(abs(change - float((w * g).abs()[2, 3].detach())) / change)
    assert errors[1] < errors[0] / 3


def test_pats_is_marked_provisional(tiny_folder: Folder, tmp_path: Path, cli: Cli) -> None:
    from results.record import read_all

    done = cli(*tiny(tiny_folder("bert"), "method=pats_provisional", "task=rte"))
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    assert record.methods == ["pats_provisional"]
    assert "provisional" in record.method_reports["pats_provisional"]
    assert "pats_provisional" in done.out


def test_several_methods_keep_the_order_typed(tiny_folder: Folder) -> None:
    loop, _ = prepared(tiny_folder("bert"), "method=[child_tuning_f,hype,bitfit]")
    assert [m.name for m in loop.methods] == ["child_tuning_f", "hype", "bitfit"]
