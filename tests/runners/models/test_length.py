"""The longest text that is let through is the longest that the model can be given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from methods.surgery.places import longest_text
from results.errors import UserError
from runners.contract.tiny import IDS, SIZES
from runners.models.pretrained import check_length

POSITIONS = 40
SHAPES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "bert": {},
    "camembert": {"pad_token_id": 1},
    "data2vec-text": {"pad_token_id": 1},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "electra": {"embedding_size": 16},
    "longformer": {"attention_window": 4, "pad_token_id": 1},
    "mpnet": {"pad_token_id": 1},
    "roberta": {"pad_token_id": 3},
    "xlm-roberta": {"pad_token_id": 1},
    "xlm-roberta-xl": {"pad_token_id": 1},
    "xmod": {"pad_token_id": 1, "default_language": "en_XX"},
}


def _runs(model: Any, length: int) -> bool:
    ids = torch.full((1, length), 7)
    try:
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError):
        return False
    return True


def _model(architecture: str, **more: Any) -> Any:
    sizes = {**SIZES, **IDS, "vocab_size": 50, "max_position_embeddings": POSITIONS, **more}
    config = transformers.AutoConfig.for_model(architecture, **sizes)
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()


@pytest.mark.parametrize("architecture", SHAPES)
def test_the_longest_text_is_the_longest_that_runs(architecture: str) -> None:
    model = _model(architecture, **SHAPES[architecture])
    limit = longest_text(model)
    assert limit is not None
    assert POSITIONS - 4 <= limit <= POSITIONS
    assert _runs(model, limit)
    assert not _runs(model, limit + 1)
    check_length(model, limit, "model m")
    with pytest.raises(UserError, match=f"takes {limit} tokens at most; use budget.max_length="):
        check_length(model, limit + 1, "model m")


@pytest.mark.parametrize("buckets", [-1, 8])
def test_relative_positions_alone_have_no_longest_text(buckets: int) -> None:
    relative = {
        "relative_attention": True,
        "position_buckets": buckets,
        "pos_att_type": ["p2c", "c2p"],
    }
    model = _model("deberta-v2", **relative, position_biased_input=False)
    assert longest_text(model) is None
    assert _runs(model, 3 * POSITIONS)
    assert longest_text(_model("deberta-v2", **relative, position_biased_input=True)) == POSITIONS
