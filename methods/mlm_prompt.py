"""LM-BFF: the label is the word that the checkpoint's own head predicts at a mask in a template.

Gao, Fisch and Chen, ACL 2021 (arXiv 2012.15723), prompt-based fine-tuning with manual templates and
label words; authors' code princeton-nlp/LM-BFF. No parameter is new: with h the state at the mask
after the head's transform, and w, b its output layer,

    p(y|x) = exp(w_y · h + b_y) / Σ_y' exp(w_y' · h + b_y') over the label words only,

and only these rows are computed. A score from v_l to v_u is v_l + (v_u - v_l) p(high word), trained
by KL(q || p) with q(high) = (y - v_l) / (v_u - v_l).

Where the code differs, and what is the default here:
- regression: it gives probabilities to a divergence that takes their logarithms, whose minimum is
  at p ∝ exp(q), so that no score below .27 or above .73 of the range can be learnt; and it takes
  the mean over both words (`regression=official`). The default is the KL, its mean over examples;
- the first sentence of a question loses its last character, whatever it is (`bare=character`); the
  default takes a punctuation mark only;
- it cuts the filled template at its end, and stops where the mask is cut off; here the texts are
  cut, the longer one first;
- BERT's segments: the code adds some, one a separator. Here all is of the first, as it is there
  without demonstrations.
Demonstrations, and the search for templates and words, are not done. A parameter method freezes
the head with the encoder. A head that the checkpoint lacks is refused, unless `head=any`: then it
is drawn, tied to the word embedding, and trains as any head does; that is a control.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from methods.method import Arranged, Method, Options, Setting, TaskFacts
from results.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from methods.surgery.prompts import Part

ENDS = ("low", "high")


@dataclass(kw_only=True)
class MlmPrompt(Method):
    """Read the answer at the mask of a template; `template` and `words` replace the task's own.

    `words` are in the order of the task's labels; of a score, the word for its lowest value first.
    """

    name: ClassVar[str] = "mlm_prompt"
    paper: ClassVar[str] = "Gao, Fisch and Chen 2021"
    trains: ClassVar[str] = "the answer is a word at a mask; `template=`, `words=`"
    owns: ClassVar[frozenset[str]] = frozenset({"head"})
    changes_start: ClassVar[bool] = True
    of_whole_texts: ClassVar[str] = "reads an answer at a mask of its own"
    leaves: ClassVar[str] = "reads its answer among words at a mask"
    model_head: ClassVar[Literal["none", "tokens"] | None] = "tokens"
    reads: ClassVar[frozenset[str]] = frozenset({"prompt"})
    narrow: ClassVar[Options] = {"head": "any", "words": ["a", "not"]}
    other_dropout: ClassVar[bool] = True

    template: str | None = None
    words: list[str] | None = None
    regression: Literal["kl", "official"] = "kl"
    bare: Literal["punctuation", "character"] = "punctuation"
    head: Literal["pretrained", "any"] = "pretrained"

    def task_known(self, task: TaskFacts) -> list[str]:
        from methods.surgery import prompts

        self._parts: list[Part] = []
        self._words: list[str] = []
        self._template = ""
        self._labels: tuple[str, ...] = task.labels if task.answer == "class" else ENDS
        self._range = task.range
        if task.answer not in ("class", "score"):
            return [
                f"method={self.name} reads a class or a score at a mask; task={task.name} is of"
                f" kind {task.kind}: use another method"
            ]
        template = task.template if self.template is None else self.template
        key = "task.prompt.template" if self.template is None else f"method.{self.name}.template"
        if template is None:
            return [
                f"method={self.name}: task={task.name} has no template; give it"
                f" method.{self.name}.template= and method.{self.name}.words=, or a section prompt"
                " in its file, as configs/task/sst2.yaml has"
            ]
        self._parts, wrong = prompts.read_template(template, task.columns)
        self._template = template
        problems = [f"{key}={template!r} {why}" for why in wrong]
        if task.answer == "score" and task.range is None:
            problems.append(f"method={self.name}: task={task.name} has no range; give task.range=")
        return problems + self._words_known(task)

    def _words_known(self, task: TaskFacts) -> list[str]:
        """Take the label words; return what is wrong with them."""
        what = "labels" if task.answer == "class" else "ends of its range"
        if self.words is not None:
            self._words, key = list(self.words), f"method.{self.name}.words"
        else:
            lacking = [label for label in self._labels if label not in task.words]
            if lacking:
                return [
                    f"task.prompt.words has no word for {', '.join(lacking)}: the task has"
                    f" {len(self._labels)} {what} ({', '.join(self._labels)}), and each needs one,"
                    f" there or by method.{self.name}.words="
                ]
            self._words, key = [task.words[label] for label in self._labels], "task.prompt.words"
        if len(self._words) != len(self._labels):
            return [
                f"{key}: {len(self._words)} words for {len(self._labels)} {what}"
                f" ({', '.join(self._labels)}); name one for each, in this order"
            ]
        twice = sorted({word for word in self._words if self._words.count(word) > 1})
        return [f"{key}: {twice[0]!r} stands for two {what}; name another"] if twice else []

    @property
    def arrangement(self) -> str:
        return f"{self.name} {self._template} {self.bare}"

    def arrange(
        self,
        columns: Sequence[Sequence[str]],
        tokenizer: Any,
        max_length: int,
        cut: Callable[[int, int], Sequence[int]],
    ) -> Arranged:
        from methods.surgery import prompts

        every = self.bare == "character"
        return prompts.arrange(self._parts, columns, tokenizer, max_length, cut, every)

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import prompts
        from methods.surgery.mask_reader import MaskReader

        if self.head == "pretrained":
            prompts.check_head(setting, self.name)
        if setting.regression and "dp" in setting.methods:
            raise UserError(
                f"method=[{','.join(setting.methods)}]: dp clips the squared error of each example,"
                f" and {self.name} trains scores by a divergence; keep one of them"
            )
        instead = (
            f"choose another for its label by method.{self.name}.words= or in task.prompt.words"
        )
        ids = [
            prompts.single_token(word, setting.tokenizer, self.name, instead)
            for word in self._words
        ]
        low_high = self._range if setting.regression else None
        official = self.regression == "official"
        MaskReader(ids, setting.tokenizer.mask_token_id, low_high, official).read_from(model)
