"""kind: similarity. Sentences become vectors, whose cosines are to rank scored pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from methods.method import Batch, Output
from methods.surgery.representation import Representation
from methods.surgery.sentences import bare
from results.errors import UserError
from runners.config.check import RunConfig, representation_of
from runners.data.split import Split, TaskData
from runners.jobs.job import Job
from runners.models.weights import Weights
from runners.tasks.collate import Collator, SentenceCollator
from runners.tasks.kind import Encoded, Evaluation, NotFinite, Reading
from runners.tasks.tokens import Tokens, tokenize


def raw_tokens(
    name: str,
    texts: Sequence[str],
    tokenizer: Any,
    weights: Weights,
    limit: int,
    keep: bool = True,
) -> Tokens:
    """Tokenise texts without special tokens, cut to `limit` tokens each; `keep` them for later."""
    around = bare(tokenizer)
    front, behind = len(around.before), len(around.after)
    split = Split(name, tuple((text,) for text in texts), None)
    whole = tokenize(split, tokenizer, weights, limit + front + behind, keep=keep)
    lengths = whole.lengths - front - behind
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    kept = np.ones(len(whole.input_ids), dtype=bool)
    for i in range(front):
        kept[whole.offsets[:-1] + i] = False
    for i in range(1, behind + 1):
        kept[whole.offsets[1:] - i] = False
    return Tokens(whole.input_ids[kept], None, offsets, whole.truncated)


def sentence_collator(columns: Sequence[Tokens], pad_id: int) -> SentenceCollator:
    """Return what makes batches of raw sentences, a column of tokens after the other."""
    return SentenceCollator([Collator(tokens, None, pad_id) for tokens in columns])


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
    evaluation: Evaluation,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Return the vectors of sentences, [rows, width], longest first and in evaluation mode.

    No random number is drawn, and the model's training mode is put back.
    """
    wanted = np.arange(len(collate.lengths)) if rows is None else rows
    order = wanted[np.argsort(-collate.lengths[wanted], kind="stable")]
    accelerator, size = evaluation.accelerator, evaluation.batch_size
    parts = []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), size):
            batch = collate(order[start : start + size])
            with accelerator.autocast():
                on_device = {k: v.to(accelerator.device) for k, v in batch.items()}
                parts.append(representation.vectors(model, on_device).float().cpu().numpy())
    model.train(was_training)
    vectors = np.empty((len(collate.lengths), parts[0].shape[1]), dtype=np.float32)
    vectors[order] = np.concatenate(parts)
    return vectors[wanted]


def cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine of each row of one with the same row of the other; 0 beside a zero row."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    dots = np.einsum("ij,ij->i", a, b)
    result: NDArray[np.float64] = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    return result


class Similarity:
    """Sets of scored pairs; training, where there is any, is on text of another source.

    There is no development set among the sets, so they are scored at the end only, and a
    contrastive loss is not the sum of its parts.
    """

    evaluates: ClassVar[Literal["when due", "at the end"]] = "at the end"
    evaluates_start: ClassVar[bool] = False
    divisible: ClassVar[bool] = False
    needs_model: ClassVar[bool] = True
    hinders_capture: ClassVar[str] = ""

    def __init__(self, config: RunConfig) -> None:
        self.config, self.representation = config, representation_of(config)
        self.places: dict[str, int] = {}  # of each evaluated sentence

    def encode(self, job: Job, tokenizer: Any) -> Encoded:
        """Tokenise the training text, as `train`, and all sentences to be compared.

        The run's representation must have been prepared. Raises UserError where no sentence fits
        into budget.max_length.
        """
        room, train = sentence_room(self.config), job.data.train
        self.places = evaluated_sentences(job.data)

        def collator(name: str, columns: list[tuple[str, ...]], training: bool) -> SentenceCollator:
            wanted = self.representation.training_length if training else None
            limit = room if wanted is None else min(room, wanted)
            texts = [[self.representation.text(t, training) for t in c] for c in columns]
            tokens = [raw_tokens(name, c, tokenizer, job.weights, limit) for c in texts]
            return sentence_collator(tokens, tokenizer.pad_token_id)

        encoded = {}
        if len(train):
            encoded["train"] = collator("train", list(zip(*train.texts, strict=True)), True)
        encoded["sentences"] = collator("sentences", [tuple(self.places)], False)
        return encoded

    def readings(self, data: TaskData, encoded: Encoded) -> list[Reading]:
        task, [sentences] = self.config.settings.task, encoded["sentences"].token_columns
        readings = []
        for name, split in data.splits().items():
            if name == "train":
                columns = encoded[name].token_columns
            else:
                places = np.asarray([[self.places[t] for t in pair] for pair in split.texts])
                columns = [sentences.take(column) for column in places.T]
            readings.append(Reading(name, task, split, columns, name == "train"))
        return readings

    def forward(self, model: Any, batch: Batch) -> Output:
        return self.representation.objective(model, batch)

    def losses(self, model: Any, batch: Batch) -> torch.Tensor | None:
        return None  # the vectors of a batch are compared with each other

    def answer(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return the vectors of a batch of sentences, [batch, width]."""
        return self.representation.vectors(model, batch)

    def predict(
        self, model: Any, encoded: Encoded, splits: Sequence[Split], evaluation: Evaluation
    ) -> dict[str, NDArray[np.float64]]:
        """Return the cosine of each pair of each set."""
        collate = encoded["sentences"]
        assert isinstance(collate, SentenceCollator)
        texts = dict.fromkeys(text for split in splits for pair in split.texts for text in pair)
        rows = np.asarray([self.places[text] for text in texts], dtype=np.int64)
        vectors = embed(model, self.representation, collate, evaluation, rows)
        if not np.all(np.isfinite(vectors)):
            raise NotFinite("a sentence's vector")
        self.representation.seen(vectors)
        row_of = {text: i for i, text in enumerate(texts)}
        cosine_of = {}
        for split in splits:
            first, second = (vectors[[row_of[pair[i]] for pair in split.texts]] for i in (0, 1))
            cosine_of[split.name] = cosines(first, second)
        return cosine_of

    def references(self, encoded: Encoded, split: Split) -> Sequence[float] | None:
        return split.labels

    def measured(self) -> dict[str, dict[str, float]]:
        return {}

    def stored(self, predicted: NDArray[np.float64]) -> list[float]:
        return [float(f"{p:.9g}") for p in predicted]
