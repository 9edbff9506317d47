"""Sentences to vectors in batches, and the score of how well their cosines rank pairs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from methods.surgery.representation import Representation
from methods.surgery.sentences import bare
from results.errors import UserError
from runners.config.check import RunConfig, representation_of
from runners.data.split import Split, TaskData
from runners.models.weights import Weights
from runners.tasks.collate import SentenceCollator
from runners.tasks.kind import Diverged
from runners.tasks.metrics import score_split
from runners.tasks.tokens import Tokens, tokenize

if TYPE_CHECKING:
    from accelerate import Accelerator


Scores = dict[str, dict[str, float]]


def raw_tokens(
    name: str, texts: Sequence[str], tokenizer: Any, weights: Weights, limit: int
) -> Tokens:
    """Tokenise texts without special tokens, cut to `limit` tokens each."""
    around = bare(tokenizer)
    front, behind = len(around.before), len(around.after)
    split = Split(name, tuple((text,) for text in texts), None)
    whole = tokenize(split, tokenizer, weights, limit + front + behind)
    lengths = whole.lengths - front - behind
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    kept = np.ones(len(whole.input_ids), dtype=bool)
    for i in range(front):
        kept[whole.offsets[:-1] + i] = False
    for i in range(1, behind + 1):
        kept[whole.offsets[1:] - i] = False
    return Tokens(whole.input_ids[kept], None, offsets)


def make_sentence_collators(
    config: RunConfig, data: TaskData, tokenizer: Any, weights: Weights
) -> dict[str, SentenceCollator]:
    """Tokenise the training text and all sentences to be compared, under `train`, `sentences`.

    The run's representation must have been prepared. Raises UserError where no sentence fits into
    budget.max_length.
    """
    representation = representation_of(config)
    room = sentence_room(config)
    made: dict[str, SentenceCollator] = {}

    def collator(name: str, columns: list[tuple[str, ...]], training: bool) -> SentenceCollator:
        wanted = representation.training_length if training else None
        limit = room if wanted is None else min(room, wanted)
        texts = [[representation.text(t, training) for t in column] for column in columns]
        tokens = [raw_tokens(name, column, tokenizer, weights, limit) for column in texts]
        return SentenceCollator(tokens, tokenizer.pad_token_id)

    if len(data.train):
        made["train"] = collator("train", list(zip(*data.train.texts, strict=True)), True)
    made["sentences"] = collator("sentences", [tuple(evaluated_sentences(data))], False)
    return made


def sentence_room(config: RunConfig) -> int:
    """Return how many tokens of a sentence fit beside what stands around it."""
    representation, length = representation_of(config), config.settings.budget.max_length
    room = length - representation.around
    if room < 1:
        raise UserError(
            f"budget.max_length={length}: method={representation.name} puts {representation.around}"
            " tokens around a sentence; give it more"
        )
    return room


def evaluated_sentences(data: TaskData) -> dict[str, int]:
    """Return every sentence of the sets to be scored, once, and its place."""
    splits = [s for name, s in data.splits().items() if name != "train"]
    texts = dict.fromkeys(text for split in splits for pair in split.texts for text in pair)
    return {text: i for i, text in enumerate(texts)}


def embed(
    model: torch.nn.Module,
    representation: Representation,
    collate: SentenceCollator,
    batch_size: int,
    accelerator: Accelerator,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Return the vectors of sentences, [rows, width], longest first and in evaluation mode.

    No random number is drawn, and the model's training mode is put back.
    """
    wanted = np.arange(len(collate.tokens)) if rows is None else rows
    order = wanted[np.argsort(-collate.tokens.lengths[wanted], kind="stable")]
    parts = []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = collate(order[start : start + batch_size])
            with accelerator.autocast():
                on_device = {k: v.to(accelerator.device) for k, v in batch.items()}
                parts.append(representation.vectors(model, on_device).float().cpu().numpy())
    model.train(was_training)
    found = np.empty((len(collate.tokens), parts[0].shape[1]), dtype=np.float32)
    found[order] = np.concatenate(parts)
    return found[wanted]


def cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine of each row of one with the same row of the other; 0 beside a zero row."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    dots = np.einsum("ij,ij->i", a, b)
    found: NDArray[np.float64] = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    return found


class SimilarityScoring:
    """Scores sets of pairs by the cosines of their vectors; used as runners.course.Scoring is."""

    def __init__(
        self,
        config: RunConfig,
        data: TaskData,
        collators: dict[str, SentenceCollator],
        accelerator: Accelerator,
    ) -> None:
        self.task, self.budget = config.settings.task, config.settings.budget
        self.representation = representation_of(config)
        self.data, self.collate, self.accelerator = data, collators["sentences"], accelerator
        self.places = evaluated_sentences(data)
        self.seconds = 0.0
        self.predictions: dict[str, dict[str, list[float]]] = {}
        self.undefined: dict[str, list[str]] = {}

    def __call__(self, model: torch.nn.Module, splits: list[str], step: int) -> Scores:
        start = time.perf_counter()
        chosen = {name: self.data.splits()[name] for name in splits}
        texts = dict.fromkeys(t for split in chosen.values() for pair in split.texts for t in pair)
        rows = np.asarray([self.places[text] for text in texts], dtype=np.int64)
        vectors = embed(
            model,
            self.representation,
            self.collate,
            self.budget.eval_batch_size,
            self.accelerator,
            rows,
        )
        if not np.all(np.isfinite(vectors)):
            raise Diverged("a sentence's vector", step)
        self.representation.seen(vectors)
        row_of = {text: i for i, text in enumerate(texts)}
        found: Scores = {}
        for name, split in chosen.items():
            sides = [vectors[[row_of[pair[side]] for pair in split.texts]] for side in (0, 1)]
            predicted = cosines(sides[0], sides[1])
            assert split.labels is not None
            self.predictions[name] = {
                "predictions": [float(f"{p:.9g}") for p in predicted],
                "references": list(split.labels),
            }
            found[name], self.undefined[name] = score_split(
                self.task, name, predicted, split.labels, split.subsets
            )
        self.seconds += time.perf_counter() - start
        return found
