"""The model card of an exported model: what was trained, on what, how well, and how it is used."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import yaml

from results.printable import printable
from results.record import Record
from runners.config.check import RunConfig
from runners.config.places import portable
from runners.models.weights import Weights

# The hub's names of what is done, and of metrics.
_PIPELINES = {"token": "fill-mask", "option": "multiple-choice"}
_METRICS = {"pearson": "pearsonr", "macro_f1": "f1", "spearmanr_subsets": "spearmanr"}
_CLASSES = {
    "token": "AutoModelForMaskedLM",
    "option": "AutoModelForMultipleChoice",
}
# Folders above what a path names: they are this machine's. Their names may have blanks inside.
_ABOVE = re.compile(r"(?<![\w./~-])(?:file://)?~?/(?:[^/\s,'\"\]](?:[^/\n,'\"\]]*[^/\s,'\"\]])?/)*")
_PATH = re.compile(r"((?:[^=/~]*=)?['\"]?)~?/.*?([^/]*/?['\"]?)", re.DOTALL)


def model_card(name: str, config: RunConfig, weights: Weights, record: Record | None) -> str:
    """Return README.md of a run's model; without a record, no score is in it."""
    parts = [
        _front_matter(config, weights, record),
        f"# {_shown(name)}\n",
        _what(config, weights),
        *_data(record),
        *_scores(record),
        _use(config),
        *_origin(record),
    ]
    return "\n".join(parts)


def hub_name(config: RunConfig, weights: Weights) -> str | None:
    """Return by what name the hub has the pretrained weights; None where it is not known."""
    return weights.name_or_path if weights.revision else config.settings.model.hub


def without_folders(argument: str) -> str:
    """Return an argument with the last part alone of every path that begins at the root or at home.

    Where all of it, or what follows its key, is such a path, the folders may have any names.
    """
    if whole := _PATH.fullmatch(argument):
        return "".join(whole.groups())
    return _ABOVE.sub("", argument)


def _shown(text: object) -> str:
    """Return a text as one line of a page, where no sign of it is Markdown's or HTML's."""
    return re.sub(r"([\\`*_{}\[\]<>#|&])", r"\\\1", printable(portable(str(text))))


def _front_matter(config: RunConfig, weights: Weights, record: Record | None) -> str:
    task, base = config.settings.task, hub_name(config, weights)
    known = [_METRICS.get(name, name) for name in task.metrics]
    facts: dict[str, Any] = {
        "library_name": "transformers",
        "license": "unknown",
        "pipeline_tag": _PIPELINES.get(task.facts.answer, "text-classification"),
        **({} if base is None else {"base_model": base}),
        **_datasets(config, record),
        "tags": ["tunebench", *config.method_names, task.name],
        "metrics": list(dict.fromkeys(known)),
    }
    return f"---\n{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)}---\n"


def _datasets(config: RunConfig, record: Record | None) -> dict[str, list[str]]:
    """Return the hub's name of the data, where they came from there."""
    hub = config.settings.task.hub
    from_hub = record is not None and record.data.get("source") == "hub" and hub is not None
    return {"datasets": [hub.path]} if from_hub and hub is not None else {}


def _what(config: RunConfig, weights: Weights) -> str:
    settings, base = config.settings, hub_name(config, weights)
    model = settings.model.name + (f" ({base})" if base and base != settings.model.name else "")
    lines = [
        f"- task: {_shown(settings.task.name)}",
        f"- method: {_shown('+'.join(config.method_names))}",
        f"- pretrained model: {_shown(model)}, sha256 of its weights {weights.sha256}",
        f"- at most {settings.budget.max_length} tokens a text, seed {settings.seed}",
    ]
    return "\n".join([*lines, ""])


def _data(record: Record | None) -> Iterator[str]:
    """Say what the model was trained on and scored by."""
    if record is None:
        return
    source = record.data.get("source")
    rows = (record.data.get("splits") or {}).get("train", {}).get("rows")
    counted = f", {rows:,} rows to train on" if isinstance(rows, int) else ""
    if source == "embedded":
        yield (
            f"Data: embedded{counted}. **These are sentences that tunebench generates in the shape"
            " of the task, not the task's own data (such as GLUE): a score on them says nothing of"
            " a score on those.**\n"
        )
    else:
        yield f"Data: {_shown(source)}{counted}.\n"


def _scores(record: Record | None) -> Iterator[str]:
    if record is None or not record.scores:
        return
    lines = ["| split | metric | score, in percent |", "|---|---|---:|"]
    for split, metrics in record.scores.items():
        lines += [f"| {_shown(split)} | {_shown(m)} | {100 * v:.2f} |" for m, v in metrics.items()]
    yield "\n".join([*lines, ""])


def _use(config: RunConfig) -> str:
    """Return how the folder is loaded, and what its inputs and outputs are."""
    task = config.settings.task
    answer, columns = task.facts.answer, [_shown(name) for name in task.columns]
    text = [f"Texts: {', then '.join(columns)}, in this order."] if answer != "token" else []
    if answer == "option":
        text += [
            "Each option is read with the example's text as a pair, the text first"
            + (" and its second column before the option" if len(task.text) > 1 else "")
            + f"; options in the order {json.dumps(task.labels, ensure_ascii=False)}."
        ]
    elif answer == "score":
        low_high = "" if task.range is None else f" from {task.range[0]:g} to {task.range[1]:g}"
        text += [f"The output is a score{low_high}, as it is."]
    if answer in _CLASSES:
        code = [f"from transformers import AutoTokenizer, {_CLASSES[answer]}", ""]
        code += ['tokenizer = AutoTokenizer.from_pretrained("FOLDER")']
        code += [f'model = {_CLASSES[answer]}.from_pretrained("FOLDER")']
    else:
        given = '{"text": "…", "text_pair": "…"}' if len(task.text) > 1 else '"…"'
        code = ["from transformers import pipeline", ""]
        code += ['answer = pipeline("text-classification", model="FOLDER", truncation=True)']
        code += [f"answer({given})"]
        text += ["Without truncation=True, longer texts are not cut as they were in training."]
    return "\n".join([*text, "", "```python", *code, "```", ""])


def _origin(record: Record | None) -> Iterator[str]:
    """Say by which command, and which code, the model came about."""
    if record is None:
        return
    command = shlex.join(map(without_folders, shlex.split(portable(record.command))))
    yield f"Trained by tunebench:\n\n    {printable(command)}\n"
    commit = record.environment.get("commit")
    if commit:
        changed = ", changed since" if record.environment.get("dirty") else ""
        yield f"Commit {_shown(commit)}{changed}.\n"
