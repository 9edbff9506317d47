"""What the installed peft registers and takes, read from its files without importing it.

peft imports torch, and options are checked before that: a run that is finished is recognised first.
"""

from __future__ import annotations

import ast
import functools
import re
import typing
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from results.errors import nearest

# Tuners that a run cannot have, each with the end of a sentence that begins with its name.
REFUSED: Mapping[str, str] = {
    "adaption_prompt": "needs a decoder: it goes into the attention of Llama, Mistral or GPT-2",
    "cartridge": "needs a decoder: its keys and values are distilled from what one says of a text",
    "cpt": "needs a decoder: it trains prompts for causal language modelling only",
    "multitask_prompt_tuning": "needs more inputs: the number of its task beside each example",
    "poly": "needs more inputs: the number of its task beside each example",
    "shadow": "needs a decoder: its states pass from one decoder block to the next",
    "trainable_tokens": "trains rows of the word embedding, of which a run keeps its own tokens'",
    "xlora": "needs more inputs: LoRA adapters that are trained already",
    "p_tuning": "makes prompts by a network while it trains; use method=prompt for prompts",
}
# Tuners that are methods of this project, with the name of each.
OWN: Mapping[str, str] = {
    "adalora": "adalora",  # acts at each step
    "ia3": "ia3",
    "ln_tuning": "ln_tuning",
    "prefix_tuning": "prefix",
    "prompt_tuning": "prompt",
}
# Options that a run sets itself, or cannot give what they need.
_SET = "is set by the run"
_DATA = "needs more inputs than a run gives a method"
NOT_TAKEN: Mapping[str, str] = {
    "auto_mapping": _SET,
    "base_model_name_or_path": _SET,
    "inference_mode": _SET,
    "peft_type": _SET,
    "peft_version": _SET,
    "revision": _SET,
    "task_type": _SET,
    "total_step": _SET,
    "tinit": "is set by `warmup`, a share of the steps",
    "tfinal": "is set by `final`, a share of the steps",
    "rank_pattern": "is for matrices by name, which `targets` stand for",
    "alpha_pattern": "is for matrices by name, which `targets` stand for",
    "modules_to_save": f"{_SET}: the head trains, and nothing else of the model",
    "target_modules": "is set by `targets`, for each architecture",
    "target_parameters": "is set by `targets`, for each architecture",
    "layers_to_transform": "goes with lists of modules, and `targets` are a pattern",
    "layers_pattern": "goes with lists of modules, and `targets` are a pattern",
    "save_projection": "changes files only: they are made again from their key",
    "save_only_topk_weights": "changes files only, and a saved run could not go on",
    "save_precomputed_indices": "changes files only",
    "save_indices": "changes files only: they are made again from their seed",
    "boft_n_butterfly_factor": "above 1 needs a CUDA extension, without which peft takes 1 unsaid",
    "use_asa": "needs a call at each step, which AdaMSS is not given here",
    "arrow_config": _DATA,
    "alora_invocation_tokens": "needs a decoder",
    "corda_config": _DATA,
    "eva_config": _DATA,
    "lora_ga_config": _DATA,
    "loftq_config": "needs quantised weights",
    "use_qalora": "needs quantised weights",
    "megatron_config": "needs Megatron's layers",
    "layer_replication": "needs a decoder",
    "monteclora_config": "adds a loss of its own, which is not taken",
    "velora_config": "keeps compressed activations, which is not taken",
    "trainable_token_indices": "trains rows of the word embedding, of which a run keeps its own",
    "ensure_weight_tying": "goes with embeddings, which are no targets",
}
_STARTS = ("eva", "corda", "lora_ga", "loftq")  # of init_lora_weights, from data or quantisation


def _folder() -> Path | None:
    spec = find_spec("peft")
    places = None if spec is None else spec.submodule_search_locations
    return Path(places[0]) if places else None


