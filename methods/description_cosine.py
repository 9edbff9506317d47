"""Texts are compared with a description of each label: the logits are cosines of their vectors.

A baseline without training for encoders that were trained to make vectors of sentences, such as
minilm, at `budget.epochs=0`. The vectors of the descriptions are made by the encoder that the run
starts with, and are the rows of the head: logits are cosines over `temperature`, and where the run
trains, the rows train with whatever else does. Tasks have their descriptions in their files; those
of GLUE's tasks are this project's own words, and no paper's. SimCSE (Gao, Yao and Chen, EMNLP 2021)
has the temperature of 0.05; without training it changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Gt

from methods.embedding import mean_of
from methods.method import Method, Setting, TaskFacts

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class DescriptionCosine(Method):
    """Answer with the label whose description's vector is nearest to the text's."""

    name: ClassVar[str] = "description_cosine"
    trains: ClassVar[str] = "cosines with the labels' descriptions; `pooling=` cls, mean"
    owns: ClassVar[frozenset[str]] = frozenset({"head"})
    changes_start: ClassVar[bool] = True
    of_whole_texts: ClassVar[str] = "compares whole texts with descriptions"
    leaves: ClassVar[str] = "answers by cosines with descriptions"
    model_head: ClassVar[Literal["none", "tokens"] | None] = "none"
    reads: ClassVar[frozenset[str]] = frozenset({"descriptions"})
    other_dropout: ClassVar[bool] = True

    pooling: Literal["cls", "mean"] = "mean"
    temperature: Annotated[float, Gt(0)] = 0.05

    def task_known(self, task: TaskFacts) -> list[str]:
        self._descriptions = [task.descriptions.get(label, "") for label in task.labels]
        if task.answer != "class":
            return [
                f"method={self.name} compares texts with descriptions of labels; task={task.name}"
                f" is of kind {task.kind}: use another method"
            ]
        lacking = [label for label in task.labels if not task.descriptions.get(label, "").strip()]
        unknown = [label for label in task.descriptions if label not in task.labels]
        if lacking or unknown:
            what = "no description of" if lacking else "a description of what is no label:"
            return [
                f"method={self.name}: task={task.name} has {what} {', '.join(lacking or unknown)};"
                " write a sentence for each label into a section descriptions of its file, as"
                " configs/task/sst2.yaml has"
            ]
        return []

    def prepare(self, model: Any, setting: Setting) -> None:
        import torch

        from methods.surgery.description_head import DescriptionHead

        inputs = setting.tokenizer(
            self._descriptions,
            padding=True,
            truncation=True,
            max_length=setting.max_length,
            return_tensors="pt",
        )
        model.eval()
        with torch.no_grad():
            states = model(**inputs).last_hidden_state
        vectors = self._pooled(states, inputs["attention_mask"])
        model.add_module("descriptions", DescriptionHead(vectors, self.temperature))
        model.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True)
        model.base_model.register_forward_pre_hook(self._see_mask, with_kwargs=True)
        model.register_forward_hook(self._answer)
        self._labels: torch.Tensor | None = None

    def _begin(self, model: Any, inputs: Any, named: dict[str, Any]) -> Any:
        self._labels = named.get("labels")
        return inputs, {key: value for key, value in named.items() if key != "labels"}

    def _see_mask(self, module: Any, inputs: Any, named: dict[str, Any]) -> None:
        self._mask: torch.Tensor = named["attention_mask"]

    def _answer(self, model: Any, inputs: Any, output: Any) -> Any:
        from torch.nn.functional import cross_entropy
        from transformers.modeling_outputs import SequenceClassifierOutput

        states = output.last_hidden_state
        mask = self._mask[:, -states.shape[1] :]  # a prefix is attended to, and has no state
        logits = model.descriptions(self._pooled(states, mask))
        labels, self._labels = self._labels, None
        loss = None if labels is None else cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _pooled(self, states: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        """Return vectors of texts, [B, width], of their states [B, L, width]."""
        import torch

        if self.pooling == "mean":
            return mean_of(states, attention)
        first = attention.int().argmax(dim=1)  # behind padding, where that is on the left
        return states[torch.arange(len(states), device=states.device), first]
