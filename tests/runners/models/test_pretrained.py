"""What counts as pretrained, and what as head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from results.errors import UserError
from runners.jobs.job import Job
from runners.models.pretrained import Loaded, load_model
from runners.models.weights import find_weights
from tests.conftest import Cli, configure, tiny


def _minilm_tensors() -> dict[str, torch.Tensor]:
    return load_file(find_weights(configure().settings.model).folder / "model.safetensors")


def _largest_singular_value_over_noise(matrix: torch.Tensor) -> float:
    noise = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(0)) * matrix.std()
    largest = torch.linalg.svdvals(matrix)[0] / torch.linalg.svdvals(noise)[0]
    return float(largest)


def _kurtosis(matrix: torch.Tensor) -> float:
    return float(((matrix - matrix.mean()) / matrix.std()).pow(4).mean())


def test_minilms_pooler_is_noise_and_its_trained_matrices_are_not() -> None:
    tensors = _minilm_tensors()
    assert not tensors["pooler.dense.bias"].any()
    pooler = tensors["pooler.dense.weight"]
    assert _kurtosis(pooler) == pytest.approx(3.0, abs=0.05)
    assert _largest_singular_value_over_noise(pooler) == pytest.approx(1.0, abs=0.03)
    trained = {n: t for n, t in tensors.items() if n.startswith("encoder.") and t.ndim == 2}
    assert len(trained) == 36
    for name, matrix in trained.items():
        assert tensors[name.replace("weight", "bias")].any()
        assert _kurtosis(matrix) > 3.15, name
        assert _largest_singular_value_over_noise(matrix) > 1.08, name


def _load(seed: int) -> Loaded:
    settings = configure("task=mrpc").settings
    untrained = settings.model.untrained
    return load_model(find_weights(settings.model), settings.task, seed, 128, None, untrained)


def test_untrained_modules_are_drawn_from_the_seed_and_belong_to_the_head() -> None:
    one, again, other = _load(1), _load(1), _load(2)
    weights = [dict(m.model.named_parameters())["bert.pooler.dense.weight"] for m in (one, again)]
    different = dict(other.model.named_parameters())["bert.pooler.dense.weight"]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], different)
    assert weights[0].std().item() == pytest.approx(0.02, rel=0.02)  # BERT's initializer_range
    classifier = {"classifier.weight", "classifier.bias"}
    assert one.head == classifier | {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    file = _minilm_tensors()
    for name, parameter in one.model.named_parameters():
        if name not in one.head:
            assert torch.equal(parameter, file[name.removeprefix("bert.")]), name


def test_untrained_modules_are_drawn_alike_in_whatever_order_they_are_listed(
    tiny_folder: Callable[[str], Path],
) -> None:
    """The order is not in a run's name."""
    names = ["bert.pooler", "bert.encoder.layer.1.output", "bert.encoder.layer.0.output"]
    loaded, called = [], []
    for listed in (names, names[::-1]):
        typed = ["task=rte", "model=bert-base-uncased", f"model.untrained=[{','.join(listed)}]"]
        config = configure(*tiny(tiny_folder("bert"), *typed))
        model, weights = config.settings.model, find_weights(config.settings.model)
        assert model.untrained == listed
        loaded.append(load_model(weights, config.settings.task, 1, 32, None, listed).model)
        called.append(Job(config).name)
    assert called[0] == called[1]
    one, other = (model.state_dict() for model in loaded)
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_other_weights_in_place_of_the_package_keep_their_pooler(
    tiny_folder: Callable[[str], Path],
) -> None:
    assert configure(*tiny(tiny_folder("bert"))).settings.model.untrained == []


def test_an_unknown_untrained_module_is_named(cli: Cli, tiny_folder: Callable[[str], Path]) -> None:
    arguments = tiny(tiny_folder("bert"), "model=bert-base-uncased", "model.untrained=[bert.poler]")
    done = cli(*arguments)
    assert done.code == 2
    assert "bert.poler" in done.err
    assert "Traceback" not in done.err


def test_load_model_refuses_a_module_that_is_a_parameter(
    tiny_folder: Callable[[str], Path],
) -> None:
    settings = configure(*tiny(tiny_folder("bert"))).settings
    with pytest.raises(UserError, match=r"pooler\.dense\.weight"):
        load_model(
            find_weights(settings.model),
            settings.task,
            0,
            48,
            None,
            ["bert.pooler.dense.weight"],
        )
