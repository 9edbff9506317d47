"""PromptBERT: a sentence's vector is the mask's state in a template, trained contrastively.

Jiang et al., EMNLP 2022 (arXiv 2201.04337); authors' code kongds/Prompt-BERT, which copies SimCSE.
From the state at the mask, the template's own share is subtracted: the same template without the
sentence, its end kept at its positions, under the current weights, with gradients.
`mode=unsupervised`: two templates of one sentence must find each other among the batch.
`mode=supervised`: in one template, a premise must find what it entails, among all of the batch's
entailed sentences and contradictions (`hard_negatives=false`: without contradictions).

Where paper and code differ, and what is the default here:
- positions: the code gives RoBERTa's template positions from 0, where its own start at 2
  (`positions=zero`); the default starts where the encoder does;
- RoBERTa's first word has its blank in training as in evaluation; in the code's training it has
  none (`first_word=bare`). For WordPiece there is no difference;
- in evaluation a sentence without . ? " or ' at its end gets a full stop, in training it does not
  (`period`), and the unsupervised vector is the plain state: neither head nor subtraction
  (`denoise_eval=auto`, `keep_head=auto`: both for supervised; `denoise=off` subtracts nowhere,
  unless `denoise_eval=true` asks for it);
- the supervised figures were published with an evaluation whose template did not keep its positions
  (`shift_eval=false`);
- head: a new linear layer and tanh after the subtraction; for supervised BERT the code takes the
  checkpoint's masked-language-model transform, before the subtraction: `head=mlm`, where the
  checkpoint holds one. `head=auto` is mlm for supervised BERT with such a checkpoint, else mlp;
- published templates end both sides alike; with templates of unequal length each keeps its own
  positions, where the code uses the first one's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt

from methods.embedding import with_period
from methods.method import Batch, Folded, LearningRate, Method, Output, Setting, TrainingText
from methods.surgery.representation import (
    COLUMNS,
    Mode,
    Representation,
    add_projection,
    contrastive_text,
    fold_projection,
)

if TYPE_CHECKING:
    import torch

    from methods.surgery.sentences import Template

BERT = ('This sentence of "[X]" means [MASK].', 'This sentence : "[X]" means [MASK].')
ROBERTA = ("This sentence : ' [X] ' means [MASK].", "The sentence : ' [X] ' means [MASK].")


@dataclass(kw_only=True)
class Promptbert(Representation):
    """Read a sentence's vector at the mask of a template, and train it contrastively."""

    name: ClassVar[str] = "promptbert"
    paper: ClassVar[str] = "Jiang et al. 2022"
    trains: ClassVar[str] = "vectors at a template's mask; `mode=` unsupervised, supervised"
    hinders_capture: ClassVar[str] = "its templates are as wide as a batch's sentences are long"

    mode: Mode = "unsupervised"
    temperature: Annotated[float, Gt(0)] = 0.05
    train_length: Annotated[int, Ge(1)] = 32  # a sentence's tokens in training
    hard_negatives: bool = True
    keep_head: Literal["auto"] | bool = "auto"
    lr: LearningRate = 1e-5
    template: str | None = None
    second_template: str | None = None
    denoise: Literal["attached", "detached", "off"] = "attached"
    denoise_eval: Literal["auto"] | bool = "auto"
    positions: Literal["encoder", "zero"] = "encoder"
    shift_eval: bool = True
    first_word: Literal["marked", "bare"] = "marked"
    period: bool = True
    head: Literal["auto", "mlp", "mlm"] = "auto"

    @property
    def unread(self) -> Mapping[str, str]:
        unread = {"hard_negatives": "mode=unsupervised"} if self.mode == "unsupervised" else {}
        if not self.subtracts:
            unread["shift_eval"] = "vectors that are not denoised in evaluation"
            if self.denoise == "off":
                unread["positions"] = "denoise=off"
        return unread

    def say_alike(self) -> None:
        """Say auto where it means what was typed; of a supervised head the checkpoint says it."""
        if self.keep_head == (self.mode == "supervised"):
            self.keep_head = "auto"
        if self.denoise_eval == self._usually_subtracts:
            self.denoise_eval = "auto"
        if self.mode == "unsupervised" and self.head == "mlp":
            self.head = "auto"

    @property
    def subtracts(self) -> bool:
        """Whether the template's share is subtracted in evaluation."""
        return self._usually_subtracts if self.denoise_eval == "auto" else self.denoise_eval

    @property
    def _usually_subtracts(self) -> bool:
        return self.mode == "supervised" and self.denoise != "off"

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return 2 where denoise=off left the share subtracted in evaluation before."""
        changed = (self.mode, self.denoise, self.denoise_eval) == ("supervised", "off", "auto")
        return self.version + int(changed)

    @property
    def training_text(self) -> TrainingText:
        return contrastive_text(self.mode, self.hard_negatives)

    @property
    def training_length(self) -> int:
        return self.train_length

    @property
    def around(self) -> int:
        return max(template.length for template in self.templates)

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import mlm_head, sentences

        given = ROBERTA if model.config.model_type in sentences.OFFSETS else BERT
        texts = (self.template or given[0], self.second_template or given[1])
        self.templates = [
            sentences.read_template(text, setting.tokenizer, "promptbert", key)
            for text, key in zip(texts, ("template", "second_template"), strict=True)
        ]
        supervised = self.mode == "supervised"
        # A prefix moves positions by itself: the sentence is then hidden from attention instead.
        self.hides = "prefix" in setting.methods
        fits = supervised and model.config.model_type == "bert" and mlm_head.has_one(setting.files)
        kind = ("mlm" if fits else "mlp") if self.head == "auto" else self.head
        self.transforms_first = kind == "mlm"
        head: torch.nn.Module = (
            mlm_head.load(model.config, setting.files)
            if kind == "mlm"
            else sentences.Projection(int(model.config.hidden_size), setting.generator)
        )
        self.keeps_head = add_projection(model, head, self.mode, self.keep_head)
        self.pad: int = setting.tokenizer.pad_token_id

    def fold(self, model: torch.nn.Module) -> Folded:
        return fold_projection(model, self.keeps_head)

    def text(self, sentence: str, training: bool) -> str:
        if training:
            return (self.templates[0].lead if self.first_word == "marked" else "") + sentence
        return self.templates[0].lead + (with_period(sentence) if self.period else sentence)

    def _states(
        self, model: Any, template: Template, ids: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        from methods.surgery import sentences

        wrapped = sentences.wrap(ids, lengths, template, self.pad)
        assert wrapped.mask is not None
        last = sentences.states_of(model, wrapped).last_hidden_state
        return sentences.at(last, wrapped.mask)

    def _share(
        self, model: Any, template: Template, lengths: torch.Tensor, shift: bool = True
    ) -> torch.Tensor:
        from methods.surgery import sentences

        return sentences.template_states(
            model,
            template,
            lengths,
            shift=shift,
            offset=0 if self.positions == "zero" else None,
            hidden_sentence=self.hides,
        )

    def _view(
        self, model: Any, template: Template, ids: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Return what the loss compares: the head's output of the denoised state."""
        state = self._states(model, template, ids, lengths)
        if self.denoise == "off":
            projected: torch.Tensor = model.projection(state)
            return projected
        share = self._share(model, template, lengths)
        return self._apart(model, state, share.detach() if self.denoise == "detached" else share)

    def _apart(self, model: Any, state: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        head = model.projection
        apart: torch.Tensor = (
            head(state) - head(share) if self.transforms_first else head(state - share)
        )
        return apart

    def objective(self, model: Any, batch: Batch) -> Output:
        from methods.surgery.sentences import contrastive

        ids, lengths = batch["input_ids"], batch["attention_mask"].sum(dim=1)
        first, second = self.templates
        if self.mode == "unsupervised":
            views = [self._view(model, t, ids, lengths) for t in (first, second)]
        else:
            views = list(self._view(model, first, ids, lengths).chunk(COLUMNS[self.training_text]))
        return Output(*contrastive(views[0], views[1], self.temperature, *views[2:]))

    def vectors(self, model: Any, batch: Batch) -> torch.Tensor:
        ids, lengths = batch["input_ids"], batch["attention_mask"].sum(dim=1)
        template = self.templates[0]
        state = self._states(model, template, ids, lengths)
        if self.subtracts:
            share = self._share(model, template, lengths, self.shift_eval)
            return self._apart(model, state, share) if self.keeps_head else state - share
        if self.keeps_head:
            state = model.projection(state)
        return state
