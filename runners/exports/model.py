"""A trained model as a folder that transformers loads by itself, without this project.

What training left is put under the names of the plain architecture, a matrix that one of peft's
layers wraps with what that layer adds to it. A fresh model of transformers' own class gets these
tensors, and is given the same tokens as the trained one: where the logits differ, nothing is
written.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from methods.method import Batch
from results.errors import UserError
from results.whole import EVERYONE, whole
from runners.config.check import RunConfig
from runners.models.about import SOURCE
from runners.models.build import Tensors
from runners.models.pretrained import Loaded, count_embeddings

# How far logits may lie apart, as a share of the largest (of 1 where that is smaller). Merged
# matrices and a last layer that is computed whole round otherwise: some float32 steps a layer, 1e-6
# in all. Weights that lack a method's part differ by 1e-3 and more.
TOLERANCE = 1e-4


WEIGHTS = "model.safetensors"


class NotPlain(Exception):
    """A trained model that the plain architecture cannot hold, and why."""


def check_plain(key: str, loaded: Loaded, config: RunConfig) -> None:
    """Refuse a model, before it is trained, that the plain architecture would not compute alike.

    `key` is what asks for it.
    """
    try:
        checked_model(loaded, config)
    except NotPlain as reason:
        named = ",".join(config.method_names)
        raise UserError(
            f"{key} with method={named}: transformers' own classes would not give its answers"
            f" ({reason}); use save=delta"
        ) from None


def export_model(
    folder: Path, loaded: Loaded, config: RunConfig, card: str, source: str = ""
) -> None:
    """Write a folder that transformers' Auto classes load, whole or not at all.

    `card` is what README.md will hold, and `source` says of which run the weights are.
    Where these would not give the trained model's answers, NotPlain is raised.
    """
    plain, tokenizer = checked_model(loaded, config), _tokenizer(loaded, config)
    with whole(folder, EVERYONE) as temporary:
        plain.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        if source:
            (temporary / SOURCE).write_text(source, encoding="utf-8")


def checked_model(loaded: Loaded, config: RunConfig) -> Any:
    """Return the plain model with the trained weights, on the CPU, its logits compared."""
    with torch.random.fork_rng(devices=[]):
        plain = plain_model(loaded.model, config)
    apart = difference(loaded, plain, config)
    if not apart <= TOLERANCE:
        raise NotPlain(f"of the same tokens, its logits lie {apart:.1e} apart")
    return plain


def plain_model(model: Any, config: RunConfig) -> Any:
    """Return a model of transformers' own class that holds the trained weights, in evaluation."""
    import transformers

    tensors = plain_tensors(model)
    for method in config.methods:
        kept = method.fold(model).kept
        tensors |= {n: t.detach().cpu().contiguous() for n, t in kept.items() if n in tensors}
    options, facts, cls = _chooses(config), model.config.to_dict(), type(model)
    if not hasattr(cls, "from_pretrained"):
        raise NotPlain(f"a {cls.__name__} is no model of transformers")
    if options:
        facts["problem_type"] = None  # one output, of which a softmax is taken over options
    architecture = type(model.config).from_dict(facts)  # as a reader will have it
    if options:
        auto: Any = transformers.AutoModelForMultipleChoice
        try:
            with torch.device("meta"):
                frame = auto.from_config(architecture)
        except ValueError:
            raise NotPlain(
                f"of a {architecture.model_type} model none is known that chooses among options"
            ) from None
        tensors, cls = _for_options(tensors, frame), type(frame)
    return _holding(tensors, cls, architecture)


def _holding(tensors: Tensors, cls: Any, architecture: Any) -> Any:
    """Return a model of a class that holds exactly these tensors, in evaluation, on the CPU."""
    plain, info = cls.from_pretrained(
        None,
        config=architecture,
        state_dict=tensors,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # those are named below
        local_files_only=True,
    )
    for what in ("unexpected_keys", "missing_keys", "mismatched_keys"):
        if names := sorted(map(str, info[what])):
            raise NotPlain(f"{len(names)} {what.replace('_keys', ' tensors')}, such as {names[0]}")
    return plain.eval()


