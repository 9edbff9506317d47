"""peft's tuners as methods: each computes what peft's own model does, or is refused by name."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.optimizers import create_loraplus_optimizer

from methods.adalora import Adalora
from methods.lora_plus import LoraPlus
from methods.method import Method
from methods.registry import composition_problems, method_class
from methods.surgery import peft_files
from methods.surgery.presets import PRESETS
from results.errors import UserError
from runners.contract.guard import AS_ON_A_GPU, hindrances
from runners.contract.parts import prepared, typed
from runners.exports.delta import load_delta, save_delta
from runners.exports.model import plain_model
from runners.jobs.job import Job
from tests.conftest import SOAK, Cli, configure, narrow, tiny
from tests.shapes import BERT_BASE, added, perturb_trained, setting_of
from tests.tiny import ARCHITECTURES, tiny_batch, tiny_model

Folder = Callable[[str], Path]
ROWS = {preset.name: preset for preset in PRESETS}
OWN = [*ROWS, "adalora", "lora_plus"]
# Tuners that are no method of their own, with options that fit a width of 32.
OTHERS: Mapping[str, Mapping[str, Any]] = {
    "adamss": {"r": 8},
    "c3a": {"block_size": 8},
    "deft": {},
    "frod": {"progressbar": False},
    "glora": {},
    "gralora": {},
    "hira": {},
    "osf": {},
    "peanut": {},
    "psoft": {"r": 8},
    "pvera": {"r": 8},
    "supertuning": {},
    "tinylora": {},
    "unilora": {},
    "waveft": {"n_frequency": 16},
}
START_ELSEWHERE = {"c3a", "frod", "osf", "unilora"}  # of OTHERS; those of ROWS say it themselves
SOME = ["vera", "oft"]
# Every tuner on every architecture, each of these once a day.
PLACED = [(n, a) for a in ARCHITECTURES for n in (*OWN, *OTHERS)]
if not SOAK:
    PLACED = [
        *(("vera", "deberta-v2"), ("oft", "albert"), ("hra", "distilbert"), ("lokr", "modernbert")),
        *(("vera", "t5"), ("oft", "mpnet"), ("dora", "xlnet"), ("beft", "modernbert")),
    ]


def _typed(name: str) -> list[str]:
    """Return the arguments that choose a method, or a tuner that is none."""
    if name in OTHERS:
        return ["method=peft", *typed("peft", {"tuner": name, "options": OTHERS[name]})]
    return narrow(name)


def _each(names: list[str], daily: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", names if SOAK else daily)


def test_what_is_read_of_pefts_files_is_what_peft_says() -> None:
    """Without importing it: every tuner, and every option of each."""
    import dataclasses

    registered = {kind.value.lower(): cls for kind, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    assert set(peft_files.tuners()) == set(registered)
    for name, cls in registered.items():
        assert set(peft_files.options(name)) == {field.name for field in dataclasses.fields(cls)}


def test_every_tuner_is_a_method_or_refused_or_tried_below() -> None:
    tried = {preset.tuner for preset in PRESETS} | {"lora", *OTHERS}
    assert set(peft_files.tuners()) == tried | set(peft_files.REFUSED) | set(peft_files.OWN)
    assert not tried & (set(peft_files.REFUSED) | set(peft_files.OWN))


@pytest.mark.parametrize("name", [*peft_files.REFUSED, *peft_files.OWN])
def test_tuners_that_cannot_be_are_refused_before_anything_is_loaded(name: str) -> None:
    why = peft_files.REFUSED.get(name) or f"type method={peft_files.OWN[name]}"
    [said] = method_class("peft")(tuner=name).problems()
    assert said.startswith(f"method.peft.tuner={name}: ")
    assert why in said
    if name in peft_files.OWN:
        method_class(peft_files.OWN[name])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["method=peft", "method.peft.tuner=ver"], r"tuner=ver: .*did you mean vera\?"),
        (["method=vera", "method.vera.options.d_inital=1"], r"d_inital'; did you mean d_initial\?"),
        (["method=vera", "method.vera.option.r=1"], "no key called 'method.vera.option.r'"),
        (["method=dora", "method.dora.options.r=x"], r"method.dora.options.r='x': .*integer"),
        (["method=dora", "method.dora.options.use_dora=false"], "what makes it dora"),
        (["method=peft", "method.peft.options.target_modules=[a]"], "set by `targets`"),
        (["method=peft", "method.peft.options.init_lora_weights=eva"], "needs more inputs"),
        (["method=boft", "method.boft.options.boft_n_butterfly_factor=2"], "a CUDA extension"),
        (["method=loha", "method.loha.options.module_dropout=0.1"], "drawn on the host"),
        (["method=adalora", "method.adalora.options.target_r=12"], "must be below init_r=12"),
        (["method=adalora", "method.adalora.options.r=4"], "type init_r and target_r"),
        (["method=adalora", "method.adalora.final=0.9"], "their sum must be < 1"),
        (["method=adalora", "method.adalora.options.tfinal=9"], "is set by `final`"),
        (["method=[dora,lora]"], "dora and lora both choose which parameters train"),
        (["method=[vera,oft]"], "vera and oft both choose which parameters train"),
        (["method=[dp,oft]", "task=rte"], "oft trains more than what linear layers multiply by"),
    ],
)
def test_wrong_options_are_one_line(arguments: list[str], said: str, cli: Cli) -> None:
    done = cli("data=embedded", "task=rte", *arguments)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert re.search(said, done.err), done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["method=dora", "method.dora.options.r=33"], r"options\.r=33 is above 32"),
        (["method=adalora", "method.adalora.options.init_r=40"], r"options\.init_r=40 is above 32"),
        (["method=road"], "method=road: peft refuses it on this model: .*group_size"),
    ],
)
def test_what_a_model_has_no_room_for_is_one_line(
    arguments: list[str], said: str, cli: Cli, tiny_folder: Folder
) -> None:
    done = cli(*tiny(tiny_folder("bert"), "task=rte", *arguments))
    assert done.code == 2
    assert re.search(f"^error: .*{said}", done.err, re.MULTILINE), done.err


def test_without_peft_its_methods_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peft_files, "tuners", dict)
    for name in ("peft", "dora", "adalora", "lora_plus"):
        assert (
            "needs the package peft, which is not installed" in method_class(name)().problems()[0]
        )


def test_a_tuners_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Folder
) -> None:
    def missing(*given: Any) -> None:
        raise ImportError("No module named 'pywt'")

    monkeypatch.setitem(peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING, peft.PeftType.ROAD, missing)
    model = tiny_model(tiny_folder("bert"))
    with pytest.raises(UserError, match=r"method=road: .*not installed \(No module named 'pywt'\)"):
        method_class("road")().prepare(model, setting_of(model))


def test_options_given_in_part_keep_the_others() -> None:
    """From Python, too, where nothing merges them with a file's."""
    from runners.config.check import build_method

    method: Any = build_method(method_class("dora"), {"options": {"r": 4}})
    assert method.options == {"r": 4, "lora_alpha": 16, "lora_dropout": 0.0}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dora", 294_912 + 12 * 2 * 768),
        ("vera", 12 * 2 * (768 + 256)),
        ("oft", 12 * 2 * (768 // 32) * (32 * 31 // 2)),
        ("hra", 12 * 2 * 8 * 768),
        ("fourierft", 12 * 2 * 1000),
        ("beft", 9_216),
        ("adalora", 12 * (3 * 12 * (768 + 768 + 1) + 2 * 12 * (768 + 3072 + 1))),
    ],
)
def test_counts_are_the_arithmetic_of_the_papers(name: str, expected: int) -> None:
    assert added(BERT_BASE, method_class(name)()) == expected


