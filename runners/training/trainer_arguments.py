"""What a Trainer with methods is given, checked before the model changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import ValidationError
from transformers import TrainingArguments

from methods.method import Method
from methods.registry import composition_problems, method_class
from results.errors import UserError
from runners.config.check import build_method, schema
from runners.config.problems import sentences

Options = Mapping[str, Mapping[str, Any]]

# Where transformers computes layers twice, mixout would draw another mask in the second pass; hype
# other noise, in the versions that run a layer's hooks again; and a layer gets no cache, which is
# what a prefix is. A test compares the weights of all other methods.
CHANGED_BY_CHECKPOINTING = frozenset({"hype", "mixout", "prefix"})

# Their divergences are of the softmax of all outputs, or squared where there is one output alone.
COMPARE_CLASSES = frozenset({"r3f", "rdrop", "sift", "smart"})


def built(given: Sequence[str] | Options) -> list[Method]:
    """Return the methods with their options; one UserError names every problem."""
    if isinstance(given, str):
        given = [given]
    named = dict(given) if isinstance(given, Mapping) else {name: {} for name in given}
    methods, problems = list[Method](), list[str]()
    for name, options in named.items():
        cls = method_class(name)
        if "lr" in options:
            problems.append(f"method.{name}.lr: the rate is args.learning_rate; leave it out")
        try:
            methods.append(build_method(cls, options))
        except ValidationError as error:
            problems += sentences(error, f"method.{name}.", options, schema(cls))
    problems += [why for method in methods for why in method.problems()]
    if not named:
        problems.append("no method is named; use methods=['full'] or methods=['hype', 'bitfit']")
    problems += composition_problems(methods) if not problems else []
    if problems:
        raise UserError("; ".join(problems))
    return methods


def refuse(
    model: Any, methods: Sequence[Method], args: TrainingArguments | None, more: Mapping[str, Any]
) -> None:
    """Raise a UserError where methods cannot act as they are meant to."""
    problems = []
    for method in methods:
        if method.represents:
            problems.append(
                f"{method.name} makes vectors of sentences, of text that it tokenises itself: use"
                f" tunebench.run with method={method.name} task=sts"
            )
        elif why := _why_not(method):
            problems.append(f"{method.name} {why}")
    if model is None or more.get("model_init") is not None:
        problems.append("MethodTrainer changes a model, so give it model=, not model_init=")
    elif not hasattr(model, "config") or not hasattr(model, "base_model_prefix"):
        problems.append(f"{type(model).__name__} is no model of transformers, as methods need")
    else:
        kind, why = getattr(model.config, "problem_type", None), _no_encoder(model)
        problems += [why] if why else _problems_of_outputs(model.config, methods, kind)
    if args is None:
        problems.append("args is missing: give TrainingArguments, whose rate and seed are used")
    else:
        problems += _problems_of(args, methods, model)
    for key in ("optimizers", "optimizer_cls_and_kwargs"):
        if more.get(key) not in (None, (None, None)):
            problems.append(f"{key}= would pass over the methods' groups: choose it by args.optim")
    if problems:
        raise UserError("; ".join(problems))


def _no_encoder(model: Any) -> str:
    """Say that the encoder does not lie where methods look for it; empty where it does."""
    kind, name = type(model).__name__, model.base_model_prefix
    unknown = f"it is not known where {kind} has its encoder"
    if not name:
        return f"{unknown}: set base_model_prefix in the class to the name of its attribute"
    if any(parameter.startswith(f"{name}.") for parameter, _ in model.named_parameters()):
        return ""
    return (
        f"{unknown}, as no parameter begins with '{name}.', which its base_model_prefix says: call"
        f" the attribute self.{name}"
    )


def check_labels(config: Any, methods: Sequence[Method], labels: Any) -> None:
    """Raise UserError for methods that a batch's labels do not suit, where nothing else says so.

    Transformers takes numbers for several labels each, where a configuration has no problem_type.
    """
    unknown = getattr(config, "problem_type", None) is None and torch.is_tensor(labels)
    if unknown and labels.is_floating_point() and getattr(config, "num_labels", 1) > 1:
        problems = _problems_of_outputs(config, methods, "multi_label_classification")
        if problems:
            raise UserError("; ".join(problems))


def _problems_of_outputs(config: Any, methods: Sequence[Method], kind: str | None) -> list[str]:
    """Say which methods take outputs for classes of which one is right, where they are not."""
    several = getattr(config, "num_labels", 1) > 1  # scores, where it is neither kind of labels
    if kind in (None, "single_label_classification"):
        return []
    if kind != "multi_label_classification" and not several:
        return []
    of_outputs = "compares outputs as probabilities of classes of which one is right"
    acts = {
        method.name: of_outputs if method.name in COMPARE_CLASSES else method.of_classes
        for method in methods
    }
    return [
        f"{name} {act}, and config.problem_type={kind} has outputs that are no such classes: leave"
        f" {name} out"
        for name, act in acts.items()
        if act
    ]


def _why_not(method: Method) -> str:
    """Return what keeps a method that makes no vectors out of a Trainer; empty where nothing."""
    instead = f": use tunebench.run with method={method.name}"
    if method.model_head is not None:
        return f"lays out texts, or loads a model, by itself{instead}"
    if "attributes" in method.needs:
        return f"reads attributes, which a Trainer's batches do not hold{instead} task=tastes"
    if type(method).gradients is not Method.gradients:
        return f"computes the gradients from batches that it draws itself{instead}"
    if "gradient" in method.owns:
        return f"takes several gradients of a batch, a Trainer's step one{instead}"
    if "average" in method.owns:
        return f"has other weights evaluated and kept than are trained, a Trainer none{instead}"
    if type(method).criterion is not Method.criterion:
        return (
            "changes the loss of labels, which is the model's own here: smooth them by"
            f" args.label_smoothing_factor, or use tunebench.run with method={method.name}"
        )
    return ""


def _problems_of(args: TrainingArguments, methods: Sequence[Method], model: Any) -> list[str]:
    """Say what arguments of the Trainer do not meet methods."""
    problems = []
    processes = max(args.world_size, args.n_gpu)
    if processes > 1 or args.fsdp or args.deepspeed:
        problems.append(
            f"MethodTrainer trains in one process on one device, not on {processes}, and without"
            " fsdp or deepspeed: start it as one, with one GPU in CUDA_VISIBLE_DEVICES"
        )
    if args.fp16:
        problems.append("args.fp16 scales the gradients that methods look at: use args.bf16")
    if args.auto_find_batch_size:
        problems.append("args.auto_find_batch_size begins steps anew: choose a batch size")
    if args.gradient_accumulation_steps > 1:
        problems += [
            f"{m.name} needs its batches whole: args.gradient_accumulation_steps must be 1"
            for m in methods
            if not m.divisible
        ]
    if _is_checkpointed(args, model):
        problems += [
            f"{m.name} would train wrongly where layers are computed twice by the Trainer or the"
            " model: leave out args.gradient_checkpointing (args.activation_checkpointing) and"
            " model.gradient_checkpointing_enable(), or use tunebench.run with"
            f" method={m.name} speed.gradient_checkpointing=true"
            for m in methods
            if m.name in CHANGED_BY_CHECKPOINTING
        ]
    return problems


def _is_checkpointed(args: TrainingArguments, model: Any) -> bool:
    """Say whether the Trainer will compute layers twice, or the model does so already."""
    names = ("activation_checkpointing", "gradient_checkpointing")  # by transformers' version
    if any(getattr(args, name, False) for name in names):
        return True
    modules = model.modules() if hasattr(model, "modules") else ()
    return any(getattr(module, "gradient_checkpointing", False) for module in modules)


def steps_of(args: TrainingArguments, dataset: Any) -> int:
    """Return the number of steps that the Trainer will take, as it counts them."""
    if args.max_steps > 0:
        return int(args.max_steps)
    if dataset is None:
        return 0  # for evaluation alone
    try:
        rows = len(dataset)
    except TypeError:
        raise UserError("train_dataset has no length: give args.max_steps") from None
    of_rows = rows // args.train_batch_size if args.dataloader_drop_last else None
    batches = -(-rows // args.train_batch_size) if of_rows is None else of_rows
    updates = max(-(-batches // args.gradient_accumulation_steps), 1)
    return math.ceil(args.num_train_epochs * updates)


def head_of(model: Any, named: Sequence[str] | None) -> frozenset[str]:
    """Return the head's parameters: those named, else all outside of the encoder."""
    known = [name for name, _ in model.named_parameters()]
    if named is None:
        prefix = f"{model.base_model_prefix}."
        return frozenset(name for name in known if not name.startswith(prefix))
    if unknown := sorted(set(named) - set(known)):
        raise UserError(f"head: the model has no parameter {unknown[0]}")
    return frozenset(named)


NO_LIMIT = 1e6  # tokenizers without a limit say 1e30
UNLIMITED = 512


def longest_text(model: Any, tokenizer: Any) -> int:
    """Return how many tokens a text may have, by the tokenizer, else by the model's positions.

    Where neither says so, it is `UNLIMITED`.
    """
    limit = int(getattr(model.config, "max_position_embeddings", 0) or 0)
    said = getattr(tokenizer, "model_max_length", None) or limit
    if limit > 0:
        return int(min(said, limit))
    return int(said) if said < NO_LIMIT else UNLIMITED
