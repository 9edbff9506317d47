"""Where the parts of an encoder layer are, in each architecture that can be operated on.

Hooks, not replaced modules, do the surgery: pretrained parameters keep their names, and no method
depends on which attention kernel runs.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from methods.surgery.inserted import as_loaded
from results.errors import UserError

ADDED_TO_HEAD = "tunebench_added_to_head"  # of a model: names of modules that methods put there


@dataclass(frozen=True)
class Places:
    """Names inside one layer; `None` where the architecture has no such module.

    `attention` and `ffn` are the modules whose outputs are the two branches just before each is
    added to its residual (after dropout where there is one). `ffn_input` is the module whose first
    input is the input of the feed-forward branch. `last_norm` normalises the sum of feed-forward
    branch and residual (post-LN architectures only). `core` is the module that calls the
    attention kernel, `attention_dropout` the dropout of its probabilities where that is a module.
    `cross` is the module by which a decoder's layer attends to the encoder's states; its matrices
    are named as those of `core`. `gate` is the second matrix of a gated feed-forward branch.
    `embeddings` is what looks words up, and stands beside the layers. `below` are the encoder's own
    parts no higher than its first layer: relative positions, a projection of the embeddings.
    """

    layers: str
    core: str
    attention_dropout: str | None
    query: str | None
    key: str | None
    value: str | None
    attention: str | None
    ffn_input: str
    expansion: str
    activation: str
    contraction: str
    ffn: str
    last_norm: str | None
    cross: str | None = None
    gate: str | None = None
    embeddings: str = "embeddings"
    below: tuple[str, ...] = ()

    def matrices(self, *wanted: str) -> list[str]:
        """Return the names of these places, those of cross-attention behind their likes."""
        names = []
        for place in wanted:
            name = getattr(self, place)
            names += [] if name is None else [name]
            if name is not None and self.cross is not None and name.startswith(f"{self.core}."):
                names.append(self.cross + name.removeprefix(self.core))
        return names


_BERT = Places(
    layers="encoder.layer",
    core="attention.self",
    attention_dropout="attention.self.dropout",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention="attention.output.dropout",
    ffn_input="intermediate",
    expansion="intermediate.dense",
    activation="intermediate.intermediate_act_fn",
    contraction="output.dense",
    ffn="output.dropout",
    last_norm="output.LayerNorm",
)
_DEBERTA = Places(
    **{
        **vars(_BERT),
        "query": "attention.self.query_proj",
        "key": "attention.self.key_proj",
        "value": "attention.self.value_proj",
        "below": ("encoder.rel_embeddings", "encoder.LayerNorm", "encoder.conv"),
    }
)
_ALBERT = Places(
    layers="encoder.albert_layer_groups",
    core="attention",
    attention_dropout="attention.attention_dropout",
    query="attention.query",
    key="attention.key",
    value="attention.value",
    attention="attention.output_dropout",
    ffn_input="ffn",
    expansion="ffn",
    activation="activation",
    contraction="ffn_output",
    ffn="ffn_output",
    last_norm="full_layer_layer_norm",
    below=("encoder.embedding_hidden_mapping_in",),
)
_DISTILBERT = Places(
    layers="transformer.layer",
    core="attention",
    attention_dropout="attention.dropout",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention="attention.out_lin",
    ffn_input="ffn",
    expansion="ffn.lin1",
    activation="ffn.activation",
    contraction="ffn.lin2",
    ffn="ffn",
    last_norm="output_layer_norm",
)
_MODERNBERT = Places(
    layers="layers",
    core="attn",
    attention_dropout=None,  # a number, in each layer's attention
    query=None,  # one matrix for the three
    key=None,
    value=None,
    attention="attn.out_drop",
    ffn_input="mlp",
    expansion="mlp.Wi",
    activation="mlp.act",
    contraction="mlp.Wo",
    ffn="mlp",
    last_norm=None,  # normalises before each branch
)
_MPNET = Places(
    **{
        **vars(_BERT),
        "core": "attention.attn",
        "attention_dropout": "attention.attn.dropout",
        "query": "attention.attn.q",
        "key": "attention.attn.k",
        "value": "attention.attn.v",
        "attention": "attention.dropout",
        "below": ("encoder.relative_attention_bias",),
    }
)
_XLNET = Places(
    layers="layer",
    core="rel_attn",
    attention_dropout=None,  # the module that drops the branch's output too
    query=None,  # bare parameters, as all matrices of its attention
    key=None,
    value=None,
    attention=None,
    ffn_input="ff",
    expansion="ff.layer_1",
    activation="ff.activation_function",
    contraction="ff.layer_2",
    ffn="ff.layer_2",  # before dropout, by a module that drops the expansion's output too
    last_norm="ff.layer_norm",
    embeddings="word_embedding",
)


def _t5(layers: str, branch: str, cross: str | None = None, gated: bool = False) -> Places:
    """Return the places of one of T5's stacks, whose feed-forward branch is `branch` of a layer."""
    dense = f"{branch}.DenseReluDense"
    return Places(
        layers=layers,
        core="layer.0.SelfAttention",
        attention_dropout=None,  # a number, in each layer's attention
        query="layer.0.SelfAttention.q",
        key="layer.0.SelfAttention.k",
        value="layer.0.SelfAttention.v",
        attention="layer.0.dropout",
        ffn_input=dense,
        expansion=f"{dense}.wi_0" if gated else f"{dense}.wi",
        activation=f"{dense}.act",
        contraction=f"{dense}.wo",
        ffn=f"{branch}.dropout",
        last_norm=None,  # normalises before each branch
        cross=cross,
        gate=f"{dense}.wi_1" if gated else None,
        embeddings="shared",
    )


