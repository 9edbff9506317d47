"""Writes the logits of a run's report splits, which results/logits.py reads."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib.format import write_array
from numpy.typing import NDArray

from results.whole import EVERYONE, whole


def save_logits(path: Path, logits: Mapping[str, NDArray[np.float32]]) -> str:
    """Write float32 [examples, classes] by split, whole or not at all; return the file's sha256."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:  # np.savez takes no split that is called file
        for name, rows in logits.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as entry:
                write_array(entry, np.asarray(rows, np.float32), allow_pickle=False)
    content = stream.getvalue()
    with whole(path, EVERYONE) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
