"""SetFit: the encoder learns from pairs of labelled texts, the head is a logistic regression.

Tunstall et al., 2022 (arXiv 2209.11055); authors' code huggingface/setfit. A text's vector is the
mean of its tokens' last states. Each row of a batch makes two pairs, one with a row of its class
and one with a row of another, drawn from all rows that are trained on, and the loss is the mean of

    (cos(u, v) - y)²,    y = 1 within a class, 0 across

So an epoch is one iteration of the paper: `budget.epochs=20` is its R = 20, and a batch of 8 rows
has 16 pairs, as the library has by default. Before an evaluation, and after the last step, once
other methods have edited its weights, a logistic regression (scikit-learn's, L2, C) is fitted to
the vectors of all those rows; it stands in the last linear layer of the architecture's own head,
which here reads the vector itself. What else that head has (a pooler, a first layer) is unused and
stays as it was.

What differs from the library:
- pairs are drawn as in its first version, a row with itself included; now it goes through a
  shuffled list of all pairs;
- a row passes once for both of its pairs, under one dropout mask;
- the encoder is the run's, in the paper's experiments one that was trained for similarity before;
- the regression may take 1,000 rounds in place of 100; the budget has the schedule.
A regression, options and mixtures have no classes to make pairs of, and are refused, as are
`task.class_weights`, of which neither part has a notion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Gt

from methods.method import Batch, Forward, LearningRate, Method, Setting
from methods.surgery.edits import edited_behind
from results.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import torch

ROWS_A_PASS = 64  # where the head is fitted
NEVER = -1e4  # the bias of a class that no row is of


@dataclass(kw_only=True)
class Setfit(Method):
    """Pull vectors of a class together and apart from others'; fit the head to them."""

    name: ClassVar[str] = "setfit"
    paper: ClassVar[str] = "Tunstall et al. 2022"
    trains: ClassVar[str] = "on pairs of labelled texts, the head by logistic regression"
    owns: ClassVar[frozenset[str]] = frozenset({"loss", "criterion", "head"})
    of_whole_texts: ClassVar[str] = "makes pairs of labelled texts"
    of_classes: ClassVar[str] = "makes pairs within a class and across classes"
    leaves: ClassVar[str] = "has the head read the mean of all tokens"
    hinders_capture: ClassVar[str] = "its pairs are drawn on the host"
    watches_evaluation: ClassVar[bool] = True  # the head is fitted before it
    changes_start: ClassVar[bool] = True
    other_dropout: ClassVar[bool] = True
    may_stay: ClassVar[tuple[str, ...]] = ("pooler.",)

    lr: LearningRate = 2e-5
    C: Annotated[float, Gt(0)] = 1.0

    def refuses(self, other: Method) -> str:
        if "places" in other.owns and not other.represents:
            return f"{other.name} puts vectors among the tokens that setfit takes the mean of"
        if other.extends_head:
            return f"{other.name} changes what the head reads, and so does setfit"
        if "average" in other.owns:
            return f"{other.name} averages a head that setfit fits anew for each evaluation"
        if "gradient" in other.owns:
            return (
                f"{other.name} takes a batch several times, and setfit draws other pairs each time"
            )
        return ""

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return 2 before a method that edited the last step's weights once the head was fitted."""
        return self.version + int(edited_behind(self, methods))

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places
        from methods.surgery.streams import Streams

        if setting.regression or setting.num_labels < 2:
            raise UserError(
                "method=setfit makes pairs within a class and across classes, and this task has no"
                " classes; use it with a classification"
            )
        self.streams, self.total_steps = Streams(setting.generator), setting.total_steps
        self.pad = getattr(setting.tokenizer, "pad_token_id", 0)
        self.left = getattr(setting.tokenizer, "padding_side", "right") == "left"
        self.layer, _ = places.last_of_head(model, setting.head, "method=setfit")
        self.rows: Batch = {}  # all that are trained on, (n, L), and their labels (n,)
        self.stale = self.fitting = False
        self.forward: Forward | None = None
        self.mask: torch.Tensor | None = None
        model.register_forward_pre_hook(self._begin, prepend=True, with_kwargs=True)
        places.last_states(model, "setfit").register_forward_hook(self._keep)
        model.register_forward_hook(self._answer, with_kwargs=True)

    def _begin(self, module: Any, inputs: Any, named: dict[str, Any]) -> None:
        if self.stale and not module.training and not self.fitting:
            self._fit(module, lambda batch: module(**batch))
        self.mask = named.get("attention_mask")

    def _keep(self, module: Any, inputs: Any, output: Any) -> None:
        self.states: torch.Tensor = output if not isinstance(output, tuple) else output[0]
        if hasattr(output, "last_hidden_state"):
            self.states = output.last_hidden_state

    def _answer(self, module: Any, inputs: Any, named: dict[str, Any], output: Any) -> Any:
        """Put the head's answers to the vectors, and their loss, in place of the model's own."""
        import torch

        from methods.embedding import mean_of

        mask = torch.ones_like(self.states[..., 0]) if self.mask is None else self.mask
        self.vectors = mean_of(self.states.float(), mask[:, -self.states.shape[1] :])
        output["logits"] = self.layer(self.vectors)
        if named.get("labels") is not None:
            logits = output["logits"].float()
            output["loss"] = torch.nn.functional.cross_entropy(logits, named["labels"])
        return output

    def before_training(self, model: Any, batches: Iterable[Batch], forward: Forward) -> None:
        import torch

        kept = [{name: tensor.cpu() for name, tensor in batch.items()} for batch in batches]
        longest = max(batch["input_ids"].shape[1] for batch in kept)
        same = [self._as_long(batch, longest) for batch in kept]
        self.rows = {name: torch.cat([batch[name] for batch in same]) for name in same[0]}
        if len(self.rows["labels"].unique()) < 2:
            raise UserError(
                "method=setfit: all rows that are trained on are of one class, and pairs across"
                " classes are needed; train on more rows"
            )

    def _as_long(self, batch: Batch, length: int) -> Batch:
        """Return a batch (B, L) padded, or cut where there is padding, to a length."""
        from torch.nn.functional import pad

        more = length - batch["input_ids"].shape[1]
        both = (more, 0) if self.left else (0, more)
        fill = {"input_ids": self.pad}
        return {
            name: pad(tensor, both, value=fill.get(name, 0)) if tensor.ndim == 2 else tensor
            for name, tensor in batch.items()
        }

    def _taken(self, rows: list[int], device: torch.device) -> Batch:
        """Return some of the rows as a batch."""
        chosen = {name: tensor[rows] for name, tensor in self.rows.items()}
        chosen = self._as_long(chosen, int(chosen["attention_mask"].sum(1).max()))
        return {name: tensor.to(device) for name, tensor in chosen.items()}

    def loss(self, model: Any, batch: Batch, forward: Forward) -> torch.Tensor:
        import torch

        self.forward, self.stale = forward, True
        partners = self._taken(self._drawn(batch["labels"].tolist()), batch["labels"].device)
        parts = (batch, partners)
        length = max(part["input_ids"].shape[1] for part in parts)
        one, two = (self._as_long(part, length) for part in parts)
        forward({name: torch.cat([one[name], two[name]]) for name in one})
        own, same, other = self.vectors.chunk(3)
        if not own.requires_grad:
            raise UserError(
                "method=setfit: nothing of the encoder trains, and pairs change nothing else; let"
                " more of it train"
            )
        near, far = (torch.nn.functional.cosine_similarity(own, of) for of in (same, other))
        return ((near - 1).square().mean() + far.square().mean()) / 2

    def _drawn(self, labels: list[int]) -> list[int]:
        """Return a row of the same class for each label, and then one of another for each."""
        import torch

        known, stream = self.rows["labels"], self.streams.on(torch.device("cpu"))
        within = [(known == label).nonzero()[:, 0] for label in labels]
        across = [(known != label).nonzero()[:, 0] for label in labels]
        return [
            int(rows[int(torch.randint(len(rows), (), generator=stream))])
            for rows in (*within, *across)
        ]

    def see_weights(self, model: Any, step: int) -> None:
        if step + 1 == self.total_steps and self.forward is not None:
            self._fit(model, self.forward)

    def _fit(self, model: Any, passed: Callable[[Batch], Any]) -> None:
        """Fit the head to the vectors of all rows, each of which is passed through the model."""
        import torch
        from sklearn.linear_model import LogisticRegression

        was_training, vectors, count = model.training, [], len(self.rows["labels"])
        device = self.layer.weight.device
        self.fitting = True
        model.eval()
        with torch.no_grad():
            for first in range(0, count, ROWS_A_PASS):
                rows = list(range(first, min(first + ROWS_A_PASS, count)))
                passed(self._taken(rows, device))
                vectors.append(self.vectors.float().cpu())
            fitted = LogisticRegression(C=self.C, max_iter=1000)
            fitted.fit(torch.cat(vectors).numpy(), self.rows["labels"].numpy())
            weight, bias = torch.zeros(self.layer.weight.shape), torch.zeros(self.layer.bias.shape)
            bias.fill_(NEVER)
            classes = torch.from_numpy(fitted.classes_)
            of_two = len(classes) == 2  # then it gives the second's logit alone
            bias[classes] = 0.0
            chosen = classes[1:] if of_two else classes
            weight[chosen] = torch.from_numpy(fitted.coef_).float()
            bias[chosen] = torch.from_numpy(fitted.intercept_).float()
            self.layer.weight.copy_(weight)
            self.layer.bias.copy_(bias)
        model.train(was_training)
        self.stale = self.fitting = False

    def state_dict(self) -> dict[str, Any]:
        return {"streams": self.streams.state_dict(), "rows": self.rows, "stale": self.stale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state["streams"])
        self.rows, self.stale = dict(state["rows"]), state["stale"]
