"""Where the project lies: the folder of run.py, the shipped configurations, the user's cache."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_PACKAGED = ROOT / "runners" / "configs"  # in a wheel; else beside the packages
CONFIGS = _PACKAGED if _PACKAGED.is_dir() else ROOT / "configs"


def cache_folder() -> Path:
    """Return where tokens and encoders made of packages are kept: TUNEBENCH_CACHE, else a default.

    That is the user's cache folder; a user without a home, as in some containers, has it among the
    system's temporary files.
    """
    named = os.environ.get("TUNEBENCH_CACHE")
    if named:
        return Path(named).expanduser()
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        caches = Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"
    return caches / "tunebench"