@functools.cache
def tuners() -> Mapping[str, str]:
    """Return the configuration class of each tuner that the installed peft registers, by name."""
    folder, classes = _folder(), dict[str, str]()
    for path in [] if folder is None else sorted((folder / "tuners").glob("*/__init__.py")):
        for call in re.findall(r"register_peft_method\(([^)]*)\)", path.read_text("utf-8")):
            given = dict(re.findall(r"(\w+)\s*=\s*[\"']?(\w+)", call))
            classes[given["name"]] = given["config_cls"]
    return classes


@functools.cache
def options(tuner: str) -> Mapping[str, str]:
    """Return the annotation of each option of a tuner, as its configuration's file writes it."""
    return dict(_fields(tuners()[tuner]))


@functools.cache
def _classes() -> Mapping[str, str]:
    """Return the texts of the files that define configurations, by the names of these."""
    folder = _folder()
    assert folder is not None
    own = sorted((folder / "tuners").glob("*/config.py"))
    shared = [folder / "config.py", folder / "tuners" / "lycoris_utils.py"]
    texts = [path.read_text("utf-8") for path in (*own, *shared)]
    return {
        name: text for text in texts for name in re.findall(r"^class (\w+)", text, re.MULTILINE)
    }


def _fields(name: str) -> Iterator[tuple[str, str]]:
    text = _classes().get(name)  # none of a base that is not peft's
    for node in [] if text is None else ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for base in node.bases:
                yield from _fields(ast.unparse(base))
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield line.target.id, ast.unparse(line.annotation)


def tuner_problem(key: str, tuner: str, of_method: bool = False) -> str:
    """Say why a tuner cannot be a run's; empty where it can.

    `key` is what named it, such as a method that is this tuner (`of_method`).
    """
    known = tuners()
    if not known:
        return f"{key} needs the package peft, which is not installed: pip install peft"
    if tuner not in known:
        return f"{key}: peft {version('peft')} has no such tuner{nearest(tuner, known)}"
    if tuner in REFUSED:
        return f"{key}: {tuner} {REFUSED[tuner]}"
    if tuner in OWN and not of_method:
        return f"{key}: type method={OWN[tuner]}, which is it"
    return ""


def option_problems(key: str, tuner: str, given: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with the options of a tuner that is registered, a sentence each."""
    known = options(tuner)
    free = [name for name in known if name not in NOT_TAKEN]
    problems = []
    for name, value in given.items():
        if name not in known:
            problems.append(f"no key called '{key}.{name}'{nearest(str(name), free)}")
        elif name in NOT_TAKEN:
            problems.append(f"{key}.{name} {NOT_TAKEN[name]}; leave it out")
        elif name == "module_dropout" and tuner in ("loha", "lokr"):
            problems.append(f"{key}.{name} is drawn on the host at each layer; leave it out")
        elif name == "init_lora_weights" and str(value).startswith(_STARTS):
            problems.append(f"{key}.{name}={value} {_DATA}: leave it out, or use pissa or olora")
        elif why := _misfit(value, known[name]):
            problems.append(f"{key}.{name}={value!r}: {why}")
    return problems


class _Names(dict[str, Any]):
    """What the annotations of peft's options name; a class of peft's own stands for anything."""

    def __missing__(self, name: str) -> Any:
        plain = {"int": int, "float": float, "bool": bool, "str": str, "list": list}
        more = {"dict": dict, "tuple": tuple, "set": set}
        return {**plain, **more}.get(name, getattr(typing, name, Any))


def _misfit(value: Any, annotation: str) -> str:
    """Say why a value is none of an option's type; empty where it is, or that is not known."""
    if "[number" in annotation and isinstance(value, str):
        return ""  # a text with a number in it
    try:
        kind = eval(annotation, {"__builtins__": {}, "typing": typing}, _Names())
        adapter = TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
    except Exception:  # of a later Python's syntax
        return ""
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        faults = [fault["msg"] for fault in error.errors()]
        return f"{faults[0][:1].lower()}{faults[0][1:]}"
    return ""