PLACES = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "deberta-v2": _DEBERTA,
    "albert": _ALBERT,
    "distilbert": _DISTILBERT,
    "modernbert": _MODERNBERT,
    "mpnet": _MPNET,
    "xlnet": _XLNET,
    "t5": _t5("encoder.block", "layer.1"),
}


def stacks(model: Any, method: str) -> list[Places]:
    """Return the places of each stack of layers: one, or an encoder's and then its decoder's.

    An architecture that is not known is a UserError.
    """
    kind = model.config.model_type
    if kind not in PLACES:
        raise UserError(
            f"method={method}: it is not known where a {kind} model has its layers; known are"
            f" {', '.join(PLACES)}; use method=full, linear or bitfit"
        )
    if kind != "t5":
        return [PLACES[kind]]
    gated = bool(model.config.is_gated_act)
    decoder = _t5("decoder.block", "layer.2", cross="layer.1.EncDecAttention", gated=gated)
    encoder = _t5("encoder.block", "layer.1", gated=gated)
    return [encoder, decoder] if hasattr(model.base_model, "decoder") else [encoder]


@dataclass(frozen=True)
class Layer:
    """One encoder layer: its index, its full name in the model, and its places."""

    index: int
    name: str
    module: nn.Module
    places: Places

    def at(self, place: str) -> nn.Module:
        """Return the module at a place of this layer."""
        name = getattr(self.places, place)
        assert name is not None
        return self.module.get_submodule(name)

    def full_name(self, place: str) -> str:
        """Return a place's name from the model's root."""
        return f"{self.name}.{getattr(self.places, place)}"


def layers(model: Any, method: str, needs: Sequence[str] = ()) -> list[Layer]:
    """Return the layers, first to last (ALBERT's shared layers once each, T5's decoder's last).

    An architecture that is not known, or lacks a place in `needs`, is a UserError.
    """
    kind, one = model.config.model_type, "has one matrix for queries, keys and values"
    bare = "has its queries, keys and values from bare parameters"
    why = {
        "last_norm": "has no normalisation after its feed-forward branch",
        "attention": "projects its attention's output by a bare parameter",
        **dict.fromkeys(("query", "key", "value"), bare if kind == "xlnet" else one),
    }
    every = []
    for places in stacks(model, method):
        for place in needs:
            if getattr(places, place) is None:
                raise UserError(f"method={method}: {kind} {why.get(place, 'has no ' + place)}")
        prefix = f"{model.base_model_prefix}.{places.layers}"
        every += [(name, module, places) for name, module in _each(model, prefix)]
    return [Layer(i, name, module, places) for i, (name, module, places) in enumerate(every)]


def _each(model: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for i, module in enumerate(model.get_submodule(prefix).children()):
        inner = getattr(module, "albert_layers", None)
        if inner is None:
            yield f"{prefix}.{i}", module
        else:
            for j, shared in enumerate(inner):
                yield f"{prefix}.{i}.albert_layers.{j}", shared


def last_states(model: Any, method: str) -> nn.Module:
    """Return the module whose output is the last states (B, L, width), of which a head reads some.

    What it gives is a tensor, a tuple that begins with it, or has it as `last_hidden_state`.
    """
    last = layers(model, method)[-1].module
    # One layer, again and again; norms behind the layers; and XLNet's layers have places first.
    own = {"albert": "encoder", "modernbert": "final_norm", "t5": "decoder", "xlnet": ""}
    name = own.get(model.config.model_type)
    return last if name is None else model.base_model.get_submodule(name)


def _is_added(model: Any, name: str) -> bool:
    """Say whether a module outside the encoder stands in one that a method put into the head."""
    return any(name.startswith(f"{one}.") for one in getattr(model, ADDED_TO_HEAD, ()))


def add_to_head(model: Any, name: str, module: nn.Module) -> None:
    """Put a module into the head, before the layers that are there."""
    model.add_module(name, module)
    setattr(model, ADDED_TO_HEAD, (*getattr(model, ADDED_TO_HEAD, ()), name))


def own_head_linears(model: Any) -> list[nn.Linear]:
    """Return the linear layers outside the encoder that no method added, as they act."""
    inside = f"{model.base_model_prefix}."
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and not name.startswith(inside)
        and not _is_added(model, name)
    ]


