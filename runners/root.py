"""Where the project lies: the folder of run.py, and the shipped configurations."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_PACKAGED = ROOT / "runners" / "configs"  # in a wheel; else beside the packages
CONFIGS = _PACKAGED if _PACKAGED.is_dir() else ROOT / "configs"


def program() -> str:
    """Return what a user types to start this: run.py in a clone, else the installed command."""
    is_installed = not (ROOT / "run.py").is_file()
    return "tunebench" if is_installed or Path(sys.argv[0]).name == "tunebench" else "python run.py"
