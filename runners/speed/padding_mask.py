"""Makes the mask of padded places without a look at it, where looking would wait for a GPU."""

from __future__ import annotations

from typing import Any

from runners.speed.repeat import repeats_on


def padding_mask(*places: Any, **named: Any) -> Any:
    """Return what transformers' sdpa_mask does, on a GPU even where a batch has no padding.

    Looking whether it has waits for the device, and another kernel would then round otherwise.
    """
    from transformers.masking_utils import sdpa_mask

    given = named.get("attention_mask")
    if given is not None and repeats_on(str(given.device)):
        named["allow_is_bidirectional_skip"] = False
    return sdpa_mask(*places, **named)


def use_padding_mask(model: Any) -> None:
    """Let a transformers model that attends by torch's sdpa make its mask so."""
    from transformers.masking_utils import AttentionMaskInterface

    if model.config._attn_implementation == "sdpa":
        AttentionMaskInterface.register("sdpa", padding_mask)
