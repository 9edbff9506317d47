"""Finds the files of the language model that makes rows for a run, without loading torch."""

from __future__ import annotations

import json

from results.errors import UserError
from results.plain_file import read_plain
from runners.config.settings import Model, Settings
from runners.config.unlabelled import Generated
from runners.models.weights import OFFLINE, Weights, find_weights

_CAUSAL = ("LMHeadModel", "ForCausalLM")
_BOTH_WAYS = ("Bert", "Roberta", "Electra")  # encoders with a head that nothing trained so


def find_generator(settings: Settings) -> Weights | None:
    """Return the hashed files of data.generated.generator; None where it names none.

    One that cannot be had, that is no causal language model, or that reads fewer tokens than
    are asked for, is a UserError.
    """
    named = settings.data.generated.generator
    if named is None:
        return None
    where = f"data.generated.generator={named}"
    instead = "name the folder of a causal language model, as save_pretrained writes GPT-2"
    try:
        weights = find_weights(Model(name="generator", name_or_path=named, lr={"full": 1.0}))
    except UserError as error:
        said = str(error).removesuffix(f"; {OFFLINE}").removeprefix("model.name_or_path=")
        raise UserError(f"{where}: no generator can be had: {said}; {instead}") from None
    config = json.loads(read_plain(weights.folder / "config.json", 2**26))
    names = [str(name) for name in config.get("architectures") or []]
    if not any(name.endswith(_CAUSAL) and not name.startswith(_BOTH_WAYS) for name in names):
        said = ", ".join(names) or "no architecture"
        raise UserError(f"{where}: {weights.folder} holds {said}; {instead}")
    places = config.get("max_position_embeddings", config.get("n_positions"))  # as GPT-2 says it
    check_length(settings.data.generated, places)
    return weights


def check_length(options: Generated, places: int | None) -> None:
    """Refuse rows of more tokens than a generator reads; None where it says no number."""
    if isinstance(places, int) and options.max_tokens > places:
        raise UserError(
            f"data.generated.max_tokens={options.max_tokens}: the generator reads {places} tokens;"
            " ask for fewer"
        )
