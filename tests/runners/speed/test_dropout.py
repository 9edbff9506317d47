"""Fast dropout: the same distribution as torch's, exact values for a known mask, one off switch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from runners.models.build import load_pretrained
from runners.models.weights import find_weights
from runners.speed import dropout as fast
from tests.conftest import Cli, architectures, configure, tiny
from tests.tiny import tiny_batch, tiny_model

ROWS, COLUMNS = 400, 2501  # an odd count: the last draw serves fewer than four elements


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_rate_and_scale(p: float) -> None:
    torch.manual_seed(1)
    mask = fast.keep_mask(torch.Size((ROWS, COLUMNS)), p, torch.float32)
    kept = int((mask > 0).sum())
    assert stats.binomtest(kept, mask.numel(), 1 - p).pvalue > 1e-4
    rate = round(p * 2**16) / 2**16
    assert mask.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)], rel=1e-6)
    assert abs(rate - p) <= 2**-17


def test_elements_are_independent() -> None:
    """Neighbours, the four elements of one draw, rows and calls: no pair agrees too often."""
    torch.manual_seed(2)
    p = 0.3
    masks = [fast.keep_mask(torch.Size((ROWS, COLUMNS)), p, torch.float32) > 0 for _ in range(2)]
    flat = masks[0].flatten()
    pairs = {f"lag {lag}": (flat[:-lag], flat[lag:]) for lag in (1, 2, 3, 4, 8, COLUMNS)}
    pairs["calls"] = (masks[0].flatten(), masks[1].flatten())
    both = (1 - p) ** 2
    for name, (first, second) in pairs.items():
        share = float((first & second).float().mean())
        error = np.sqrt(both * (1 - both) / len(first))
        assert abs(share - both) < 5 * error, name
    quarters = flat[: 4 * (len(flat) // 4)].view(-1, 4).sum(dim=1)
    expected = stats.binom.pmf(range(5), 4, 1 - p) * len(quarters)
    assert stats.chisquare(np.bincount(quarters, minlength=5), expected).pvalue > 1e-4


def test_every_bit_of_a_draw_is_random() -> None:
    torch.manual_seed(3)
    draws = torch.empty(100_000, dtype=torch.int64).random_(-(2**63), None).numpy()
    ones = [int((draws >> bit & 1).sum()) for bit in range(64)]
    worst = max(abs(count - 50_000) for count in ones)
    assert worst < 5 * np.sqrt(25_000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_and_gradient_are_the_masks(dtype: torch.dtype) -> None:
    layer = fast.FastDropout(0.25)
    values = torch.randn(7, 13, dtype=dtype, requires_grad=True)
    torch.manual_seed(4)
    mask = fast.keep_mask(values.shape, 0.25, dtype)
    torch.manual_seed(4)
    dropped = layer(values)
    assert torch.equal(dropped, values * mask)
    dropped.sum().backward()
    assert torch.equal(values.grad, mask)
    assert layer.eval()(values) is values
    layer.train().p = 0.0
    assert layer(values) is values
    layer.p = 1.0
    assert not layer(values).any()


def test_attention_is_a_slow_loop_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each head of each example by itself in float64, with the mask that was drawn."""
    torch.manual_seed(5)
    query, key, value = (torch.randn(2, 3, n, 4) for n in (5, 6, 6))
    seen = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()
    for attention_mask in (seen[:, None, None, :], torch.zeros(2, 1, 1, 6), None):
        torch.manual_seed(6)
        got, _ = fast.attention(nn.Module(), query, key, value, attention_mask, 0.2, 0.7)
        torch.manual_seed(6)
        mask = fast.keep_mask(torch.Size((2, 3, 5, 6)), 0.2, torch.float64)
        for b in range(2):
            for h in range(3):
                q, k, v = query[b, h].double(), key[b, h].double(), value[b, h].double()
                weights = torch.exp(q @ k.T * 0.7)
                if attention_mask is not None and attention_mask.dtype == torch.bool:
                    weights = weights * seen[b]
                weights = weights / weights.sum(dim=1, keepdim=True) * mask[b, h]
                torch.testing.assert_close(got[b, :, h].double(), weights @ v, atol=1e-6, rtol=0)


def _model(folder: Path, on: bool) -> Any:
    config = configure(*tiny(folder, f"speed.fast_dropout={str(on).lower()}"))
    return load_pretrained(config, find_weights(config.settings.model)).model


@pytest.mark.parametrize("architecture", architectures("t5"))
def test_logits_and_gradients_agree_with_dropout_off(
    architecture: str, tiny_folder: Callable[[str], Path]
) -> None:
    batch = tiny_batch(tiny_folder(architecture))
    results = []
    for on in (True, False):
        model = _model(tiny_folder(architecture), on)
        assert any(isinstance(m, fast.FastDropout) for m in model.modules()) == on
        logits = model.eval()(**batch).logits
        for module in model.train().modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            for name in ("attention_dropout", "dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        model(**batch).loss.backward()
        results.append((logits, [p.grad for p in model.parameters() if p.grad is not None]))
    (fast_logits, fast_gradients), (logits, gradients) = results
    torch.testing.assert_close(fast_logits, logits, atol=1e-5, rtol=0)
    for ours, theirs in zip(fast_gradients, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("architecture", architectures("t5"))
def test_mean_over_masks_is_torchs(architecture: str, tiny_folder: Callable[[str], Path]) -> None:
    """Over 150 draws, mean and spread of a training forward's logits agree with torch's dropout."""
    batch = tiny_batch(tiny_folder(architecture))
    del batch["labels"]
    samples = []
    for on in (True, False):
        model = _model(tiny_folder(architecture), on).train()
        torch.manual_seed(7)
        with torch.no_grad():
            samples.append(torch.stack([model(**batch).logits for _ in range(150)]).double())
    ours, theirs = (s.flatten(1).numpy() for s in samples)
    if np.array_equal(ours, np.broadcast_to(ours[0], ours.shape)):  # its published dropout is 0
        assert architecture == "modernbert"
        assert np.array_equal(ours, theirs)
        return
    assert stats.ttest_ind(ours, theirs, equal_var=False).pvalue.min() > 1e-4
    assert stats.levene(ours[:, 0], theirs[:, 0]).pvalue > 1e-4


def test_padding_and_neighbours_do_not_reach_an_example(
    tiny_folder: Callable[[str], Path],
) -> None:
    """With dropout drawing, what stands behind the mask changes nothing in front of it."""
    batch = tiny_batch(tiny_folder("bert"))
    model = _model(tiny_folder("bert"), True).train()
    changed = {k: v.clone() for k, v in batch.items()}
    short = int(batch["attention_mask"].sum(dim=1).argmin())
    changed["input_ids"][short][batch["attention_mask"][short] == 0] = 9
    changed["input_ids"][(short + 1) % 5, 1] = 9
    logits = []
    for each in (batch, changed):
        torch.manual_seed(8)
        logits.append(model(**each).logits[short])
    assert torch.equal(*logits)


def test_off_switch_is_torchs_dropout_and_another_run(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    from results.record import read_all

    for on in ("true", "false"):
        assert cli(*tiny(tiny_folder("bert"), f"speed.fast_dropout={on}")).code == 0
    records = read_all(tmp_path / "runs")
    assert len({r.run for r in records}) == 2
    assert sorted(r.config["speed"]["fast_dropout"] for r in records) == [False, True]
    plain = tiny_model(tiny_folder("bert"))
    assert plain.config._attn_implementation == "sdpa"
    assert cli(*tiny(tiny_folder("bert"), "speed.fast_dropout=1")).code == 2
