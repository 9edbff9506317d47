"""Tuners of peft that are methods by themselves, each with its paper, places and values.

They differ in values alone, so each is a row here and not a file of code: `methods.peft` makes a
class of it. Where a value comes from stands in configs/method/NAME.yaml, which a test holds equal.
`fixed` are options that make the method what it is, and cannot be typed. All that a `linear` one
trains is the weight of a linear layer, by which inputs are multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Targets = Literal["value", "query_value", "attention", "all_linear"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One method: `about` is its docstring, `narrow` are options for a width of 32."""

    name: str
    tuner: str
    about: str
    paper: str
    trains: str
    lr: float = 1e-3
    targets: Targets = "query_value"
    options: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    narrow: Mapping[str, Any] = field(default_factory=dict)
    changes_start: bool = False
    hinders_capture: str = ""
    leaves: str = ""
    other_dropout: bool = False
    divisible: bool = True
    linear: bool = False
    like: str = ""


_LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0}

PRESETS = (
    Preset(
        name="dora",
        tuner="lora",
        about="""DoRA: LoRA on the directions of a matrix's columns, their lengths trained apart.

        Liu et al., ICML 2024 (arXiv 2402.09353), through peft.
        """,
        paper="Liu et al. 2024",
        trains="low-rank updates of directions, and lengths",
        options=_LORA,
        fixed={"use_dora": True},
        like="lora_plus",
    ),
    Preset(
        name="rslora",
        tuner="lora",
        about="""rsLoRA: low-rank updates scaled by α/√r in place of α/r.

        Kalajdzievski, 2023 (arXiv 2312.03732), through peft.
        """,
        paper="Kalajdzievski 2023",
        trains="low-rank updates scaled by α/√r",
        options=_LORA,
        fixed={"use_rslora": True},
        linear=True,
        like="lora_plus",
    ),
    Preset(
        name="pissa",
        tuner="lora",
        about="""PiSSA: LoRA that begins at the largest singular values, and freezes the rest.

        Meng et al., NeurIPS 2024 (arXiv 2404.02948), through peft. The pretrained matrix is
        replaced by what is left of it, so that a delta holds it as well. The start is the
        pretrained model's but for rounding.
        """,
        paper="Meng et al. 2024",
        trains="the matrices' largest singular directions",
        options={"r": 8, "lora_alpha": 8, "lora_dropout": 0.0},
        fixed={"init_lora_weights": "pissa"},
        changes_start=True,
        linear=True,
        like="lora_plus",
    ),
    Preset(
        name="olora",
        tuner="lora",
        about="""OLoRA: LoRA that begins at an orthonormal basis of the matrix, by QR.

        Büyükakyüz, 2024 (arXiv 2406.01775), through peft. The pretrained matrix is replaced by what
        is left of it, so that a delta holds it as well. The start is the pretrained model's but for
        rounding.
        """,
        paper="Büyükakyüz 2024",
        trains="low-rank updates that begin orthonormal",
        options=_LORA,
        fixed={"init_lora_weights": "olora"},
        changes_start=True,
        linear=True,
        like="lora_plus",
    ),
    Preset(
        name="vera",
        tuner="vera",
        about="""VeRA: random projections that all layers share and that stay, scaled by vectors.

        Kopiczko et al., ICLR 2024 (arXiv 2310.11454), through peft. The projections are drawn from
        the run's seed unless `projection_prng_key` is typed.
        """,
        paper="Kopiczko et al. 2024",
        trains="two vectors a matrix, around shared random ones",
        lr=1e-2,
        options={"r": 256, "d_initial": 0.1, "vera_dropout": 0.0},
        narrow={"r": 8},
        like="adalora",
    ),
    Preset(
        name="boft",
        tuner="boft",
        about="""BOFT: a matrix turned by an orthogonal one that is a product of butterfly factors.

        Liu et al., ICLR 2024 (arXiv 2311.06243), through peft. One factor, peft's default, is
        blocks along the diagonal. More need a CUDA extension that peft compiles where it
        can; elsewhere it takes one factor without a word, and a run would be another. So they are
        refused.
        """,
        paper="Liu et al. 2024",
        trains="rotations in blocks, and scales of outputs",
        options={"boft_block_size": 4, "boft_dropout": 0.0},
        hinders_capture="solves equations in each layer, and reads whether they can be solved",
        like="oft",
    ),
    Preset(
        name="oft",
        tuner="oft",
        about="""OFT: a matrix turned by an orthogonal one in blocks, made by Cayley's transform.

        Qiu et al., NeurIPS 2023 (arXiv 2306.07280), through peft, which by default takes five terms
        of a Neumann series for the transform.
        """,
        paper="Qiu et al. 2023",
        trains="block-diagonal rotations",
        options={"oft_block_size": 32, "use_cayley_neumann": True, "module_dropout": 0.0},
        narrow={"oft_block_size": 8},
    ),
    Preset(
        name="hra",
        tuner="hra",
        about="""HRA: a matrix reflected by a chain of Householder reflections.

        Yuan et al., NeurIPS 2024 (arXiv 2405.17484), through peft. Pairs of equal reflections start
        it, which are the identity but for rounding.
        """,
        paper="Yuan et al. 2024",
        trains="Householder reflections",
        options={"r": 8, "apply_GS": False},
        changes_start=True,
        like="oft",
    ),
    Preset(
        name="loha",
        tuner="loha",
        about="""LoHa: an update that is the Hadamard product of two low-rank matrices.

        Hyeon-Woo et al., ICLR 2022 (arXiv 2108.06098), through peft.
        """,
        paper="Hyeon-Woo et al. 2022",
        trains="Hadamard products of low-rank matrices",
        options={"r": 8, "alpha": 8, "rank_dropout": 0.0},
        hinders_capture="makes a tensor of its scale in each layer",
        like="lora_plus",
    ),
    Preset(
        name="lokr",
        tuner="lokr",
        about="""LoKr: an update that is the Kronecker product of a small and a low-rank matrix.

        Yeh et al., ICLR 2024 (arXiv 2309.14859), through peft.
        """,
        paper="Yeh et al. 2024",
        trains="Kronecker products of small matrices",
        options={"r": 8, "alpha": 8, "rank_dropout": 0.0},
        like="lora_plus",
    ),
    Preset(
        name="fourierft",
        tuner="fourierft",
        about="""FourierFT: an update whose discrete Fourier transform has few entries, which train.

        Gao et al., ICML 2024 (arXiv 2405.03003), through peft. The entries start as N(0, 1), so
        that the start is not the pretrained model's. Where they lie is drawn from the run's seed
        unless `random_loc_seed` is typed, and is the same in every matrix.
        """,
        paper="Gao et al. 2024",
        trains="1,000 Fourier coefficients a matrix",
        lr=1e-2,
        options={"n_frequency": 1000, "scaling": 150.0},
        fixed={"init_weights": False},
        narrow={"n_frequency": 16},
        changes_start=True,
        like="adalora",
    ),
    Preset(
        name="vblora",
        tuner="vblora",
        about="""VB-LoRA: LoRA whose matrices are put together from one bank of vectors.

        Li et al., NeurIPS 2024 (arXiv 2405.15179), through peft. Bank and logits start at random,
        so that the start is not quite the pretrained model's. The length of a vector divides both
        sides of every matrix. All logits are kept, not the largest alone, as a saved run goes on.
        """,
        paper="Li et al. 2024",
        trains="a bank of vectors, and which of them are taken",
        hinders_capture="looks for infinite logits in each layer",
        options={"r": 4, "num_vectors": 180, "vector_length": 128, "topk": 2},
        narrow={"num_vectors": 8, "vector_length": 8},
        changes_start=True,
        like="adalora",
    ),
    Preset(
        name="randlora",
        tuner="randlora",
        about="""RandLoRA: a full-rank update, a sum of random low-rank ones that vectors scale.

        Albert et al., ICLR 2025 (arXiv 2502.00987), through peft. The random matrices are drawn
        from the run's seed unless `projection_prng_key` is typed.
        """,
        paper="Albert et al. 2025",
        trains="scales of random low-rank matrices",
        options={"r": 32, "randlora_alpha": 640, "randlora_dropout": 0.0},
        narrow={"r": 4},
        like="adalora",
    ),
    Preset(
        name="shira",
        tuner="shira",
        about="""SHiRA: single entries of a matrix train, as many as a low-rank update has.

        Bhardwaj et al., NeurIPS 2024 (arXiv 2406.13175), through peft, with its random mask. It is
        drawn from the run's seed unless `random_seed` is typed.
        """,
        paper="Bhardwaj et al. 2024",
        trains="entries of a matrix chosen at random",
        hinders_capture="makes a sparse tensor of a matrix's entries",
        options={"r": 32},
        narrow={"r": 2},
        like="adalora",
    ),
    Preset(
        name="road",
        tuner="road",
        about="""RoAd: pairs of a matrix's outputs rotated and scaled in their plane.

        Liao and Monz, NeurIPS 2024 (arXiv 2409.00119), through peft.
        """,
        paper="Liao and Monz 2024",
        trains="angles and scales of pairs of outputs",
        options={"variant": "road_1", "group_size": 64},
        narrow={"group_size": 8},
        like="oft",
    ),
    Preset(
        name="miss",
        tuner="miss",
        about="""MiSS: one small matrix, repeated over shards of the inputs, is the update.

        Kang and Yin, 2024 (arXiv 2409.15371), through peft.
        """,
        paper="Kang and Yin 2024",
        trains="one small matrix, shared by shards",
        options={"r": 64, "miss_dropout": 0.0},
        narrow={"r": 8},
        like="lora_plus",
    ),
    Preset(
        name="beft",
        tuner="beft",
        about="""BEFT: one vector is added to the values of every layer.

        Huang et al., ACL 2026 (arXiv 2509.15974), through peft.
        """,
        paper="Huang et al. 2026",
        trains="vectors added to values",
        targets="value",
        like="oft",
    ),
    Preset(
        name="lily",
        tuner="lily",
        about="""Lily: low-rank updates whose second matrices are experts that layers share.

        Zhong et al., 2024 (arXiv 2407.09946), through peft. A router weighs the experts by the mean
        over all tokens of a batch, padding included: what a text is answered depends on the texts
        beside it.
        """,
        paper="Zhong et al. 2024",
        trains="low-rank updates with shared experts",
        options={"r": 32, "stride_A": 1, "num_B": 2, "scaling": 1.0},
        narrow={"r": 4},
        leaves="leaves a router, which chooses its update by what it is given",
        divisible=False,
        like="lora_plus",
    ),
    Preset(
        name="delora",
        tuner="delora",
        about="""DeLoRA: a low-rank update normalised, so that one number is its strength.

        Bini et al., ICLR 2025 (arXiv 2503.18225), through peft.
        """,
        paper="Bini et al. 2025",
        trains="normalised low-rank updates and their strengths",
        lr=1e-2,
        options={"r": 8, "delora_lambda": 4, "module_dropout": 0.0},
        like="lora_plus",
    ),
)

# Methods whose trained tensors are not all weights of linear layers.
BARE = frozenset({"adalora", "peft"} | {preset.name for preset in PRESETS if not preset.linear})
