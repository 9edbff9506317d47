"""Which tokens of a line are masked, and by what: BERT's masking, whole words, and MacBERT's.

Devlin et al. 2019 (arXiv 1810.04805), section 3.1, and their code: of a line's n tokens,
max(1, round(p n)) are drawn; of these 80 % become [MASK], 10 % a random token, 10 % stay. With
whole words, as in that code's later version, a drawn word has all its pieces masked; words that
would exceed the number are passed over. MacBERT (Cui et al. 2020, arXiv 2004.13922) puts a similar
word where BERT puts [MASK], and decides for a whole word at once.

Units: for each token of a line the number of its word, or its own number where tokens are drawn
singly; -1 for what is never masked, such as [CLS].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

MASKED, RANDOM = 0.8, 0.1  # shares of what is drawn; the rest stays as it is


@dataclass(frozen=True)
class Masking:
    """What stands for drawn tokens: `mask_id`, or one of `others`, from which is drawn evenly.

    With `similar`, a whole word that it names is replaced by the word it leads to instead of by
    `mask_id`, and any other word by random tokens.
    """

    mask_id: int
    others: Ids
    similar: Mapping[int, int] | None = None
    probability: float = field(default=0.15)

    def __call__(
        self, ids: Ids, units: Ids, stream: np.random.Generator
    ) -> tuple[Ids, NDArray[np.bool_]]:
        """Return a line's tokens as the model reads them, and which of them it must predict."""
        drawn = draw_units(units, self.probability, stream)
        masked = np.isin(units, drawn)
        replaced = ids.copy()
        if self.similar is None:
            chance = stream.random(int(masked.sum()))
            self._put(replaced, np.flatnonzero(masked), chance, stream)
            return replaced, masked
        for unit in drawn:
            places = np.flatnonzero(units == unit)
            self._put_similar(replaced, places, float(stream.random()), stream)
        return replaced, masked

    def _put(
        self, ids: Ids, places: Ids, chance: NDArray[np.float64], stream: np.random.Generator
    ) -> None:
        ids[places[chance < MASKED]] = self.mask_id
        random = places[(chance >= MASKED) & (chance < MASKED + RANDOM)]
        ids[random] = stream.choice(self.others, size=len(random))

    def _put_similar(
        self, ids: Ids, places: Ids, chance: float, stream: np.random.Generator
    ) -> None:
        assert self.similar is not None
        if chance >= MASKED + RANDOM:
            return
        near = self.similar.get(int(ids[places[0]])) if len(places) == 1 else None
        if chance < MASKED and near is not None:
            ids[places] = near
        else:
            ids[places] = stream.choice(self.others, size=len(places))


def draw_units(units: Ids, probability: float, stream: np.random.Generator) -> Ids:
    """Return the numbers of the units that are masked, in the order in which they were drawn.

    Their tokens are max(1, round(p n)) of a line's n, or fewer where no unit fits any more; the
    first one drawn is always among them. A line without units has none.
    """
    numbers, sizes = np.unique(units[units >= 0], return_counts=True)
    if not len(numbers):
        return numbers
    room = max(1, round(probability * int(sizes.sum())))
    drawn: list[int] = []
    for i in stream.permutation(len(numbers)):
        if drawn and sizes[i] > room:
            continue
        drawn.append(int(numbers[i]))
        room -= int(sizes[i])
        if room <= 0:
            break
    return np.asarray(drawn, dtype=np.int64)


def single_units(ids: Ids, special: Ids) -> Ids:
    """Return each token as a unit of its own, those of `special` as none."""
    return np.where(np.isin(ids, special), -1, np.arange(len(ids)))


def nearest_words(wanted: Ids, words: Ids, embedding: NDArray[np.float32]) -> dict[int, int]:
    """Return for each of the wanted words the other one whose embedding has the highest cosine.

    `words` are the token ids of all words, `embedding` is the word embedding, [vocabulary, width].
    """
    rows = embedding[words].astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    place = {int(word): i for i, word in enumerate(words)}
    mine = [int(word) for word in wanted if int(word) in place]
    nearest: dict[int, int] = {}
    if len(words) < 2:
        return nearest
    for start in range(0, len(mine), 512):
        part = [place[word] for word in mine[start : start + 512]]
        cosines = rows[part] @ rows.T
        cosines[np.arange(len(part)), part] = -np.inf
        for i, best in zip(part, cosines.argmax(axis=1), strict=True):
            nearest[int(words[i])] = int(words[best])
    return nearest
