"""Vectors of sentences from the pretrained encoder as it is: nothing is trained.

The baselines of SimCSE (Gao et al., EMNLP 2021, arXiv 2104.08821) and PromptBERT (Jiang et al.,
EMNLP 2022, arXiv 2201.04337; authors' code kongds/Prompt-BERT), by `pooling`:
- cls, mean: the first token's last state; the mean over all tokens, special ones included;
- first_last: the mean of the first layer's outputs and the last one's, averaged over tokens. That
  is what SimCSE's code gives today, by its README; the figures that its paper prints under this
  name are of the static embeddings in place of the first layer's outputs, and lower;
- static: the mean of the word embeddings' rows, special tokens included, without position,
  type and normalisation;
- static_unbiased: the same without special tokens, continuation pieces, the 36 most frequent
  pieces and pieces without letter or digit (the authors list 47 symbols for BERT);
- prompt: the mask's last state in `template`. `denoise` subtracts what the template alone gives
  there, which the authors do not do without training. `period` ends a sentence that has no
  . ? " or ' at its end with a full stop, as they do in evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from methods.method import Batch, Setting, TrainingText
from methods.surgery.representation import Representation

if TYPE_CHECKING:
    import torch

Pooling = Literal["cls", "mean", "first_last", "static", "static_unbiased", "prompt"]
MARKERS = "Ġ▁"  # of a word's first piece, in byte-level BPE and SentencePiece
# From the authors' code, for BERT's lower-case vocabulary.
FREQUENT = frozenset(
    ". a the in , is to of and ' on man - s with for \" at ##s woman are it two that you dog said"
    " playing i an as was from : by white".split()
)


@dataclass(kw_only=True)
class Embedding(Representation):
    """Pool the pretrained encoder's states; trains nothing."""

    name: ClassVar[str] = "embedding"
    paper: ClassVar[str] = "as in Jiang et al. 2022"
    trains: ClassVar[str] = "nothing; `pooling=` cls, mean, first_last, static, prompt"
    owns: ClassVar[frozenset[str]] = Representation.owns | {"parameters", "training"}

    pooling: Pooling = "mean"
    template: str = 'This sentence : "[X]" means [MASK].'
    denoise: bool = False
    period: bool = True

    @property
    def training_text(self) -> TrainingText:
        return "nothing"

    @property
    def unread(self) -> Mapping[str, str]:
        if self.pooling == "prompt":
            return {}
        return dict.fromkeys(("template", "denoise", "period"), f"pooling={self.pooling}")

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import sentences

        self.tokenizer = setting.tokenizer
        self.wrapper = (
            sentences.read_template(self.template, setting.tokenizer, "embedding", "template")
            if self.pooling == "prompt"
            else sentences.bare(setting.tokenizer)
        )
        if self.pooling == "cls":
            sentences.check_class_token(self.wrapper, model, "embedding")
        for parameter in model.parameters():
            parameter.requires_grad_(False)

    @property
    def around(self) -> int:
        return self.wrapper.length

    def text(self, sentence: str, training: bool) -> str:
        if self.pooling == "static_unbiased":
            return unbiased(sentence, self.tokenizer)
        if self.pooling != "prompt":
            return sentence
        return self.wrapper.lead + (with_period(sentence) if self.period else sentence)

    def vectors(self, model: Any, batch: Batch) -> torch.Tensor:
        from methods.surgery import sentences

        lengths = batch["attention_mask"].sum(dim=1)
        pad = self.tokenizer.pad_token_id
        if self.pooling == "static_unbiased":
            rows = model.get_input_embeddings()(batch["input_ids"])
            return mean_of(rows, batch["attention_mask"])
        wrapped = sentences.wrap(batch["input_ids"], lengths, self.wrapper, pad)
        if self.pooling == "static":
            return mean_of(model.get_input_embeddings()(wrapped.ids), wrapped.attention)
        both = self.pooling == "first_last"
        output = sentences.states_of(model, wrapped, output_hidden_states=both)
        last: torch.Tensor = output.last_hidden_state
        if self.pooling == "cls":
            return last[:, 0]
        if self.pooling == "prompt":
            assert wrapped.mask is not None
            vector = sentences.at(last, wrapped.mask)
            if self.denoise:
                vector = vector - sentences.template_states(model, self.wrapper, lengths)
            return vector
        if both:
            last = (output.hidden_states[1] + last) / 2
        return mean_of(last, wrapped.attention)

    def exported_pooling(self) -> str | None:
        return self.pooling if self.pooling in ("cls", "mean") else None


def mean_of(states: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """Return the mean over attended tokens, [B, width], of states [B, W, width]; 0 without any."""
    weights = attention.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def with_period(sentence: str) -> str:
    """Return the sentence, ended by a full stop unless it ends in . ? " or '."""
    return sentence if sentence[-1:] in (".", "?", '"', "'") else sentence + "."


def unbiased(sentence: str, tokenizer: Any) -> str:
    """Return what is left of a sentence without frequent, continuing and punctuation pieces."""
    # Either a word's first piece is marked, or the others are.
    marked = tokenizer.tokenize("a b")[-1][0] in MARKERS
    kept = []
    for index, piece in enumerate(tokenizer.tokenize(sentence)):
        starts = index == 0 or piece[0] in MARKERS if marked else not piece.startswith("##")
        plain = piece.lstrip(MARKERS).lower()
        if starts and plain not in FREQUENT and any(c.isalnum() for c in plain):
            kept.append(plain)
    return " ".join(kept) or str(tokenizer.pad_token)
