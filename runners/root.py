"""Where the project lies: the folder of run.py, and the shipped configurations."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_PACKAGED = ROOT / "runners" / "configs"  # in a wheel; else beside the packages
CONFIGS = _PACKAGED if _PACKAGED.is_dir() else ROOT / "configs"
