"""Masks have the shares that BERT and MacBERT name, and never split a word."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from runners.tasks.masking import Masking, draw_units, nearest_words, single_units

MASK, OTHERS = 4, np.arange(5, 105)


def _stream(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_shares_are_those_of_the_paper_by_chi_square() -> None:
    """4,000 lines of 20 tokens; places and random tokens are even."""
    stream, masking = _stream(7), Masking(MASK, OTHERS)
    ids = np.arange(200, 220)
    places, fates, random = np.zeros(20), np.zeros(3), np.zeros(len(OTHERS))
    for _ in range(4000):
        replaced, masked = masking(ids, np.arange(20), stream)
        assert masked.sum() == 3  # round(0.15 · 20)
        assert (replaced[~masked] == ids[~masked]).all()
        places += masked
        for before, after in zip(ids[masked], replaced[masked], strict=True):
            fates[0 if after == MASK else 2 if after == before else 1] += 1
            if after not in (MASK, before):
                random[after - OTHERS[0]] += 1
    assert scipy.stats.chisquare(places).pvalue > 0.01
    expected = fates.sum() * np.array([0.8, 0.1, 0.1])
    assert scipy.stats.chisquare(fates, expected).pvalue > 0.01
    assert scipy.stats.chisquare(random).pvalue > 0.01


@pytest.mark.parametrize(("length", "count"), [(1, 1), (2, 1), (9, 1), (11, 2), (20, 3), (128, 19)])
def test_share_of_a_line_is_rounded_and_never_nothing(length: int, count: int) -> None:
    assert len(draw_units(np.arange(length), 0.15, _stream())) == count


def test_special_tokens_are_never_masked() -> None:
    ids = np.array([2, 50, 51, 1, 3, 0])
    units = single_units(ids, np.array([0, 1, 2, 3]))
    assert units.tolist() == [-1, 1, 2, -1, -1, -1]
    drawn = np.zeros(6)
    for seed in range(200):
        drawn += Masking(MASK, OTHERS)(ids, units, _stream(seed))[1]
    assert (drawn > 0).tolist() == [False, True, True, False, False, False]
    nothing = Masking(MASK, OTHERS)(ids, np.full(6, -1), _stream())
    assert nothing[0].tolist() == ids.tolist()
    assert not nothing[1].any()


@pytest.mark.parametrize("similar", [None, {60: 61}])
def test_a_word_is_masked_whole_or_not_at_all(similar: dict[int, int] | None) -> None:
    units = np.array([-1, 0, 1, 1, 2, 3, 3, 3, 4, 5, 5, 6, -1])
    masking = Masking(MASK, OTHERS, similar, probability=0.4)
    seen = np.zeros(7)
    for seed in range(500):
        _, masked = masking(np.arange(60, 73), units, _stream(seed))
        for unit in range(7):
            [whole] = {bool(m) for m in masked[units == unit]}
            seen[unit] += whole
        assert 1 <= masked.sum() <= 4  # round(0.4 · 11)
    assert (seen > 50).all()


def test_a_long_word_alone_is_masked_though_it_exceeds_the_share() -> None:
    assert draw_units(np.array([-1, 0, 0, 0, 0, -1]), 0.15, _stream()).tolist() == [0]


def test_correction_puts_similar_words_in_place_of_the_mask_token() -> None:
    """MacBERT: 80 % similar, 10 % random, 10 % kept, a word at once; no similar word, random."""
    similar = {int(i): int(i) + 1000 for i in range(200, 210)}
    ids = np.array([*range(200, 210), 900, 901, 902])
    units = np.array([*range(10), 10, 10, 11])
    masking, fates = Masking(MASK, OTHERS, similar), np.zeros(3)
    pairs = np.zeros(3)
    for seed in range(6000):
        replaced, masked = masking(ids, units, _stream(seed))
        assert MASK not in replaced
        assert ((replaced == ids) | masked).all()
        for i in np.flatnonzero(masked[:10]):
            own = replaced[i] == ids[i], replaced[i] == ids[i] + 1000
            fates[2 if own[0] else 0 if own[1] else 1] += 1
        if masked[10]:
            changed = replaced[10:12] != ids[10:12]
            pairs[int(changed.sum())] += 1
            assert np.isin(replaced[10:12][changed], OTHERS).all()
    expected = fates.sum() * np.array([0.8, 0.1, 0.1])
    assert scipy.stats.chisquare(fates, expected).pvalue > 0.01
    assert pairs[1] == 0  # the pieces of a word share one fate
    shares = pairs[[2, 0]]
    assert scipy.stats.chisquare(shares, shares.sum() * np.array([0.9, 0.1])).pvalue > 0.01


def test_nearest_word_is_the_one_that_a_slow_loop_finds() -> None:
    embedding = _stream(3).normal(size=(700, 8)).astype(np.float32)
    words = np.arange(30, 690, 1)
    nearest = nearest_words(np.arange(0, 700, 3), words, embedding)
    assert sorted(nearest) == [i for i in range(0, 700, 3) if 30 <= i < 690]
    for word in list(nearest)[:40]:
        own, best, place = embedding[word].astype(np.float64), -2.0, -1
        for other in words:
            row = embedding[other].astype(np.float64)
            cosine = own @ row / np.sqrt((own @ own) * (row @ row))
            if other != word and cosine > best:
                best, place = cosine, int(other)
        assert nearest[word] == place
    assert nearest_words(np.array([30]), np.array([30]), embedding) == {}