def read_model(folder: Path, loaded: Loaded, config: RunConfig, named: str) -> None:
    """Put the weights of a folder that `export_model` wrote into the run's model without methods.

    `named` is the argument that named it. Weights that are missing, damaged or another model's are
    a UserError; nothing is unpickled.
    """
    if _chooses(config):
        raise UserError(
            f"{named}: the head of a task with options has another shape there; name the run's"
            " delta, which save=delta writes"
        )
    try:
        tensors = load_file(folder / WEIGHTS)
        plain = _holding(tensors, type(loaded.model), loaded.model.config)
        loaded.model.load_state_dict(plain.state_dict())
    except (OSError, SafetensorError, NotPlain, RuntimeError) as error:
        raise UserError(f"{named}: {WEIGHTS} is not that run's model ({error})") from None
    if any(not bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise UserError(f"{named}: {WEIGHTS} holds numbers that are not finite; it is damaged")
    loaded.model.eval()


def _chooses(config: RunConfig) -> bool:
    """Say whether a run's head is over the options of an example."""
    return config.settings.task.facts.answer == "option"


def plain_tensors(model: Any) -> Tensors:
    """Return a model's tensors on the CPU, as they are without the layers that peft put around."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    wrapped = {n: m for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)}
    inside = tuple(f"{name}." for name in wrapped)
    tensors = {n: t for n, t in model.state_dict().items() if not n.startswith(inside)}
    for name, layer in wrapped.items():
        with _merged(layer) as base:
            tensors |= {f"{name}.{n}": t.clone() for n, t in base.state_dict().items()}
    return {n: t.detach().cpu().contiguous() for n, t in tensors.items()}


@contextmanager
def _merged(layer: Any) -> Iterator[Any]:
    """Have the module that a layer of peft's wraps with what that adds; afterwards, as before."""
    base = layer.get_base_layer()
    before = {n: (p.data, p.data.clone()) for n, p in base.named_parameters()}
    with torch.no_grad():
        try:
            layer.merge(safe_merge=True)  # a new matrix, of most tuners; HiRA's writes into the old
            yield base
        except NotImplementedError as error:
            raise NotPlain(f"peft cannot merge its layers: {error}") from None
        finally:
            layer.merged_adapters.clear()  # unmerge() would leave what rounding left
            for name, parameter in base.named_parameters():
                parameter.data, values = before[name]
                parameter.data.copy_(values)


def _for_options(tensors: Tensors, frame: Any) -> Tensors:
    """Return tensors of a head over texts under the names that a head over options gives them.

    Where a head over texts has two layers inside it, the first one is a pooler's or a summary's.
    """
    own = set(frame.state_dict())
    pooler = f"{frame.base_model_prefix}.pooler.dense"
    summary = "sequence_summary.summary"
    first = summary if f"{summary}.weight" in own else pooler
    if f"{first}.weight" not in own:
        return tensors
    names = {"classifier.dense.": f"{first}.", "classifier.out_proj.": "classifier."}
    renamed = {}
    for name, tensor in tensors.items():
        start = next((s for s in names if name.startswith(s)), None)
        renamed[name if start is None else names[start] + name.removeprefix(start)] = tensor
    return renamed


def difference(loaded: Loaded, plain: Any, config: RunConfig) -> float:
    """Return how far two models' logits of the same tokens lie apart; TOLERANCE says by what."""
    model, device = loaded.model, next(loaded.model.parameters()).device
    batch = _random_texts(loaded, config)
    was_training, was_paused = model.training, [method.paused for method in config.methods]
    model.eval()
    for method in config.methods:
        method.paused = True
    pairs = {k: v.unflatten(0, (2, -1)) for k, v in batch.items()} if _chooses(config) else batch
    with torch.inference_mode():
        ours = model(**{k: v.to(device) for k, v in batch.items()}).logits.float().cpu()
        theirs = plain(**pairs).logits.float()  # on the CPU: a GPU's memory is measured
    model.train(was_training)
    for method, paused in zip(config.methods, was_paused, strict=True):
        method.paused = paused
    if ours.numel() != theirs.numel():
        return math.inf
    largest = max(1.0, float(ours.abs().max()))
    return float((ours.flatten() - theirs.flatten()).abs().max()) / largest


def _random_texts(loaded: Loaded, config: RunConfig) -> Batch:
    """Return four texts of tokens drawn at random, of which two are filled up, [4, length]."""
    model, tokenizer, rows = loaded.model, loaded.tokenizer, count_embeddings(loaded.model)
    length, stream = min(16, config.settings.budget.max_length), torch.Generator().manual_seed(0)
    pad = tokenizer.pad_token_id
    assert isinstance(pad, int)
    ids = torch.randint(rows, (4, length), generator=stream)
    ids[ids == pad] = (pad + 1) % rows
    mask = torch.ones_like(ids)
    side = (
        slice(0, length // 4) if tokenizer.padding_side == "left" else slice(-(length // 4), None)
    )
    ids[2:, side], mask[2:, side] = pad, 0
    if model.config.is_encoder_decoder:  # its head reads the one end of a text
        end = int(model.config.eos_token_id)
        ids[ids == end] = (end + 1) % rows
        ids[torch.arange(4), mask.sum(1) - 1] = end
    batch = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in tokenizer.model_input_names:
        batch["token_type_ids"] = torch.zeros_like(ids)
        if getattr(model.config, "type_vocab_size", 0) > 1:
            batch["token_type_ids"][1::2, length // 2 :] = 1
    return batch


def _tokenizer(loaded: Loaded, config: RunConfig) -> Any:
    """Return a copy of the tokenizer that, told to truncate, cuts texts as the run did."""
    tokenizer, budget = copy.deepcopy(loaded.tokenizer), config.settings.budget
    tokenizer.model_max_length = budget.max_length
    if budget.truncate == "tail":
        tokenizer.truncation_side = tokenizer.init_kwargs["truncation_side"] = "left"
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # as the last call left it
        backend.no_truncation()
        backend.no_padding()
    return tokenizer