@_each([*OWN, *OTHERS], ["adalora", *SOME, "hira"])
def test_a_delta_is_pefts_and_gives_the_same_logits(
    name: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    """Saved and loaded, by peft alone, and as a whole model where its layers can be merged."""
    folder = tiny_folder("bert")
    config = configure(*tiny(folder, *_typed(name), "task=mrpc", "speed.first_token=false"))
    loop, loaded = prepared(config)
    loop.run(2)
    perturb_trained(loop.model)
    model, batch = loop.model.eval(), tiny_batch(folder)
    del batch["labels"]  # at which peft's AdaLoRA asks for what only training has
    with torch.no_grad():
        expected = model(**batch).logits
        save_delta(tmp_path / "delta", model, loaded.head, Job(config))
        ours = load_delta(tmp_path / "delta").loaded.model
        assert torch.equal(ours(**batch).logits, expected)
        assert not torch.allclose(tiny_model(folder)(**batch).logits, expected, atol=1e-4)
        if name in ("pissa", "olora"):
            assert (tmp_path / "delta" / "delta.safetensors").is_file()  # of matrices, too
        else:
            theirs = peft.PeftModel.from_pretrained(tiny_model(folder), tmp_path / "delta").eval()
            assert torch.allclose(theirs(**batch).logits, expected, atol=1e-6)
        if name != "lily":
            merged = plain_model(model, config)
            assert torch.allclose(merged(**batch).logits, expected, atol=1e-6)
            assert torch.equal(model(**batch).logits, expected)  # which merging left as it was


@pytest.mark.parametrize(("name", "architecture"), PLACED)
def test_a_tuner_moves_its_own_on_each_architecture_or_is_refused(
    name: str, architecture: str, tiny_folder: Folder
) -> None:
    given = tiny(tiny_folder(architecture), *_typed(name), "task=rte", "budget.warmup=0")
    if (name, architecture) == ("beft", "modernbert") or architecture == "xlnet":
        with pytest.raises(UserError, match=r"queries, keys and values( from bare parameters)?$"):
            prepared(configure(*given))
        return
    loop, loaded = prepared(configure(*given))
    before = {n: p.detach().clone() for n, p in loop.model.named_parameters()}
    trains = {n for n, p in loop.model.named_parameters() if p.requires_grad}
    loop.run(1)
    moved = {n for n, p in loop.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved <= trains
    assert moved - loaded.head
    layers = "|".join(("layer", "layers", "albert_layers", "block"))
    assert all(re.search(rf"\.({layers})\.\d", n) for n in trains - loaded.head)


@_each(list(OTHERS), ["hira"])
def test_other_tuners_start_and_are_captured_as_they_say(name: str, tiny_folder: Folder) -> None:
    """Their own random stream, the pretrained model's start, and CUDA graphs."""
    folder = tiny_folder("bert")
    config = configure(*tiny(folder, *_typed(name), "task=mrpc", *AS_ON_A_GPU))
    torch.manual_seed(5)
    expected = torch.get_rng_state()
    model = tiny_model(folder)
    torch.set_rng_state(expected)
    batch, [method] = tiny_batch(folder), config.methods
    with torch.no_grad():
        start = model(**batch).logits
        method.prepare(model, setting_of(model))
        assert torch.equal(torch.get_rng_state(), expected)
        assert torch.equal(model(**batch).logits, start) == (name not in START_ELSEWHERE)
    loop, _ = prepared(config)
    shown = hindrances(loop, loop.batch(next(iter(loop.order.batches(0, 1)))))
    assert bool(shown) == bool(method.hinders_capture), shown


@pytest.mark.parametrize(
    ("name", "key"),
    [("vera", "projection_prng_key"), ("fourierft", "random_loc_seed"), ("shira", "random_seed")],
)
def test_what_is_frozen_is_drawn_from_the_runs_seed_unless_its_key_is_typed(
    name: str, key: str, tiny_folder: Folder
) -> None:
    folder, drawn = tiny_folder("bert"), []
    for more in (["seed=1"], ["seed=1"], ["seed=2"], ["seed=1", f"method.{name}.options.{key}=7"]):
        config = configure(*tiny(folder, *narrow(name), "task=rte", *more))
        prepared(config)
        [method] = config.methods
        drawn.append(getattr(method.peft_config(), key))
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[3] == 7


def test_what_fourierft_keeps_moves_with_the_model(tiny_folder: Folder) -> None:
    """A copy from the host in each pass, as peft makes it, could not be captured on a GPU."""
    model = tiny_model(tiny_folder("bert"))
    method_class("fourierft")(options={"n_frequency": 16}).prepare(model, setting_of(model))
    places = {n: b for n, b in model.named_buffers() if ".indices." in n}
    assert len(places) == 4
    assert not set(places) & set(model.state_dict())


def test_adalora_takes_the_steps_of_pefts_own_loop(tiny_folder: Folder) -> None:
    """Its loss with the penalty, and its call after each step, as peft documents them."""
    folder, steps = tiny_folder("bert"), 10
    method = Adalora(options={"init_r": 4, "target_r": 2}, final=0.3)
    ours: Any = tiny_model(folder)
    setting = setting_of(ours)
    method.prepare(ours, _with_steps(setting, steps))
    theirs = peft.get_peft_model(tiny_model(folder), copy.deepcopy(method.wrapped.config)).eval()
    names = dict(ours.named_parameters())
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(names[_ours(name)])
    batch = tiny_batch(folder)
    trained = [[p for p in m.parameters() if p.requires_grad] for m in (ours, theirs)]
    optimizers = [torch.optim.SGD(parameters, lr=0.5) for parameters in trained]
    for step in range(steps):
        ours(**batch).loss.backward()
        method.after_backward(ours, step)
        theirs(**batch).loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        method.after_step(ours, step)
        theirs.base_model.update_and_allocate(step)
        for optimizer in optimizers:
            optimizer.zero_grad()
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            assert torch.allclose(parameter, names[_ours(name)], atol=1e-6), name
    taken = [int((p == 0).sum()) for n, p in ours.named_parameters() if "lora_E" in n]
    assert sum(taken) == len(taken) * 2  # of four ranks each, two are left in the mean
    assert method.report() == {"ranks_left": len(taken) * 2}


def _with_steps(setting: Any, steps: int) -> Any:
    import dataclasses

    return dataclasses.replace(setting, total_steps=steps)


def _ours(name: str) -> str:
    short = name.removeprefix("base_model.model.")
    return short.replace("modules_to_save.default.", "")


def test_lora_plus_has_the_rates_of_pefts_optimizer(tiny_folder: Folder) -> None:
    model = tiny_model(tiny_folder("bert"))
    method = LoraPlus(ratio=16)
    method.prepare(model, setting_of(model))
    theirs = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16)
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = method.parameter_groups(model, [{"params": trained, "lr": 1e-3, "weight_decay": 0.1}])

    def rates(of: Any) -> dict[int, float]:
        return {id(p): group["lr"] for group in of for p in group["params"]}

    assert rates(groups) == rates(theirs.param_groups)
    assert len(set(rates(groups).values())) == 2
    assert {group["weight_decay"] for group in groups} == {0.1}


def test_lily_answers_a_text_by_those_beside_it_and_is_computed_whole(tiny_folder: Folder) -> None:
    """So its last layer is not narrowed to the first token, and a batch is not done in parts."""
    from runners.speed.first_token import narrowed

    folder = tiny_folder("bert")
    loop, _ = prepared(configure(*tiny(folder, *narrow("lily"), "task=rte")))
    assert not narrowed(loop.model)
    assert not method_class("lily")().divisible
    perturb_trained(loop.model)
    batch = tiny_batch(folder)
    with torch.no_grad():
        together = loop.model.eval()(**batch).logits[:1]
        alone = loop.model(**{k: v[:1] for k, v in batch.items()}).logits
    assert not torch.allclose(together, alone, atol=1e-5)


def test_any_two_rows_of_pefts_are_refused_together() -> None:
    names = [*OWN, "peft", "lora", "ia3", "prefix", "prompt", "ln_tuning"]
    methods: list[Method] = [method_class(name)() for name in names]
    problems = composition_problems(methods)
    pairs = len(names) * (len(names) - 1) // 2
    assert sum("both choose which parameters train" in problem for problem in problems) == pairs


def test_a_preset_is_its_own_row_and_the_tuner_by_its_name_another(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    typed_as = (
        ["method=dora", "method.dora.options.r=4"],
        ["method=dora", "method.dora.options.r=8"],
        ["method=dora"],
        ["method=peft", "method.peft.options.use_dora=true"],
        ["method=peft", "method.peft.options={use_dora: true}"],
    )
    names = [Job(configure(*tiny(folder, "task=rte", *given))).name for given in typed_as]
    assert names[0] != names[1] == names[2]
    assert names[3] == names[4]
    assert [name.split(".")[1] for name in names] == ["dora", "dora", "dora", "peft", "peft"]