def last_of_head(model: Any, head: frozenset[str], why: str) -> tuple[nn.Linear, str]:
    """Return the linear layer of a head that gives the logits, and its name.

    What a method added to the head stands before it. Where there is none, a UserError begins with
    `why`, what asks for it.
    """
    linear = [
        (module, name)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and f"{name}.weight" in head and not _is_added(model, name)
    ]
    if not linear:
        raise UserError(
            f"{why}: in the head of this {model.config.model_type} model no linear layer gives"
            " the logits; use another model"
        )
    return linear[-1]


def hidden_size(model: Any) -> int:
    """Return the width of the encoder's hidden states."""
    return int(model.config.hidden_size)


def longest_text(model: Any) -> int | None:
    """Return how many tokens a model has positions for; None if their number has no bound.

    Where one position is kept for padding, those of a text begin after it, as in RoBERTa.
    """
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is None or limit <= 0 or getattr(model.config, "position_biased_input", True) is False:
        return None  # such a DeBERTa compares places, at any distance
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "position_embeddings" and hasattr(module, "weight"):
            padding = getattr(module, "padding_idx", None)
            first = 0 if padding is None else padding + 1
            return min(int(limit), int(module.weight.shape[0]) - first)
    return int(limit)


def layer_norms(model: Any) -> Iterator[nn.Parameter]:
    """Yield the gains and biases of every layer normalisation inside the encoder."""
    for module in model.base_model.modules():
        if isinstance(module, nn.LayerNorm) or type(module).__name__ == "T5LayerNorm":
            yield from module.parameters()


def embedding_of_words(model: Any, method: str) -> Any:
    """Return the module whose output a method changes to move a text's words.

    A model that looks its words up twice, for an encoder and for a decoder, is a UserError.
    """
    if model.config.is_encoder_decoder:
        raise UserError(
            f"method={method}: {model.config.model_type} reads a text twice, in its encoder and in"
            " its decoder, and this method acts on the words of one reading; use a model without a"
            " decoder"
        )
    return model.get_input_embeddings()


def freeze_all_but_head(model: nn.Module, head: frozenset[str]) -> None:
    """Let only the head train; what a method adds later trains by itself."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in head)


def switch_off_dropout(model: Any, method: str, attention: bool) -> None:
    """Set every dropout rate to zero; those of attention probabilities only when asked.

    Where one module drops both, leaving those alone is a UserError.
    """
    kept = set()
    if model.config.model_type == "xlnet" and not attention:
        raise UserError(
            f"method={method}: xlnet drops attention's probabilities and its output by one module,"
            f" so that hidden dropout cannot be off by itself; {_KEEP_DROPOUT.get(method, '')}"
        )
    for layer in layers(model, method):
        if layer.places.attention_dropout is not None:
            kept.add(layer.at("attention_dropout"))
        cores = [layer.at("core"), *([layer.at("cross")] if layer.places.cross else [])]
        for core in cores if attention else []:
            for name in ("attention_dropout", "dropout"):
                if isinstance(getattr(core, name, None), float | int):
                    setattr(core, name, 0.0)
    for module in model.modules():
        if isinstance(module, nn.Dropout) and (attention or module not in kept):
            module.p = 0.0


def switch_off_own_dropout(model: nn.Module) -> None:
    """Set to zero the rates of inserted modules that are not torch's dropout.

    They are those of modules that drop by a method's own stream, their `own_rate`, and of peft's.
    """
    for module in model.modules():
        if hasattr(module, "own_rate"):
            setattr(module, "own_rate", 0.0)  # noqa: B010
        if type(module).__name__ == "MultiplicativeDropoutLayer":
            setattr(module, "p", 0.0)  # noqa: B010
        for name in ("rank_dropout", "module_dropout"):
            rates = vars(module).get(name)
            if isinstance(rates, dict):
                rates.update(dict.fromkeys(rates, 0.0))


_KEEP_DROPOUT = {
    "hype": "use method.hype.hidden_dropout=keep",
    "no_dropout": "use method.no_dropout.attention=true",
}


def draw_anew(model: Any, part: nn.Module, loaded: Container[str] | None = None) -> None:
    """Initialise a part of the model as its architecture does without a checkpoint.

    `loaded` are the names of the model's own parameters, where something was inserted that stays.
    """
    names = {id(p): as_loaded(name) for name, p in model.named_parameters()}
    chosen = [
        module
        for module in part.modules()
        if loaded is None or all(names[id(p)] in loaded for p in module.parameters(recurse=False))
    ]
    for parameter in (p for module in chosen for p in module.parameters(recurse=False)):
        parameter._is_hf_initialized = False  # type: ignore[attr-defined]  # else transformers skips it
    for module in chosen:
        model._init_weights(module)
