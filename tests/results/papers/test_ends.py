"""The printed end of an interval lies on the side of what is needed that the end itself does."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from results.papers.questions import Gap, Ratio
from results.stats.compare import points


def _gap(needed: float) -> Gap:
    """Return a gap of enough seeds, whose own values play no part in the ends that are given."""
    values = np.random.Generator(np.random.PCG64(1)).normal(0.01, 0.02, 9)
    each = {("table", seed): float(value) for seed, value in enumerate(values)}
    return Gap("a − b", each, len(values), needed)


@pytest.mark.parametrize(
    ("needed", "ends", "answer", "shown"),
    [
        (0.0, (0.0004, 0.025), "supported", "[+0.04, +2.5]; needed 0.0"),
        (0.0, (0.00003, 0.025), "supported", "[+0.003, +2.5]; needed 0.0"),
        (0.0, (-0.0004, 0.025), "undecided", "[−0.04, +2.5]; needed 0.0"),
        (0.0, (-0.025, -0.0002), "contradicted", "[−2.5, −0.02]; needed 0.0"),
        (0.0, (0.0, 0.025), "undecided", "[0.0, +2.5]; needed 0.0"),
        (0.01, (0.0101, 0.025), "supported", "[+1.01, +2.5]; needed +1.0"),
        (0.01, (0.0099, 0.025), "undecided", "[+0.99, +2.5]; needed +1.0"),
        (0.01, (0.01, 0.025), "supported", "[+1.0, +2.5]; needed +1.0"),
        (0.0105, (0.0106, 0.025), "supported", "[+1.1, +2.5]; needed +1.05"),
        (0.0105, (0.0102, 0.025), "undecided", "[+1.0, +2.5]; needed +1.05"),
        (0.0018, (0.0017, 0.025), "undecided", "[+0.17, +2.5]; needed +0.18"),
    ],
)
def test_ends_of_a_difference(
    needed: float, ends: tuple[float, float], answer: str, shown: str
) -> None:
    said, numbers = _gap(needed).answer_by(ends)
    assert said == answer
    assert f" 9 pairs {shown}" in numbers


@pytest.mark.parametrize(
    ("most", "low", "high", "answer", "shown"),
    [
        (1.05, 0.9, 1.04, "supported", "[0.90, 1.04]"),
        (1.05, 0.9, 1.0496, "supported", "[0.90, 1.0496]"),
        (1.05, 1.0502, 1.3, "contradicted", "[1.0502, 1.30]"),
        (0.6875, 0.6, 0.687, "supported", "[0.60, 0.687]"),
        (0.6875, 0.6, 0.688, "undecided", "[0.60, 0.69]"),
        (1.05, 0.9, 1.05, "supported", "[0.90, 1.05]"),
    ],
)
def test_ends_of_a_ratio(most: float, low: float, high: float, answer: str, shown: str) -> None:
    """Of six pairs the interval is from the least to the largest."""
    values = dict(enumerate(np.linspace(low, high, 6).tolist()))
    said, numbers = Ratio("seconds", dict(values), most).answer(0.05)
    assert said == answer
    assert f" {shown} over 6 pairs" in numbers


def test_a_printed_end_never_contradicts_its_answer() -> None:
    """A reader who compares what is printed comes to the answer that is printed."""
    rng = np.random.Generator(np.random.PCG64(4))
    for _ in range(2000):
        needed = float(rng.choice([0.0, 0.01, 0.0105, -0.024]))
        near = [needed + float(rng.choice([-1, 1])) * 10 ** rng.uniform(-5.2, -2) for _ in "ab"]
        low, high = sorted(near)
        said, numbers = _gap(needed).answer_by((low, high))
        text = numbers.replace("−", "-").split(" pairs ")[1]
        ends = [float(each) for each in re.findall(r"[-+]?\d+\.\d+", text)]
        assert math.isclose(ends[2], 100 * needed, abs_tol=1e-9)
        read = "supported" if ends[0] > ends[2] else "undecided"
        assert said == ("contradicted" if ends[1] < ends[2] else read)


def test_a_difference_is_zero_without_a_sign_at_any_number_of_digits() -> None:
    assert [points(-0.0000004, digits) for digits in (1, 2, 3)] == ["0.0", "0.00", "0.000"]
    assert (points(-0.0123), points(0.1), points(-0.0123, 3)) == ("−1.2", "+10.0", "−1.230")
