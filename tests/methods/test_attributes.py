"""Attributes add to adapters and heads what is written down, and nothing before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.adapter import Adapter
from methods.attributes import Attributes
from methods.compacter import Compacter
from methods.surgery.attribute_parts import Joint, Tables, only_unknown
from methods.surgery.bottleneck import PHMLinear
from results.errors import UserError
from runners.data.attributes import numbered
from tests.shapes import perturb_trained, setting_of
from tests.tiny import ARCHITECTURES, tiny_batch, tiny_model

Folder = Callable[[str], Path]
SIZES = {"user": ["a", "b", "c"], "genre": ["x", "y"]}
NUMBERS = torch.tensor(
    [
        [[1, -1], [1, 2]],
        [[3, -1], [0, -1]],
        [[0, -1], [2, -1]],
        [[1, 2], [1, -1]],
        [[2, -1], [2, -1]],
    ]
)


def _setting(model: Any) -> Any:
    import dataclasses

    return dataclasses.replace(setting_of(model), attributes=SIZES)


def _model(folder: Path, **options: Any) -> Any:
    model = tiny_model(folder)
    method = Attributes(**{"size": 8, "dimension": 8, **options})
    method.prepare(model, _setting(model))
    return model


def _logits(model: Any, folder: Path, numbers: torch.Tensor = NUMBERS) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(**tiny_batch(folder), attributes=numbers).logits
    return logits


def _kron(rule: torch.Tensor, pieces: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([torch.kron(r, w) for r, w in zip(rule, pieces, strict=True)]).sum(0)


def test_the_joint_part_is_a_loop_over_examples_own_matrices() -> None:
    n, rank, width, inputs, outputs = 4, 3, 6, 32, 8
    stream = torch.Generator().manual_seed(3)
    rule = torch.nn.Parameter(torch.randn(n, n, n, generator=stream))
    joint = Joint(rule, (inputs, outputs), rank, width, stream)
    vectors = torch.randn(5, width, generator=stream)
    x = torch.randn(5, 7, inputs, generator=stream)
    assert torch.equal(joint(x, vectors), torch.zeros(5, 7, outputs))  # Q is zero at first
    torch.nn.init.normal_(joint.scale.weight, generator=stream)
    s = joint.left.weight.detach().view(n, rank, inputs // n)
    t = joint.right.weight.detach().view(outputs // n, n, rank)
    q = joint.scale.weight.detach().view(n, rank, width)
    given = joint(x, vectors)
    for example in range(5):
        pieces = [s[i].T @ torch.diag(q[i] @ vectors[example]) @ t[:, i].T for i in range(n)]
        by_hand = x[example] @ _kron(rule.detach(), pieces)
        assert torch.allclose(given[example], by_hand, atol=1e-5)


def test_a_joint_part_of_rank_one_is_compacters_matrix() -> None:
    """At Q e = 1 it is what PHMLinear computes with the same factors, gradients too."""
    stream = torch.Generator().manual_seed(1)
    rule = torch.nn.Parameter(torch.randn(4, 4, 4, generator=stream))
    joint = Joint(rule, (32, 8), 1, 1, stream)
    torch.nn.init.ones_(joint.scale.weight)
    left = joint.left.weight.detach().view(4, 8, 1)
    right = joint.right.weight.detach().view(2, 4).T.reshape(4, 1, 2)
    other = PHMLinear(torch.nn.Parameter(rule.detach().clone()), left.clone(), right.clone())
    x = torch.randn(3, 5, 32, generator=stream)
    ours, theirs = joint(x, torch.ones(3, 1)), other(x)
    assert torch.allclose(ours, theirs, atol=1e-6)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    assert rule.grad is not None
    assert other.rule.grad is not None
    assert torch.allclose(rule.grad, other.rule.grad, rtol=1e-4, atol=1e-4)


def test_tables_give_the_mean_over_values_summed_over_attributes() -> None:
    tables = Tables([3, 2], 4, 1.0, torch.Generator().manual_seed(0))
    user, genre = (table.weight.detach() for table in tables.tables)
    by_hand = [
        user[1] + (genre[1] + genre[2]) / 2,
        user[3] + genre[0],
        user[0] + genre[2],
        (user[1] + user[2]) / 2 + genre[1],
        user[2] + genre[2],
    ]
    assert torch.allclose(tables(NUMBERS), torch.stack(by_hand), atol=1e-6)


@pytest.mark.parametrize("architecture", sorted({*ARCHITECTURES} - {"xlnet"}))
def test_before_training_the_model_is_the_adapters(architecture: str, tiny_folder: Folder) -> None:
    folder = tiny_folder(architecture)
    plain = tiny_model(folder)
    Adapter(size=8).prepare(plain, setting_of(plain))
    with torch.no_grad():
        wanted = plain(**tiny_batch(folder)).logits
    for inject in ("adapter", "concat") if architecture != "bert" else ("adapter", "bias", "none"):
        assert torch.equal(_logits(_model(folder, inject=inject), folder), wanted)


def test_the_base_may_be_compacters(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    plain = tiny_model(folder)
    Compacter(reduction=4).prepare(plain, setting_of(plain))
    with torch.no_grad():
        wanted = plain(**tiny_batch(folder)).logits
    model = _model(folder, base="compacter")
    assert torch.equal(_logits(model, folder), wanted)
    perturb_trained(model)
    assert not torch.equal(_logits(model, folder), _logits(model, folder, NUMBERS.flip(0)))


@pytest.mark.parametrize("parts", ["both", "independent", "joint"])
def test_what_is_unknown_and_what_is_empty_are_the_unknown_row(
    parts: str, tiny_folder: Folder
) -> None:
    folder = tiny_folder("bert")
    model = _model(folder, parts=parts)
    perturb_trained(model)
    with torch.no_grad():
        for table in model.attr.tables:
            table.weight.mul_(100)
    cells = [("b", "a"), ("zoe",), (), ("a",), ("c",)]
    rows = [((*cell,), ("x",)) for cell in cells]
    logits = _logits(model, folder, torch.from_numpy(numbered(rows, SIZES)))
    other = [((*reversed(cell),) if cell else ("yan",), ("x",)) for cell in cells]
    assert torch.equal(logits, _logits(model, folder, torch.from_numpy(numbered(other, SIZES))))
    # The same text with other attributes is answered otherwise.
    apart = _logits(model, folder, torch.from_numpy(numbered(rows[::-1], SIZES)))
    assert (apart - logits).abs().max() > 1e-5


def test_parts_add_to_each_adapter_what_the_formula_says(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    model = _model(folder)
    perturb_trained(model)
    adapter = model.bert.encoder.layer[0].attention_adapter
    seen = {}
    adapter.down.register_forward_hook(lambda m, i, o: seen.update(x=i[0], d=o))
    _logits(model, folder)
    with torch.no_grad():
        e = model.attr(NUMBERS)
        part, n, rank = adapter.attr, 4, 4
        s = part.joint.left.weight.view(n, rank, -1)
        t = part.joint.right.weight.view(-1, n, rank)
        q = part.joint.scale.weight.view(n, rank, -1)
        for i in range(5):
            pieces = [s[k].T @ torch.diag(q[k] @ e[i]) @ t[:, k].T for k in range(n)]
            matrix = adapter.down.weight.T + _kron(part.joint.rule, pieces)
            bias = adapter.down.bias + part.independent.weight @ e[i]
            assert torch.allclose(seen["d"][i], seen["x"][i] @ matrix + bias, atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "modernbert"])
def test_baselines_at_the_head_are_what_they_say(architecture: str, tiny_folder: Folder) -> None:
    """Concatenated is one matrix over both; a bias is a number a value for each label."""
    folder = tiny_folder(architecture)
    plain, model = _model(folder, inject="none"), _model(folder, inject="bias")
    for table in model.attr.tables:
        torch.nn.init.normal_(table.weight, generator=torch.Generator().manual_seed(2))
    added_up = _logits(plain, folder) + model.attr(NUMBERS)
    assert torch.allclose(_logits(model, folder), added_up, atol=1e-6)

    model = _model(folder, inject="concat")
    torch.nn.init.normal_(model.attr.concat.weight, generator=torch.Generator().manual_seed(2))
    first = next(
        module
        for name, module in plain.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.startswith(plain.base_model_prefix)
    )
    whole = torch.cat([first.weight, model.attr.concat.weight], dim=1).detach()
    vector = model.attr(NUMBERS).detach()

    def wide(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        e = vector if inputs[0].dim() == 2 else vector[:, None].expand(*inputs[0].shape[:2], -1)
        joined = torch.cat([inputs[0], e], dim=-1)
        return torch.nn.functional.linear(joined, whole, first.bias)

    first.register_forward_hook(wide)
    assert torch.allclose(_logits(model, folder), _logits(plain, folder), atol=1e-5)


def test_values_are_written_in_front_of_the_text() -> None:
    method = Attributes(inject="text")
    values = {"guests": ("anna", "dan"), "occasion": (), "day": ("monday",)}
    read = method.text_read(("it was hot", "again"), values)
    assert read == ("guests: anna, dan . day: monday . it was hot", "again")
    assert Attributes().text_read(("it was hot",), values) == ("it was hot",)


def test_counts_apart_from_the_tables_do_not_grow_with_values(tiny_folder: Folder) -> None:
    adapters, a, m, n, r, d = 4, 6, 8, 4, 4, 32
    independent = adapters * a * m
    joint = n**3 + adapters * (d // n * n * r + n * r * m // n + a * n * r)
    tables = (4 + 3) * a
    counts = {}
    for options in ({"inject": "none"}, {"parts": "independent"}, {"parts": "both"}):
        model = tiny_model(tiny_folder("bert"))
        method = Attributes(size=m, dimension=a, **options)  # type: ignore[arg-type]
        method.prepare(model, _setting(model))
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        counts[next(iter(options.values()))] = trained
    assert counts["independent"] == counts["none"] + tables + independent
    assert counts["both"] == counts["independent"] + joint
    assert method.report() == {
        "known_values": {"user": 3, "genre": 2},
        "table_parameters": tables,
    }


def test_tables_and_rule_have_no_weight_decay(tiny_folder: Folder) -> None:
    from runners.optimizers.build import plain_groups

    for base in ("adapter", "compacter"):
        model = tiny_model(tiny_folder("bert"))
        method = Attributes(size=8, dimension=8, base=base)  # type: ignore[arg-type]
        method.prepare(model, _setting(model))
        groups = method.parameter_groups(model, plain_groups(model, 1e-3, 0.1))
        names = {id(p): name for name, p in model.named_parameters()}
        decay = {names[id(p)]: g["weight_decay"] for g in groups for p in g["params"]}
        assert len(decay) == sum(len(g["params"]) for g in groups)
        assert set(decay) == {n for n, p in model.named_parameters() if p.requires_grad}
        free = {n for n, rate in decay.items() if rate == 0 and decay is not None}
        matrices = {n for n in free if dict(model.named_parameters())[n].ndim > 1}
        rules = {n for n in decay if n.endswith(".rule")}
        assert len(rules) == (2 if base == "compacter" else 1)
        assert matrices == {"attr.tables.0.weight", "attr.tables.1.weight", *rules}


def test_the_unknown_row_stands_in_while_training_only() -> None:
    keep = torch.tensor([[1.0, 0], [0, 1], [1, 1], [0, 0], [1, 0]])
    assert only_unknown(NUMBERS, keep).tolist() == [
        [[1, -1], [0, -1]],
        [[0, -1], [0, -1]],
        [[0, -1], [2, -1]],
        [[0, -1], [0, -1]],
        [[2, -1], [0, -1]],
    ]


def test_sizes_that_do_not_fit_are_refused(tiny_folder: Folder) -> None:
    for options, said in (
        ({"size": 6}, "n=4 must divide the encoder's width 32 and"),
        ({"size": 64}, "at most as wide as the encoder's 32"),
        ({"size": 12, "base": "compacter"}, "with base=compacter it must divide"),
    ):
        with pytest.raises(UserError, match=said):
            _model(tiny_folder("bert"), **options)
    _model(tiny_folder("bert"), size=6, parts="independent")
