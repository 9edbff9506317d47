"""Norms of every example's own gradient, without making these gradients.

Li, Tramèr, Liang and Hashimoto, ICLR 2022 (arXiv 2110.05679), section 4: of a linear layer with
inputs a (L, d) and output gradients g (L, p) of one example, ‖∂ℓ/∂W‖² = Σ_{s,t} (a_s·a_t)(g_s·g_t),
which needs L² numbers and not d·p; an embedding's is the same with [id_s = id_t] for a_s·a_t. A
second backward pass through the same graph, with the losses weighted, then gives the clipped sum:
both passes see one forward pass, and so the same dropout. Where L² is more than d·p, and for
biases, gains and whatever a layer is used for twice with few entries, the gradients are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from results.errors import UserError

Losses = Callable[[], torch.Tensor]
Tensors = dict[str, torch.Tensor]
ONE_BY_ONE = "method.dp.part=1 takes one example at a time, right for every layer and slow"


class _Heard(torch.autograd.Function):
    """Gives a tensor on as it is, and what comes back for it to a listener.

    The ticket is what a pass asks the gradient of that is to come by here and nowhere else: no
    gradient of a weight is then computed.
    """

    @staticmethod
    def forward(ctx: Any, output: torch.Tensor, ticket: torch.Tensor, listener: Any) -> Any:
        ctx.listener = listener
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        ctx.listener(gradient)
        return gradient, gradient.new_zeros(()), None


class PerExample:
    """Computes norms of examples' gradients over all trained parameters of a prepared model.

    A layer without a rule, or whose input has no row for each example, is a UserError that names
    it. Call `close` to leave the model as it was.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._ticket: torch.Tensor | None = None
        self._hears = False
        self._rows = 0  # of what the model reads: an example may have several
        self._examples = 0
        self._kept: dict[str, list[tuple[nn.Module, torch.Tensor, torch.Tensor]]] = {}
        self._squares: Tensors = {}
        self._times: dict[str, int] = {}
        self.names = self._trained()
        self._handles = [model.register_forward_pre_hook(self._count, with_kwargs=True)]
        for module, parameters in self.names.items():
            first = next(iter(parameters.values()))
            if "forward" in vars(module):
                raise _refused(first, "another method computes its layer in a way of its own")
            if not _has_rule(module):
                raise _refused(first, f"no rule gives an example's share of a {_called(module)}")
            self._handles.append(module.register_forward_pre_hook(self._spread))
            # First of all hooks: what others make of the output is not the layer's own.
            self._handles.append(module.register_forward_hook(self._listen, prepend=True))

    def close(self) -> None:
        """Take the hooks from the model."""
        for handle in self._handles:
            handle.remove()

    def _trained(self) -> dict[nn.Module, dict[str, str]]:
        """Return the modules with trained parameters of their own: their names, and the model's."""
        full = {id(p): n for n, p in self.model.named_parameters()}
        modules = {}
        for module in self.model.modules():
            own = module.named_parameters(recurse=False)
            trained = {name: full[id(p)] for name, p in own if p.requires_grad}
            if trained:
                modules[module] = trained
        return modules

    def squared_norms(self, losses_of: Losses) -> tuple[torch.Tensor, Tensors]:
        """Return losses of B examples, (B,) with their graph, and the squared norm by parameter.

        `losses_of` calls the model once; each squared norm is (B,), in float32, detached. A
        parameter that has no part in the losses is left out.
        """
        self._kept, self._squares, self._times = {}, {}, {}
        with self._listening():
            losses = losses_of()
            self._examples = len(losses)
            assert self._ticket is not None
            torch.autograd.grad(losses.sum(), self._ticket, retain_graph=True)
        for name, uses in self._kept.items():
            self._squares[name] = self._of_several(name, uses)
        self._kept = {}
        return losses, self._squares

    @contextmanager
    def _listening(self) -> Iterator[None]:
        device = next(self.model.parameters()).device
        self._ticket = torch.zeros((), device=device, requires_grad=True)
        self._hears = True
        try:
            yield
        finally:
            self._hears, self._ticket = False, None

    def _count(self, model: nn.Module, inputs: Any, named: Any) -> None:
        ids = named.get("input_ids", inputs[0] if inputs else None)
        self._rows = len(ids) if ids is not None else len(named["inputs_embeds"])

    def _spread(self, module: nn.Module, inputs: Any) -> Any:
        """Give what is looked up once for all rows, such as positions, a row for each."""
        if self._hears and isinstance(module, nn.Embedding):
            [ids] = inputs
            if ids.dim() == 2 and len(ids) == 1 < self._rows:
                return (ids.expand(self._rows, -1),)
        return None

    def _listen(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        if not (self._hears and torch.is_grad_enabled() and output.requires_grad):
            return None
        if inputs[0].dim() < 2 or len(inputs[0]) != self._rows:
            raise _refused(
                next(iter(self.names[module].values())),
                f"its {_called(module)} is given {tuple(inputs[0].shape)}, no row of which is one"
                " example's",
            )
        for name in self.names[module].values():
            self._times[name] = self._times.get(name, 0) + 1
        return _Heard.apply(  # type: ignore[no-untyped-call]
            output, self._ticket, partial(self._hear, module, inputs[0].detach())
        )

    def _hear(self, module: nn.Module, inputs: torch.Tensor, gradient: torch.Tensor) -> None:
        """Take down what one use of a layer adds, on the way back through the model."""
        if not self._hears:
            return
        seen, g = self._by_example(module, inputs), _by_example(gradient, self._examples).float()
        for own, name in self.names[module].items():
            if self._times[name] > 1:
                self._kept.setdefault(name, []).append((module, seen, g))
            else:
                self._squares[name] = squares(module, own, seen, g)

    def _by_example(self, module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        if isinstance(module, nn.Embedding):
            return inputs.reshape(self._examples, -1)
        return _by_example(inputs, self._examples).float()

    def _of_several(
        self, name: str, uses: list[tuple[nn.Module, torch.Tensor, torch.Tensor]]
    ) -> torch.Tensor:
        """Return the squared norm of the sum of what all uses of a parameter add."""
        owns = [next(o for o, n in self.names[m].items() if n == name) for m, _, _ in uses]
        first = uses[0][0]
        if all(module is first for module, _, _ in uses) and _is_table(first, owns[0]):
            seen = torch.cat([s for _, s, _ in uses], dim=1)
            return squares(first, owns[0], seen, torch.cat([g for _, _, g in uses], dim=1))
        added = gradient_of(first, owns[0], uses[0][1], uses[0][2])
        for (module, seen, g), own in zip(uses[1:], owns[1:], strict=True):
            added = added + gradient_of(module, own, seen, g)
        return added.flatten(1).square().sum(1)


def _refused(name: str, why: str) -> UserError:
    return UserError(
        f"method=dp: {name} is trained, and {why}; leave it frozen, use another method or model, or"
        f" {ONE_BY_ONE}"
    )


def _called(module: nn.Module) -> str:
    return type(module).__name__


def _has_rule(module: nn.Module) -> bool:
    if isinstance(module, nn.Embedding):
        return not (module.sparse or module.scale_grad_by_freq or module.max_norm is not None)
    return isinstance(module, nn.Linear | nn.LayerNorm) or hasattr(module, "per_example_gradients")


def _is_table(module: nn.Module, own: str) -> bool:
    return own == "weight" and isinstance(module, nn.Linear | nn.Embedding)


def _by_example(values: torch.Tensor, examples: int) -> torch.Tensor:
    """Return (rows, ..., width) as (examples, places, width)."""
    return values.reshape(examples, -1, values.shape[-1])


def squares(module: nn.Module, own: str, seen: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Return the squared norm of each example's gradient of a layer's parameter, (B,).

    `seen` is the layer's input, (B, L, width), or ids, (B, L), and `g` the gradient of its output,
    (B, L, width), both by example.
    """
    length = g.shape[1]
    if isinstance(module, nn.Embedding):
        alike = seen.unsqueeze(2) == seen.unsqueeze(1)
        if module.padding_idx is not None:
            alike &= (seen != module.padding_idx).unsqueeze(1)
        return ((g @ g.transpose(1, 2)) * alike).sum((1, 2)).clamp(min=0)
    if _is_table(module, own) and 2 * length**2 <= seen.shape[2] * g.shape[2]:
        products = (g @ g.transpose(1, 2)).mul_(seen @ seen.transpose(1, 2))
        return products.sum((1, 2)).clamp(min=0)
    return gradient_of(module, own, seen, g).flatten(1).square().sum(1)


def gradient_of(module: nn.Module, own: str, seen: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Return each example's gradient of a layer's parameter, (B, *its shape); see `squares`."""
    if isinstance(module, nn.Embedding):
        rows = g.new_zeros(len(g), *module.weight.shape)
        if module.padding_idx is not None:
            g = g * (seen != module.padding_idx).unsqueeze(2)
        return rows.scatter_add_(1, seen.unsqueeze(2).expand_as(g), g)
    if isinstance(module, nn.Linear | nn.LayerNorm) and own == "bias":
        return g.sum(1)
    if isinstance(module, nn.Linear):
        return g.transpose(1, 2) @ seen
    if isinstance(module, nn.LayerNorm):
        normed = nn.functional.layer_norm(seen, module.normalized_shape, eps=module.eps)
        return (g * normed).sum(1)
    of_each: Tensors = module.per_example_gradients(seen, g)  # type: ignore[operator]
    return of_each[own]
