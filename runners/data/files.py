"""Reads text files that a user names; what cannot be read is one sentence."""

from __future__ import annotations

from pathlib import Path

from results.errors import UserError


def read_text(path: Path, where: str, hint: str = "") -> str:
    """Return a file's text, UTF-8 with or without a byte-order mark; failing is a UserError.

    `where` begins the sentence, `hint` ends the one about a file that is missing.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{where} is missing{hint}") from None
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 at byte {error.start}; save it as UTF-8") from None


def lines_of(text: str) -> list[str]:
    """Return the lines of a text; only a newline ends one, and one at the end adds none."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines
