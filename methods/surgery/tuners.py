"""Puts peft's layers into a model in place: the model stays the one that the loop calls."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from methods.method import Folded, Setting
from methods.surgery.places import freeze_all_but_head, layers, longest_text, stacks
from results.errors import UserError


@contextmanager
def own_stream(setting: Setting) -> Iterator[None]:
    """Let code that draws from torch's global stream draw from the method's instead."""
    seed = int(torch.randint(2**62, (), generator=setting.generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def matrices(
    model: Any, method: str, wanted: Sequence[str], feed_forward: bool
) -> dict[str, list[str]]:
    """Return the names, inside a layer, of places that are matrices, by the name of each stack.

    With the whole feed-forward branch if it is asked for. Where one matrix is for queries, keys and
    values, it stands for each of them; a model without a place is a UserError.
    """
    together = model.config.model_type == "modernbert"
    layers(model, method, [] if together else wanted)
    targets = {}
    for layout in stacks(model, method):
        names = ["attn.Wqkv"] if together else layout.matrices(*wanted)
        if feed_forward:
            names += layout.matrices("expansion", "gate", "contraction")
        targets[layout.layers] = names
    return targets


def inside_layers(names: Mapping[str, Sequence[str]]) -> str:
    """Return peft's pattern for modules of every layer, and of nothing outside the layers.

    `names` holds those of a layer by the name of its stack of layers.
    """
    patterns = []
    for stack, modules in names.items():
        inner = "|".join(re.escape(name) for name in modules)
        patterns.append(rf".*\.{re.escape(stack)}\.\d+\.(?:albert_layers\.\d+\.)?(?:{inner})")
    return "|".join(patterns)


def inject(model: Any, config: Any, setting: Setting) -> None:
    """Wrap the targeted matrices in peft's layers; these and the head train."""
    from peft import inject_adapter_in_model

    freeze_all_but_head(model, setting.head)
    with own_stream(setting):
        inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if name in setting.head:
            parameter.requires_grad_(True)


def check_room(model: Any, method: str, length: int, setting: Setting) -> None:
    """Refuse a text length that, with virtual tokens in front, exceeds the position embeddings."""
    limit = longest_text(model)
    if limit is None or model.config.model_type == "modernbert":
        return  # relative positions
    if setting.max_length + length > limit:
        raise UserError(
            f"method={method}: {length} virtual tokens and budget.max_length={setting.max_length}"
            f" are more than the {limit} positions of this model; use"
            f" budget.max_length={limit - length}"
        )


def attach_prefix(model: Any, config: Any, setting: Setting) -> None:
    """Give the model a prefix in every layer, made by peft's encoder on each forward pass."""
    freeze_all_but_head(model, setting.head)
    with own_stream(setting):
        model.add_module("prompt_encoder", _KeptPrefix(config))
    model.register_forward_pre_hook(_Prefixed(config), with_kwargs=True)


def attach_prompt(
    model: Any, config: Any, setting: Setting, at: int = 0, left: bool = False
) -> None:
    """Put peft's virtual tokens before the `at`-th token of the embedded text on each pass.

    Of texts padded on the `left` they stand before the first token.
    """
    from peft import PromptEmbedding

    freeze_all_but_head(model, setting.head)
    with own_stream(setting):
        encoder = PromptEmbedding(config, model.get_input_embeddings())
        model.add_module("prompt_encoder", encoder)
    model.register_forward_pre_hook(partial(_prompted, None if left else at), with_kwargs=True)


class _KeptPrefix(nn.Module):
    """peft's PrefixEncoder, and the tensor that is kept of it: (length, 2 · layers · width)."""

    folded: torch.Tensor | None

    def __init__(self, config: Any) -> None:
        super().__init__()
        from peft import PrefixEncoder

        self.made_by = PrefixEncoder(config)
        self.register_buffer("places", torch.arange(config.num_virtual_tokens), persistent=False)
        self.register_buffer("folded", None, persistent=False)  # follows the model

    def forward(self) -> torch.Tensor:
        if self.folded is not None:
            return self.folded
        with torch.autocast(self.made_by.embedding.weight.device.type, enabled=False):
            rows: torch.Tensor = self.made_by(self.places)
        return rows

    def fold(self) -> Folded:
        """Name the MLP's parameters, and the tensor that replaces them."""
        names = {f"prompt_encoder.{n}" for n, _ in self.named_parameters()}
        with torch.no_grad():
            return Folded(frozenset(names), {"prompt_embeddings": self().detach().clone()})

    def unfold(self, tensors: dict[str, torch.Tensor]) -> None:
        """Use the kept tensor from now on."""
        self.folded = tensors["prompt_embeddings"]


class _Prefixed:
    """Adds the cache that holds the prefix, and its visible columns, to a forward call."""

    def __init__(self, config: Any) -> None:
        self.shape = (
            config.num_virtual_tokens,
            2 * config.num_layers,
            config.num_attention_heads,
            config.token_dim // config.num_attention_heads,
        )

    def __call__(self, model: Any, inputs: Any, named: dict[str, Any]) -> Any:
        from transformers import DynamicCache

        size = len(named["input_ids"])
        prefix = model.prompt_encoder().view(self.shape).permute(1, 2, 0, 3).unsqueeze(1)
        pairs = prefix.expand(-1, size, -1, -1, -1)
        cache = DynamicCache()
        for index in range(len(pairs) // 2):
            cache.update(pairs[2 * index], pairs[2 * index + 1], index)
        return inputs, {
            **named,
            "past_key_values": cache,
            "attention_mask": _widened(named["attention_mask"], self.shape[0]),
        }


def _prompted(at: int | None, model: Any, inputs: Any, named: dict[str, Any]) -> Any:
    named = dict(named)
    input_ids = named.pop("input_ids")
    words = model.get_input_embeddings()(input_ids)
    encoder = model.prompt_encoder
    length = encoder.embedding.num_embeddings
    places = torch.arange(length, device=input_ids.device)
    prompts = encoder(places).to(words.dtype).unsqueeze(0).expand(len(input_ids), -1, -1)
    mask, types = named["attention_mask"], named.get("token_type_ids")
    if at is None:
        order = _behind_padding(mask, length)
        joined = torch.cat([prompts, words], dim=1)
        named["inputs_embeds"] = joined.gather(1, order[..., None].expand_as(joined))
    else:
        named["inputs_embeds"] = torch.cat([words[:, :at], prompts, words[:, at:]], dim=1)
    named["attention_mask"] = _widened(mask, length)
    if types is not None:
        named["token_type_ids"] = torch.cat([types.new_zeros(len(types), length), types], dim=1)
    for name in ("attention_mask", "token_type_ids") if at is None else ():
        if named.get(name) is not None:
            named[name] = named[name].gather(1, order)
    return inputs, named


def _behind_padding(mask: torch.Tensor, length: int) -> torch.Tensor:
    """Return from where each place of a prompted text is, (B, length + L): padding comes first.

    `mask` (B, L) is of texts padded on the left; before them stand `length` virtual tokens.
    """
    places = torch.arange(length + mask.shape[1], device=mask.device)
    padding = (1 - mask).sum(1, keepdim=True)
    moved = torch.where(places < padding + length, places - padding, places)
    return torch.where(places < padding, places + length, moved)


def _widened(mask: torch.Tensor, length: int) -> torch.Tensor:
    return torch.cat([mask.new_ones(len(mask), length), mask], dim=1)
