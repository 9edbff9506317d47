"""Loads a pretrained encoder with a task head, and says which parameters are the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from methods.surgery.places import draw_anew as initialise
from methods.surgery.places import longest_text
from results.errors import UserError
from runners.config.kinds import Head
from runners.config.task import Task
from runners.models.weights import OFFLINE, Weights
from runners.seeds import derive

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Loaded:
    """A model in float32 on the CPU, its tokenizer, and the names of its head's parameters.

    They are fresh, but for a head that predicts tokens where the checkpoint holds one: `facts` says
    which, for the record. `read` are the names of all of that head where a method reads answers
    from it.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    head: frozenset[str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    read: frozenset[str] = frozenset()


def load_model(
    weights: Weights,
    task: Task,
    seed: int,
    max_length: int,
    dropout: float | None,
    untrained: Sequence[str] = (),
    head: Head | None = None,
) -> Loaded:
    """Load encoder and tokenizer; the head is drawn from the seed's own stream.

    The head is what lies outside the encoder, whatever the checkpoint holds there, what it lacks,
    and the modules named in `untrained`; a task that compares vectors has none. One that predicts
    tokens is the checkpoint's where it holds it, else it is drawn, tied to the word embedding.
    A `head` takes the place of the task's own: "none", or "tokens", of which only what is drawn
    counts as the head then. Every failure is a UserError.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    config, kind = _architecture(weights), head or task.facts.head
    if kind == "texts":
        _shape_head(config, task)
    set_dropout(config, dropout)
    frame = _frame(weights, config, kind)
    check_length(frame, max_length, _shown(weights))
    if kind == "tokens":
        loaded, drawn = _load_for_tokens(weights, config, frame, seed, untrained)
        own = task.facts.head == "tokens"
        return loaded if own else replace(loaded, head=drawn, read=loaded.head)
    model, missing = _load_weights(weights, config, frame, seed)
    if kind == "none":
        names, model = frozenset[str](), _sentence_model(model)
    else:
        names = head_names(model, missing | draw_anew(model, untrained, _shown(weights)))
    return Loaded(model, _load_tokenizer(weights, config), names)


def _load_for_tokens(
    weights: Weights, config: Any, frame: Any, seed: int, untrained: Sequence[str]
) -> tuple[Loaded, frozenset[str]]:
    """Load a model that predicts masked tokens, which has no pooler; return what is drawn too."""
    tokenizer, outside = _load_tokenizer(weights, config), _outside(frame)
    if tokenizer.mask_token_id is None:
        raise UserError(
            f"{_shown(weights)}: its tokenizer has no mask token, so that no token can be masked;"
            " use a model that was pretrained by masking, such as model=bert-base-uncased"
        )
    with ExitStack() as opened:
        stored = outside & set(_tensors(weights.files, opened))
    if not stored:
        config.tie_word_embeddings = True
    model, missing = _load_weights(weights, config, frame, seed, own_head=False)
    fresh = sorted(missing & outside)
    parts = [name for name in untrained if "pooler" not in name]
    missing |= draw_anew(model, parts, _shown(weights))
    head, drawn = head_names(model, missing), {n for n, _ in model.named_parameters()} & missing
    said = "fresh, tied to the word embedding" if not stored else "pretrained"
    if stored and fresh:
        said = f"pretrained, but for {', '.join(fresh)}, which the files lack"
    unused = [name for name in weights.head if name not in stored]
    loaded = Loaded(model, tokenizer, head, {"mlm_head": said, "unused_head": unused})
    return loaded, frozenset(drawn)


def _outside(frame: Any) -> set[str]:
    """Return the names of a model's tensors outside its encoder."""
    return {n for n in frame.state_dict() if not n.startswith(frame.base_model_prefix + ".")}


_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def _shown(weights: Weights) -> str:
    return f"model {weights.name_or_path}"


def _architecture(weights: Weights) -> Any:
    """Return the config of a model's folder."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(weights.folder, **_LOCAL)
    except Exception as error:
        raise UserError(
            f"{_shown(weights)}: config.json is not one of a known model ({_first_line(error)});"
            f" {OFFLINE}"
        ) from None
    if config.is_encoder_decoder:
        config.use_cache = False  # no text is generated
    if config.model_type == "xlnet":
        config.use_mems_eval = config.use_mems_train = False  # no text goes on in the next batch
    return config


def _shape_head(config: Any, task: Task) -> None:
    """Give the head an output for each class, or one for a score."""
    names = task.outputs
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    scored = task.facts.answer == "score"
    config.problem_type = "regression" if scored else "single_label_classification"


def _load_weights(
    weights: Weights, config: Any, frame: Any, seed: int, own_head: bool = True
) -> tuple[Any, set[str]]:
    """Return the model, and the names of its tensors that the files lack or that are a head's.

    Only the hashed files are opened. `frame` is the model without storage. A head in the files is
    left aside, unless `own_head` is false.
    """
    import torch

    shown, prefix = _shown(weights), frame.base_model_prefix + "."
    own = _outside(frame) if own_head and not _bare(frame) else set()
    try:
        with ExitStack() as opened:
            tensors = _tensors(weights.files, opened)
            heads = [n for n in tensors if n in own or n.removeprefix(prefix) in own]
            for name in heads:
                del tensors[name]
            torch.manual_seed(derive(seed, "head"))
            model, info = type(frame).from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # those are named below
                local_files_only=True,
            )
    except Exception as error:
        raise UserError(
            f"{shown}: the weights in {weights.folder} cannot be loaded ({_first_line(error)});"
            f" the file may be damaged or of another architecture; {OFFLINE}"
        ) from None
    unknown = sorted(set(heads) - set(weights.head))
    if unknown:
        raise UserError(
            f"{shown}: {unknown[0]} belongs to a task head, and of a {config.model_type} model it"
            " is not known which tensors do; save the encoder alone: AutoModel.from_pretrained(…)"
            f".save_pretrained(…); {OFFLINE}"
        )
    _check_complete(weights, model, info)
    model.name_or_path = model.config.name_or_path = str(weights.folder)
    return model, set(info["missing_keys"])


def _tensors(files: Sequence[Path], opened: ExitStack) -> dict[str, Any]:
    """Return the files' tensors by name, each read when it is put into the model."""
    from safetensors import safe_open

    tensors: dict[str, Any] = {}
    for path in files:
        stored = opened.enter_context(safe_open(path, framework="pt"))
        tensors |= {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118
    return tensors


def _check_complete(weights: Weights, model: Any, info: Mapping[str, Any]) -> None:
    """Refuse an encoder of which the files lack tensors, or hold them in other shapes."""
    shown = _shown(weights)
    inside = "" if _bare(model) else model.base_model_prefix + "."
    lost = sorted(n for n in info["missing_keys"] if n.startswith(inside) and "pooler" not in n)
    if lost:
        raise UserError(
            f"{shown}: {len(lost)} of the encoder's tensors are not in {weights.folder}, such as"
            f" {lost[0]}; the file is of another model, or was cut down; {OFFLINE}"
        )
    wrong = sorted(
        (name, tuple(stored), tuple(own)) for name, stored, own in info["mismatched_keys"]
    )
    if wrong:
        name, stored, own = wrong[0]
        raise UserError(
            f"{shown}: {name} is {list(stored)} in {weights.folder} and {list(own)} by its"
            f" config.json ({len(wrong)} such); put the config.json that the weights were saved"
            f" with beside them; {OFFLINE}"
        )


_CLASSES: Mapping[Head, str] = {
    "none": "AutoModel",
    "texts": "AutoModelForSequenceClassification",
    "tokens": "AutoModelForMaskedLM",
}


def _frame(weights: Weights, config: Any, head: Head) -> Any:
    """Return the model without storage: its class, and the names of its tensors."""
    import torch
    import transformers

    name = _CLASSES[head]
    if head == "none" and config.is_encoder_decoder:
        name = "AutoModelForTextEncoding"  # vectors of sentences are made from the encoder's states
    auto: Any = getattr(transformers, name)
    try:
        with torch.device("meta"):
            return auto.from_config(config, trust_remote_code=False)
    except Exception as error:
        if head == "tokens" and "Unrecognized configuration" in str(error):
            raise UserError(
                f"{_shown(weights)}: of a {config.model_type} model none is known that predicts"
                " masked tokens; use another, such as model=bert-base-uncased"
            ) from None
        raise UserError(
            f"{_shown(weights)}: its config.json describes no model that can be built"
            f" ({_first_line(error)}); {OFFLINE}"
        ) from None


def _bare(model: Any) -> bool:
    """Say whether a model is an encoder without a head."""
    return not hasattr(model, model.base_model_prefix)


def load_tokenizer(weights: Weights) -> Any:
    """Return the tokenizer that a run reads texts with, without its model."""
    return _load_tokenizer(weights, _architecture(weights))


def _load_tokenizer(weights: Weights, config: Any) -> Any:
    """Return the tokenizer of a model's folder; one that cannot pad, or pads amiss, is refused.

    It cuts and pads on the right where only its files have it on the left.
    """
    from transformers import AutoTokenizer

    shown = _shown(weights)
    try:
        tokenizer = AutoTokenizer.from_pretrained(weights.folder, **_LOCAL)
    except Exception as error:
        raise UserError(
            f"{shown}: its tokenizer cannot be loaded ({_first_line(error)}); {OFFLINE}"
        ) from None
    if tokenizer.pad_token_id is None:
        raise UserError(f"{shown}: its tokenizer has no padding token, so batches cannot be made")
    for name in weights.turned:
        tokenizer.init_kwargs[f"{name}_side"] = "right"  # what a saved tokenizer says
        setattr(tokenizer, f"{name}_side", "right")
    side = _padding_side(config)
    if side is not None and tokenizer.padding_side != side:
        raise UserError(
            f"{shown}: its tokenizer pads on the {tokenizer.padding_side}, and of a"
            f" {config.model_type} model every text must be padded on the {side}; set padding_side"
            " in its tokenizer_config.json"
        )
    if config.model_type == "xlnet":  # transformers 5 leaves its segments out by default
        names = ["input_ids", "token_type_ids", "attention_mask"]
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
    return tokenizer


def _padding_side(config: Any) -> str | None:
    """Return on which side texts must be padded so that no answer depends on it, else None.

    A head may read what stands last, padding or not, and a decoder reads what stands before. All
    others read where a text begins, or where its mask ends.
    """
    if config.is_encoder_decoder:
        return "right"
    return "left" if config.model_type == "xlnet" and config.summary_type == "last" else None


def _sentence_model(encoder: Any) -> Any:
    """Return the encoder without a pooler, whose output no vector of a sentence is made from."""
    from runners.models.encoder import SentenceModel

    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return SentenceModel(encoder)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160] if text else ''}"


