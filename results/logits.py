"""The logits that a run kept beside its record, RUN.logits.npz: read, and checked against it.

numpy is imported when they are read: a stored result is shown without it.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

from results.errors import UserError
from results.plain_file import read_plain
from results.record import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGEST = 2**30  # bytes of such a file
SUFFIX = ".logits.npz"


def logits_path(record: Record, folder: Path) -> Path:
    """Return where the logits of a record lie that lies in a folder."""
    return folder / f"{record.run}{SUFFIX}"


def is_of(record: Record, folder: Path) -> bool:
    """Say whether the logits of a record lie beside it as they were written."""
    try:
        content = read_plain(logits_path(record, folder), LARGEST)
    except OSError:
        return False
    return hashlib.sha256(content).hexdigest() == record.logits_sha256


def read_logits(record: Record, folder: Path) -> dict[str, NDArray[np.float32]]:
    """Return a record's logits by report split, [examples, classes], in its predictions' order.

    A file that is missing, damaged, of another run or at odds with the record is a UserError;
    nothing is unpickled.
    """
    path = logits_path(record, folder)
    try:
        content = read_plain(path, LARGEST)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}{_AGAIN}") from None
    if hashlib.sha256(content).hexdigest() != record.logits_sha256:
        raise UserError(
            f"{path} is damaged or of another run: its sha256 is not the record's{_AGAIN}"
        )
    logits = _arrays(content, path)
    for split, rows in logits.items():
        _check(rows, record.predictions.get(split, {}), f"{path}: {split}")
    return logits


_AGAIN = "; run it again with save=logits"


def _arrays(content: bytes, path: Path) -> dict[str, NDArray[np.float32]]:
    import zipfile

    import numpy as np

    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} holds no arrays of numpy ({error}){_AGAIN}") from None


def _check(rows: NDArray[np.float32], kept: dict[str, list[float]], where: str) -> None:
    """Refuse logits that are not float32, one row a prediction, whose highest it is."""
    import numpy as np

    predictions, references = kept.get("predictions", []), kept.get("references", [])
    if rows.dtype != np.float32 or rows.ndim != 2 or len(rows) != len(predictions):
        raise UserError(
            f"{where} has {rows.dtype} {list(rows.shape)}, the record {len(predictions)}"
            f" predictions: float32 [{len(predictions)}, classes] is due{_AGAIN}"
        )
    if not np.isfinite(rows).all():
        raise UserError(f"{where} holds nan or infinity{_AGAIN}")
    if not set(references) <= set(range(rows.shape[1])):
        raise UserError(f"{where} has {rows.shape[1]} classes, and references name others{_AGAIN}")
    places = np.asarray(predictions, np.int64)
    inside = bool(np.all((places >= 0) & (places < rows.shape[1])))
    # Of equal logits either may be the prediction.
    if not inside or not np.all(rows[np.arange(len(rows)), places] == rows.max(axis=1)):
        raise UserError(f"{where}: the highest logits are not the record's predictions{_AGAIN}")
