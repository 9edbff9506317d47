"""A causal language model that is tuned on rows of one label, and sampled from.

A row is its columns, a line each, between two ends of text; columns have their white space made
single blanks. A sample begins after an end of text, and ends at the next or at the limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM, AutoTokenizer

from results.errors import UserError
from runners.config.unlabelled import Generated
from runners.models.generator import check_length
from runners.models.weights import Weights
from runners.seeds import derive

IGNORED = -100  # a label that transformers leaves out of the loss


class LanguageModel:
    """A generator of one label, whose draws are from streams of the run's seed for that label."""

    def __init__(
        self, weights: Weights, options: Generated, accelerator: Accelerator, seed: int, label: str
    ) -> None:
        where = f"data.generated.generator={weights.name_or_path}"
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(
                weights.folder, local_files_only=True
            )
            model: Any = AutoModelForCausalLM.from_pretrained(
                weights.folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError, ImportError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{where}: it cannot be loaded ({reason})") from None
        if self.tokenizer.eos_token_id is None:
            raise UserError(f"{where}: its tokenizer has no end of text; take a model that has one")
        check_length(options, getattr(model.config, "max_position_embeddings", None))
        self.model = model.to(accelerator.device)
        self.end, self.options = int(self.tokenizer.eos_token_id), options
        self.device, self.seed, self.label = accelerator.device, seed, label

    def _stream(self, name: str) -> int:
        return derive(self.seed, f"generated {name} {self.label}")

    def _inner(self, row: Sequence[str]) -> list[int]:
        """Return all tokens of a row, without the ends of text."""
        text = "\n".join(" ".join(column.split()) for column in row)
        inner: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return inner

    def _tokens(self, row: Sequence[str]) -> list[int]:
        return [self.end, *self._inner(row)[: self.options.max_tokens - 2], self.end]

    def _check_lines(self, rows: Sequence[Sequence[str]], tokens: Sequence[list[int]]) -> None:
        """Refuse rows of several texts of which none would be left whole."""
        ends = len(rows[0]) - 1
        if self.tokenizer.decode(self._inner(rows[0])).count("\n") < ends:
            raise UserError(
                "data.generated: the generator's tokenizer loses the ends of lines, which part a"
                " row's texts; take one that keeps them, such as GPT-2's"
            )
        if ends and all(self.tokenizer.decode(row).count("\n") < ends for row in tokens):
            raise UserError(
                f"data.generated.max_tokens={self.options.max_tokens}: no row of {self.label} has"
                " anything of its last text among so many tokens; give it more"
            )

    def tune(self, rows: Sequence[Sequence[str]]) -> list[float]:
        """Train all weights on rows, by AdamW with a rate that falls to zero; return the losses."""
        options = self.options
        tokens = [self._tokens(row) for row in rows]
        self._check_lines(rows, tokens)
        batches = list(self._batches(tokens))
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=options.lr, weight_decay=0.0)
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / len(batches))
        losses = []
        with self._drawing("dropout"):
            self.model.train()
            for batch in batches:
                optimizer.zero_grad(set_to_none=True)
                loss = self.model(**batch).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                optimizer.step()
                decay.step()
                losses.append(float(loss.detach()))
        self.model.eval()
        return losses

    @contextmanager
    def _drawing(self, name: str) -> Iterator[None]:
        """Let torch draw from a stream of a name, and afterwards as it would have before."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self._stream(name))
            yield

    def _batches(self, tokens: Sequence[list[int]]) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the batches of all epochs, each in an order of its own."""
        for epoch in range(self.options.epochs):
            rng = np.random.Generator(np.random.PCG64(self._stream(f"order {epoch}")))
            order = rng.permutation(len(tokens))
            for start in range(0, len(order), self.options.batch_size):
                yield self._padded([tokens[i] for i in order[start:][: self.options.batch_size]])

    def _padded(self, rows: Sequence[list[int]]) -> dict[str, torch.Tensor]:
        width = max(map(len, rows))
        ids = torch.tensor([row + [self.end] * (width - len(row)) for row in rows])
        lengths = torch.tensor([[len(row)] for row in rows])
        mask = torch.arange(width)[None, :] < lengths
        labels = ids.masked_fill(~mask, IGNORED)
        batch = {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}
        return {name: values.to(self.device) for name, values in batch.items()}

    def sample(self, count: int, number: int) -> list[str]:
        """Return so many texts, each a row's columns by lines; `number` is the stream's."""
        stream = torch.Generator().manual_seed(self._stream(f"sample {number}"))
        ids = torch.full((count, 1), self.end, device=self.device)
        rows, going, cache = [list[int]() for _ in range(count)], [True] * count, None
        with torch.inference_mode():
            for _ in range(self.options.max_tokens - 2):
                output = self.model(input_ids=ids, past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                shares = next_shares(output.logits[:, -1].float().cpu(), self.options)
                drawn = torch.multinomial(shares, 1, generator=stream)
                for row, token in enumerate(drawn[:, 0].tolist()):
                    going[row] = going[row] and token != self.end
                    if going[row]:
                        rows[row].append(token)
                if not any(going):
                    break
                ids = drawn.to(self.device)
        return [self.tokenizer.decode(row, skip_special_tokens=True) for row in rows]


def next_shares(logits: torch.Tensor, options: Generated) -> torch.Tensor:
    """Return probabilities of a next token, [rows, tokens], from logits of that shape.

    Of top_p, the fewest most probable tokens that have that share together are left.
    """
    shares = (logits / options.temperature).softmax(dim=-1)
    if options.top_p < 1:
        ordered, places = shares.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(dim=-1) - ordered
        ordered = ordered.masked_fill(before >= options.top_p, 0.0)
        shares = torch.zeros_like(shares).scatter(-1, places, ordered)
    return shares / shares.sum(dim=-1, keepdim=True)