def head_names(model: PreTrainedModel, missing: set[str]) -> frozenset[str]:
    """Return the names of parameters outside the encoder, and of those the checkpoint lacks."""
    encoder = model.base_model_prefix + "."
    return frozenset(
        n for n, _ in model.named_parameters() if not n.startswith(encoder) or n in missing
    )


def draw_anew(model: PreTrainedModel, modules: Sequence[str], shown: str) -> set[str]:
    """Initialise the named modules as if the checkpoint lacked them; return their parameters.

    They are drawn in the order of their names, however they were listed, as one list is one run. A
    name that is not one of the model's modules is a UserError.
    """
    drawn: set[str] = set()
    known = dict(model.named_modules())
    for name in sorted(modules):
        if not name or name not in known:
            raise UserError(f"{shown}: model.untrained={name!r} is not one of its modules")
        drawn |= {f"{name}.{inner}" for inner, _ in known[name].named_parameters()}
        initialise(model, known[name])
    return drawn


def set_dropout(config: Any, dropout: float | None) -> None:
    """Set every dropout rate the architecture has; None leaves the pretrained model's own."""
    if dropout is None:
        return
    for name, value in list(config.to_dict().items()):
        is_rate = isinstance(value, int | float) and not isinstance(value, bool)
        if "dropout" in name and (is_rate or (value is None and name == "classifier_dropout")):
            setattr(config, name, dropout)


def check_length(frame: Any, max_length: int, shown: str) -> None:
    """Refuse a length that the position embeddings do not reach."""
    limit = longest_text(frame)
    if limit is not None and max_length > limit:
        raise UserError(
            f"budget.max_length={max_length}: {shown} takes {limit} tokens at most; use"
            f" budget.max_length={limit}"
        )


def count_embeddings(model: Any) -> int:
    """Return how many token ids the model has embeddings for."""
    return int(model.get_input_embeddings().weight.shape[0])
