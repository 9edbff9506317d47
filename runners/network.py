"""Requests to the hub end: its client waits without a limit for a server that never answers."""

from __future__ import annotations


def bound_waiting() -> float:
    """Let requests of huggingface_hub's that have no limit end after HF_HUB_DOWNLOAD_TIMEOUT.

    Return these seconds, for the calls that take a limit and have none by themselves.
    """
    from huggingface_hub import constants, get_session

    get_session().timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    return float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
