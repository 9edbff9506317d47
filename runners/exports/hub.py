"""Sends the folder of an exported model to the hub; what fails there costs the folder nothing."""

from __future__ import annotations

import shlex
from pathlib import Path

from runners.machine.console import say, show
from runners.network import bound_waiting


def push(folder: Path, repository: str) -> bool:
    """Upload a folder to a repository, which is made, private, where there is none.

    Say where it went, or why it did not and what to type; return whether it did.
    """
    if not folder.is_dir():
        say(f"warning: push={repository}: {folder} is not there, so nothing was sent")
        return False
    from huggingface_hub import HfApi

    bound_waiting()
    try:
        api = HfApi()
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except Exception as error:  # the hub's client raises dozens of types, of three libraries
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        command = shlex.join(["hf", "upload", repository, str(folder)])
        say(
            f"warning: push={repository}: {folder} could not be sent ({type(error).__name__}:"
            f" {reason}); it stays, and this sends it: {command}"
        )
        return False
    show(f"sent to the hub: {repository}")
    return True
