"""UniMC: a task is a multiple choice, and each option's mask says whether it is right.

Yang, Wang et al., EMNLP 2022 (arXiv 2210.08590); authors' code IDEA-CCNL/Fengshenbang-LM,
fengshen/models/unimc. A text is read as

    [CLS] [MASK] option [MASK] option … [SEP] question [SEP] text [SEP] second text [SEP]

Options stand for a task's classes, or are each row's own (kind multiple_choice). Tokens of two
options do not see each other, options and all else do. Positions begin anew with every option, and
go on behind the longest one. Options, and the separator behind them, are of token type 1. No
parameter is new. With s_k the logit of `right` (yes) at the mask of option k, the answer is the
option with the highest s, and the loss is the sum of

- maximal matching: the cross-entropy of softmax(s) over the options;
- option-MLM: the cross-entropy over the whole vocabulary of yes at the right option's mask and of
  `wrong` (no) at the others', together with masked tokens of question and texts, the mean over all
  of them in a batch. A text's rate of masking is drawn from 0, .1, .2, .3 with probabilities .3,
  .3, .25, .15 each time it is read; 80 % are masked, 10 % stay, and 10 % become any token.

Where the code differs:
- separators, too, may be masked there; here no special token is;
- it takes the softmax over the whole text, with -10000 added to all but the options' masks; here
  over the options' logits alone, which is the same in float32;
- too long options are halved, and of too long a text the end is cut; here options are never cut,
  and the longer text is cut first;
- positions above 511 are read as 511; here texts of more than 512 tokens are refused.

The paper trains on fourteen data sets at once, and answers others without training: here a run
trains on one task or on a mixture, and another starts from it. Each task of a mixture has its own
question and options; one head answers them all. Methods that measure the model before the first
step see maximal matching alone. ALBERT, BERT and ELECTRA have the absolute positions and token
types that this needs.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from methods.method import Arranged, Batch, Forward, Method, Options, Setting, TaskFacts
from results.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

MODELS = ("albert", "bert", "electra")


@dataclass(kw_only=True)
class Unimc(Method):
    """Choose among options; `question` and `options` replace the task's own.

    `options` are in the order of the task's labels; rows may have options of their own instead.
    """

    name: ClassVar[str] = "unimc"
    paper: ClassVar[str] = "Yang et al. 2022"
    trains: ClassVar[str] = "the answer is an option, yes or no at its mask; `options=`"
    owns: ClassVar[frozenset[str]] = frozenset({"head", "loss", "places"})
    changes_start: ClassVar[bool] = True
    of_whole_texts: ClassVar[str] = "reads answers at masks of its own"
    leaves: ClassVar[str] = "reads its answer at the masks of options"
    model_head: ClassVar[Literal["none", "tokens"] | None] = "tokens"
    reads: ClassVar[frozenset[str]] = frozenset({"choices"})
    hinders_capture: ClassVar[str] = "batches have unlike numbers of masked tokens"
    narrow: ClassVar[Options] = {
        **{"head": "any", "right": "a", "wrong": "not"},
        **{"question": "the", "options": ["a", "not"]},
    }
    other_dropout: ClassVar[bool] = True

    question: str | None = None
    options: list[str] | None = None
    right: str = "yes"
    wrong: str = "no"
    head: Literal["pretrained", "any"] = "pretrained"

    def problems(self) -> list[str]:
        if self.right != self.wrong:
            return []
        both = f"method.{self.name}.right and method.{self.name}.wrong are both {self.right!r}"
        return [f"{both}; choose another word for one of them"]

    def task_known(self, task: TaskFacts) -> list[str]:
        if task.answer == "several":
            return self._mixture_known(task)
        self._question = task.question if self.question is None else self.question
        self._options: list[str] = []
        self._own = 0  # options that a row has of its own, in its last columns
        self._each = {task.name: self}
        if task.answer == "option":
            return self._rows_known(task)
        if task.answer != "class":
            return [
                f"method={self.name} chooses among options, of a row's own or for classes;"
                f" task={task.name} is of kind {task.kind}: use another method"
            ]
        labels = ", ".join(task.labels)
        if self.options is not None:
            self._options, key = list(self.options), f"method.{self.name}.options"
            if len(self._options) != len(task.labels):
                return [
                    f"{key}: {len(self._options)} options for {len(task.labels)} labels ({labels});"
                    " name one for each, in this order"
                ]
        else:
            key, lacking = "task.choices.options", [*task.options.keys() ^ {*task.labels}]
            if lacking:
                return [
                    f"method={self.name}: task={task.name} names no options for its labels"
                    f" ({labels}), one for each; give method.{self.name}.options=, or a section"
                    " choices in its file, as configs/task/sst2.yaml has"
                ]
            self._options = [task.options[label] for label in task.labels]
        if any(not option.strip() for option in self._options):
            return [f"{key}: an option is empty; name it"]
        twice = [option for option in self._options if self._options.count(option) > 1]
        return [f"{key}: {twice[0]!r} stands for two labels; name another"] if twice else []

    def _rows_known(self, task: TaskFacts) -> list[str]:
        """Take note of a task whose rows have options of their own; return what is wrong."""
        self._own = len(task.labels)
        if self.options is None and not task.options:
            return []
        key = f"task.choices.options of task={task.name}"
        key = key if self.options is None else f"method.{self.name}.options"
        return [f"{key}: each row of task={task.name} has options of its own; leave them out"]

    def _mixture_known(self, task: TaskFacts) -> list[str]:
        """Take note of the tasks of a mixture; return what is wrong with them."""
        given = [key for key in ("question", "options") if getattr(self, key) is not None]
        if given:
            return [
                f"method.{self.name}.{given[0]}= is of one task, and task={task.name} mixes"
                " several: each has its own, in the section choices of its file"
            ]
        self._each = {one.name: copy.copy(self) for one in task.tasks}
        return [why for one in task.tasks for why in self._each[one.name].task_known(one)]

    def of_task(self, name: str) -> Unimc:
        return self._each[name]

    @property
    def arrangement(self) -> str:
        own = [self._own] if self._own else []
        return f"{self.name} {[self._question, *self._options, *own]}"

    def arrange(
        self,
        columns: Sequence[Sequence[str]],
        tokenizer: Any,
        max_length: int,
        cut: Callable[[int, int], Sequence[int]],
    ) -> Arranged:
        from methods.surgery import choices

        texts, options = columns[: len(columns) - self._own], columns[len(columns) - self._own :]
        if not self._own:
            options = choices.repeated(self._options, len(columns[0]), tokenizer)
        return choices.arrange(self._question, options, texts, tokenizer, max_length, cut)

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import option_reader, prompts
        from methods.surgery.streams import Streams

        _check_model(model, setting)
        if self.head == "pretrained":
            prompts.check_head(setting, self.name)
        right, wrong = (
            prompts.single_token(
                word, setting.tokenizer, self.name, f"choose another by method.{self.name}.{key}="
            )
            for key, word in (("right", self.right), ("wrong", self.wrong))
        )
        self.streams = Streams(setting.generator)
        marks = option_reader.marks_of(setting.tokenizer)
        self.reader = option_reader.OptionReader(right, wrong, marks)
        self.reader.read_from(model)

    @property
    def divisible(self) -> bool:
        return False  # texts have unlike numbers of masked tokens

    def loss(self, model: torch.nn.Module, batch: Batch, forward: Forward) -> torch.Tensor:
        import torch

        if self.paused:
            return forward(batch).loss
        reader = self.reader
        reader.masked = reader.mask(batch, self.streams.on(torch.device("cpu")))
        try:
            matching = forward(batch).loss
            assert reader.word_loss is not None
            return matching + reader.word_loss
        finally:
            reader.masked = reader.word_loss = None

    def state_dict(self) -> dict[str, Any]:
        return self.streams.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state)


def _check_model(model: Any, setting: Setting) -> None:
    """Refuse models without the positions and token types that options need, and long texts."""
    from methods.surgery.choices import LONGEST

    config, tokenizer = model.config, setting.tokenizer
    absolute = getattr(config, "position_embedding_type", "absolute") == "absolute"
    typed = getattr(config, "type_vocab_size", 0) > 1
    if config.model_type not in MODELS or not absolute or not typed:
        raise UserError(
            f"method=unimc: options need absolute positions and two token types, which this model"
            f" ({config.model_type}) has not; use a BERT, ALBERT or ELECTRA, such as"
            " model=bert-base-uncased"
        )
    if "token_type_ids" not in tokenizer.model_input_names:
        raise UserError(
            "method=unimc: options need token types, and this model's tokenizer gives none; add"
            " token_type_ids to model_input_names of its tokenizer_config.json"
        )
    if setting.max_length > LONGEST:
        raise UserError(
            f"method=unimc: budget.max_length={setting.max_length} is above {LONGEST}, up to which"
            f" its positions go; use budget.max_length={LONGEST}"
        )
