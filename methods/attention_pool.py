"""Attention pooling: the head reads all of a text's tokens, weighed, in place of the first one.

`pooling=light`: Stärk et al., Bioinformatics Advances 2021 ("Light attention predicts protein
location from the language of life"); authors' code HannesStark/protein-localization,
models/light_attention.py. Of the last layer's states x, with two convolutions over the tokens,

    values v = conv(x), weights a = softmax over real tokens of conv'(x), for each channel,
    pooled = W [Σ a v ; max v] + b

What differs from it:
- W gives a vector of the encoder's width, which the architecture's own head reads as if it was the
  first token's state; in the code two layers with batch normalisation make 32 units and the answer;
- padding has no part: it is zero for both convolutions, and is left out of the maximum, which the
  code takes over padding too. A batch padded further has the same answers;
- the encoder trains as another method says, all of it without one; theirs is frozen, as in
  `method=[attention_pool,linear]`.
Special tokens are tokens as others. Dropout is on the values, with a stream of the method's own.

`pooling=query` is plainer: the mean of x by softmax(x · q / √width), with a learned vector q that
starts at 0, so at the mean over tokens; of this project's choice. kernel and dropout are of light.

What it adds is part of the head: it starts from the run's seed, trains under every method, and goes
on with `start.head=keep` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Lt

from methods.method import Method, Options, Setting
from results.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class AttentionPool(Method):
    """Give the head a mean of all tokens' states by learned weights."""

    name: ClassVar[str] = "attention_pool"
    paper: ClassVar[str] = "Stärk et al. 2021"
    trains: ClassVar[str] = "the head reads all tokens by attention; `pooling=` light, query"
    of_whole_texts: ClassVar[str] = "makes one vector of a text for its head"
    leaves: ClassVar[str] = "has the head read a mean of all tokens"
    changes_start: ClassVar[bool] = True
    extends_head: ClassVar[bool] = True
    narrow: ClassVar[Options] = {"kernel": 3}

    pooling: Literal["light", "query"] = "light"
    kernel: Annotated[int, Ge(1)] = 9
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.25

    @property
    def unread(self) -> Mapping[str, str]:
        idle = ("kernel", "dropout") if self.pooling == "query" else ()
        return dict.fromkeys(idle, "pooling=query")

    @property
    def own_dropout(self) -> float:
        """The rate at which its values are dropped."""
        return self.dropout if self.pooling == "light" else 0.0

    def refuses(self, other: Method) -> str:
        if other.represents:
            return f"{other.name} makes vectors of sentences without a head"
        if other.model_head is not None:
            return f"{other.name} reads other states than the one that attention_pool replaces"
        if "places" in other.owns:
            return f"{other.name} puts vectors among the tokens that attention_pool pools"
        return ""

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places, pooling, tuners
        from methods.surgery.streams import Streams

        if self.kernel % 2 == 0:
            raise UserError(
                f"method.attention_pool.kernel={self.kernel}: a convolution that keeps the number"
                f" of tokens is over an odd number of them; use {self.kernel + 1}"
            )
        if model.config.is_encoder_decoder:
            raise UserError(
                f"method=attention_pool: {model.config.model_type} has its head read where each"
                " text ends, and this stands in one place for all; use a model without a decoder"
            )
        last = places.last_states(model, "attention_pool")
        self.reads_last = model.config.model_type == "xlnet"
        if getattr(model.config, "classifier_pooling", "cls") != "cls":
            raise UserError(
                f"method=attention_pool: the head of this {model.config.model_type} model reads the"
                " mean of all tokens, and not the first one, in whose place this stands; use"
                " another model"
            )
        self.streams = Streams(setting.generator)
        width = places.hidden_size(model)
        with tuners.own_stream(setting):
            pool = (
                pooling.LightAttention(width, self.kernel, self.dropout, self._dropped)
                if self.pooling == "light"
                else pooling.QueryAttention(width)
            )
        places.add_to_head(model, "attention_pool", pool)
        self.pool, self.mask = pool, None
        model.register_forward_pre_hook(self._see_mask, with_kwargs=True)
        last.register_forward_hook(self._replace)

    def _dropped(self, values: torch.Tensor, rate: float) -> torch.Tensor:
        if rate == 0 or self.paused:
            return values
        return values * self.streams.keep(values, 1 - rate) / (1 - rate)

    def _see_mask(self, module: torch.nn.Module, inputs: Any, named: dict[str, Any]) -> None:
        self.mask = named.get("attention_mask")

    def _replace(self, module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        """Put the pooled vector where the state stands that the head reads: first, or last."""
        import torch

        states: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
        length = states.shape[1]
        mask = torch.ones_like(states[..., 0]) if self.mask is None else self.mask
        real = mask[:, mask.shape[1] - length :] > 0  # a prefix has a part of it, and no state
        pooled = self.pool(states, real).to(states.dtype)
        pooled = pooled[:, None]
        parts = [states[:, :-1], pooled] if self.reads_last else [pooled, states[:, 1:]]
        states = torch.cat(parts, 1)
        if isinstance(output, torch.Tensor):
            return states
        if isinstance(output, tuple):
            return (states, *output[1:])
        output["last_hidden_state"] = states
        return output

    def state_dict(self) -> dict[str, Any]:
        return self.streams.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state)
