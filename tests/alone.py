"""What a stranger's process makes of exported models, with tunebench out of its reach."""

from __future__ import annotations

import json
import site
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# No .pth file is read, so that an editable install of the project is out of reach too.
_DRIVER = """
import importlib.util, json, os, sys
place, packages = sys.argv[1], json.loads(sys.argv[2])
sys.path += packages
os.chdir("/")
import torch, transformers
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
answers, tokenizers = {}, {}
for name, one in json.load(open(f"{place}/asked.json")).items():
    folder, auto, texts = one["folder"], one["auto"], one["texts"]
    files = tuple(open(f"{folder}/{n}").read() for n in ("tokenizer.json", "tokenizer_config.json"))
    if files not in tokenizers:
        tokenizers[files] = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer = tokenizers[files]
    model, info = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True)
    first, *second = [list(column) for column in zip(*texts)]
    inputs = tokenizer(first, *second, truncation=True, padding=True, return_tensors="pt")
    if auto == "AutoModelForMultipleChoice":
        inputs = {k: v.unflatten(0, (-1, one["options"])) for k, v in inputs.items()}
    with torch.no_grad():
        logits = model(**inputs).logits
    answers[name] = {
        "logits": logits.tolist(),
        "training": model.training,
        "lacking": sorted(info["missing_keys"]) + sorted(info["unexpected_keys"]),
        "longest": tokenizer.model_max_length,
        "attention": model.config._attn_implementation,
    }
    if one.get("pipeline"):
        classify = transformers.pipeline("text-classification", model=folder, truncation=True)
        given = [{"text": a, **({"text_pair": b[0]} if b else {})} for a, *b in texts]
        answers[name]["pipeline"] = [classify(text, top_k=None) for text in given]
ours = [n for n in ("runners", "methods", "results") if importlib.util.find_spec(n)]
ours += [n for n in sys.modules if n.split(".")[0] in ("runners", "methods", "results")]
json.dump({"ours": ours, "answers": answers}, open(f"{place}/answers.json", "w"))
"""


def alone(asked: Mapping[str, Mapping[str, Any]], place: Path) -> dict[str, Any]:
    """Load each folder in one new process without tunebench; return what it answers, by name.

    Each says its `folder`, the `auto` class, `texts` as rows of columns, the number of `options`
    where it has some, and whether a `pipeline` is tried as well.
    """
    (place / "asked.json").write_text(json.dumps(asked))
    packages: Sequence[str] = [p for p in site.getsitepackages() if Path(p).is_dir()]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _DRIVER, str(place), json.dumps(packages)],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads((place / "answers.json").read_text())
    assert answers["ours"] == []
    return dict(answers["answers"])
