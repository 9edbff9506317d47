"""What a method puts into a model, as others must know before the model is there."""

from __future__ import annotations

from typing import Any

from methods.method import Method

# Rates that peft's layers keep elsewhere than in a module of torch; delora's last one is in such.
_ELSEWHERE = ("rank_dropout", "boft_dropout", "module_dropout")


def as_loaded(name: str) -> str:
    """Return the name that a parameter had before peft put a layer around its module."""
    return name.replace(".base_layer.", ".")


def tuner_of(method: Method) -> str:
    """Return the tuner of peft that `method=peft` names, else the method's name."""
    return str(getattr(method, "tuner", method.name))


def inserts(method: Method) -> bool:
    """Say whether a method puts parameters of its own into the encoder."""
    of_peft = type(method).peft_config is not Method.peft_config
    return "parameters" in method.owns and (of_peft or bool(method.leaves))


# Options that change what inserted modules compute, and not their shapes. peft's are not listed:
# what its layers compute is compared.
_UNSHAPED = {
    "adapter": ("activation", "scale"),
    "prompt": ("place",),
    "unipelt": ("lora_scale", "alpha", "gate_mean"),
}


def unshaped(method: Method) -> dict[str, Any]:
    """Return the options of a method that no shape of what it inserts shows."""
    return {option: getattr(method, option) for option in _UNSHAPED.get(method.name, ())}


def dropout_of(method: Method) -> tuple[bool, bool]:
    """Say whether what a method inserts has dropout: by torch's modules, and by other means."""
    own = getattr(method, "own_dropout", 0.0) > 0
    if not inserts(method):
        return False, own
    options: dict[str, Any] = dict(getattr(method, "options", {}))
    if method.name == "lora":
        options["lora_dropout"] = getattr(method, "dropout", 0.0)
    on = {key for key, rate in options.items() if key.endswith("dropout") and rate}
    elsewhere = on & {*_ELSEWHERE} if tuner_of(method) != "delora" else set()
    return bool(on - elsewhere), own or bool(elsewhere)
