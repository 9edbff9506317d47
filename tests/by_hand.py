"""BERT's forward pass written out from its tensors, to compare methods with; no module runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

Change = Callable[[int, torch.Tensor], torch.Tensor]


def _unchanged(layer: int, hidden_states: torch.Tensor) -> torch.Tensor:
    return hidden_states


class HandBert:
    """bert-for-sequence-classification in evaluation mode, with places to change it.

    `attention_branch` and `ffn_branch` see (layer, branch before its residual); `ffn_output` sees
    (layer, f, x) and returns the layer's output in place of LN(f + x). `prefix` holds a key and a
    value (positions, width), or one a sequence, for each layer; `shift` moves position ids.
    """

    def __init__(self, model: Any) -> None:
        self.tensors = {n: t.detach().double() for n, t in model.state_dict().items()}
        self.config = model.config
        self.attention_branch: Change = _unchanged
        self.ffn_branch: Change = _unchanged
        self.ffn_output: Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor] = self.norm_last
        self.activation: Callable[[torch.Tensor], torch.Tensor] = functional.gelu
        self.projected: Callable[[int, str, torch.Tensor, torch.Tensor], torch.Tensor] = (
            lambda layer, name, inputs, output: output
        )
        self.prefix: Sequence[tuple[torch.Tensor, torch.Tensor]] | None = None
        self.shift = 0

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Return W x + b of a named matrix, whether or not peft has wrapped it."""
        base = name if f"{name}.weight" in self.tensors else f"{name}.base_layer"
        return x @ self.tensors[f"{base}.weight"].T + self.tensors[f"{base}.bias"]

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Return the named layer normalisation of x."""
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-12).sqrt()
        return scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def norm_last(self, layer: int, f: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return LN(f + x), as an unchanged layer does."""
        return self.norm(f"bert.encoder.layer.{layer}.output.LayerNorm", f + x)

    def logits(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return logits (B, labels) of input_ids, token_type_ids and attention_mask."""
        table = self.tensors["bert.embeddings.word_embeddings.weight"]
        return self.from_words(table[batch["input_ids"]], batch)

    def from_words(self, words: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return logits of embedded words (B, L, width)."""
        e = "bert.embeddings"
        length = words.shape[1]
        x = (
            words
            + self.tensors[f"{e}.position_embeddings.weight"][self.shift : self.shift + length]
            + self.tensors[f"{e}.token_type_embeddings.weight"][batch["token_type_ids"]]
        )
        x = self.norm(f"{e}.LayerNorm", x)
        for layer in range(self.config.num_hidden_layers):
            x = self._layer(layer, x, batch["attention_mask"].bool())
        pooled = torch.tanh(self.linear("bert.pooler.dense", x[:, 0]))
        return self.linear("classifier", pooled)

    def _layer(self, layer: int, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        name = f"bert.encoder.layer.{layer}"
        heads = self.config.num_attention_heads
        q, k, v = (
            self.projected(layer, w, x, self.linear(f"{name}.attention.self.{w}", x))
            for w in ("query", "key", "value")
        )
        if self.prefix is not None:
            key, value = (p.expand(len(x), -1, -1) for p in self.prefix[layer])
            k, v = torch.cat([key, k], 1), torch.cat([value, v], 1)
            mask = torch.cat([mask.new_ones(len(x), key.shape[1]), mask], 1)

        def split(t: torch.Tensor) -> torch.Tensor:
            return t.view(*t.shape[:2], heads, -1).transpose(1, 2)

        scores = split(q) @ split(k).transpose(2, 3) / (x.shape[2] / heads) ** 0.5
        scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
        mixed = (scores.softmax(-1) @ split(v)).transpose(1, 2).reshape(x.shape)
        branch = self.attention_branch(layer, self.linear(f"{name}.attention.output.dense", mixed))
        x = self.norm(f"{name}.attention.output.LayerNorm", branch + x)
        wide = self.activation(self.linear(f"{name}.intermediate.dense", x))
        self.ffn_input = x
        f = self.ffn_branch(layer, self.linear(f"{name}.output.dense", wide))
        return self.ffn_output(layer, f, x)
