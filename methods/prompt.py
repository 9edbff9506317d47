"""Prompt tuning: learned vectors before the word embeddings, through peft.

Lester et al., EMNLP 2021 (arXiv 2104.08691). As in peft, the vectors stand before the first token:
a head that reads position 0 therefore reads the first virtual token, not [CLS], and positions of
real tokens are shifted, so that `length` fewer tokens fit. `place=after_cls` leaves the first token
first, so that the head reads what it reads without the method; peft has no such form, and what is
saved is then in this project's. The vectors start as N(0, 1), peft's default, or as rows of the
word embeddings (`start=vocabulary`). The paper reads a language-model head instead. Where texts are
padded on the left, as XLNet's, the vectors stand between padding and text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from methods.method import LearningRate, Method, Setting
from results.errors import UserError


@dataclass(kw_only=True)
class Prompt(Method):
    """Prepend `length` learned vectors to the embedded text; train these and the head."""

    name: ClassVar[str] = "prompt"
    paper: ClassVar[str] = "Lester et al. 2021"
    trains: ClassVar[str] = "10 vectors before the text; `length=`, `place=`"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters", "places"})
    of_whole_texts: ClassVar[str] = "moves the tokens that a head over tokens answers"
    leaves: ClassVar[str] = "leaves vectors before the text"
    changes_start: ClassVar[bool] = True  # virtual tokens are attended to, and read by the head
    other_dropout: ClassVar[bool] = True

    lr: LearningRate = 1e-2
    length: Annotated[int, Ge(1)] = 10
    place: Literal["before", "after_cls"] = "before"
    start: Literal["random", "vocabulary"] = "random"

    @property
    def moves(self) -> frozenset[str]:
        return frozenset()

    def prepare(self, model: Any, setting: Setting) -> None:
        from peft import PromptTuningConfig, PromptTuningInit, TaskType

        from methods.surgery import places, tuners

        tuners.check_room(model, "prompt", self.length, setting)
        words = places.embedding_of_words(model, "prompt")
        self.left = getattr(setting.tokenizer, "padding_side", "right") == "left"
        if self.left and self.place == "after_cls":
            raise UserError(
                f"method=prompt: {model.config.model_type} has its class token at the end, where"
                " the head reads it in any case; use method.prompt.place=before"
            )
        self.config = PromptTuningConfig(
            task_type=TaskType.SEQ_CLS,
            num_virtual_tokens=self.length,
            token_dim=words.embedding_dim,
            num_transformer_submodules=1,
            num_attention_heads=model.config.num_attention_heads,
            num_layers=model.config.num_hidden_layers,
            prompt_tuning_init=(
                PromptTuningInit.RANDOM if self.start == "random" else PromptTuningInit.SAMPLE_VOCAB
            ),
        )
        at = int(self.place == "after_cls")
        tuners.attach_prompt(model, self.config, setting, at=at, left=self.left)

    def peft_config(self) -> Any:
        return self.config if self.place == "before" and not self.left else None
