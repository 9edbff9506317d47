# The project's vocabulary. Every target sets up .venv first if it is not there.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: setup demo test check lint smoke bench gpu-check gpu-pack soak tables clean

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tunebench needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# The main job. HF_HUB_OFFLINE keeps it at the embedded data, the same on every machine and done in a minute.
demo: setup
	HF_HUB_OFFLINE=1 $(RUN) run.py method=bitfit task=sst2

# One process a core, each with one thread: two that share both cores slow each other down.
test: setup
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 4 --dist worksteal

lint: setup
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

check: lint test

# Every method, and compositions, in a few steps each; the scores say nothing. The packaged encoder has no
# head that predicts tokens, so mlm_prompt draws one.
VECTORS = embedding,promptbert,simcse
COMPOSED = [hype,bitfit],[rdrop,lora],[child_tuning_d,adapter],[child_tuning_f,ln_tuning],[mixout,llrd],[smart,ia3],[sift,compacter],[noisytune,wd_pre],[pats_provisional,topk],[hype,rdrop,reinit],[sam,dora],[ema,neftune,bitfit],[label_smoothing,recadam],[attention_pool,vera]
COMPOSED_VECTORS = [hype,promptbert],[bitfit,promptbert],[lora,simcse]
smoke: setup
	out=$$(mktemp -d); small="budget=smoke data.eval_size=40 own_process=false out=$$out"; export HF_HUB_OFFLINE=1; \
	$(RUN) run.py -m $$small task=rte 'method=glob(*,exclude=[$(VECTORS),attributes,mlm_prompt,unimc])' && \
	$(RUN) run.py $$small task=rte method=mlm_prompt method.mlm_prompt.head=any && \
	$(RUN) run.py $$small task=rte method=unimc method.unimc.head=any && \
	$(RUN) run.py $$small task=tastes method=attributes && \
	$(RUN) run.py -m $$small task=rte 'method=$(COMPOSED)' && \
	$(RUN) run.py -m $$small task=sts 'method=$(VECTORS),$(COMPOSED_VECTORS)' && \
	$(RUN) -m results --split $$out

# Ours against transformers' Trainer, side by side on real data; hours for all, see tests/benchmarks.
bench: setup
	$(RUN) -m tests.benchmarks.bench $(WORK)
	$(if $(WORK),,$(RUN) -m tests.benchmarks.overhead)

# On a machine with a GPU: tests, ours against the Trainer, 72 runs of a board, one table, in at most eight minutes;
# the same command goes on. Wheels and weights may come from folders, as on a machine without a network.
GPU_RUN = $(if $(wildcard $(RUN)),$(RUN),$(PYTHON))
gpu-check:
	$(if $(WHEELS),$(GPU_RUN) -m pip install --quiet --no-index --no-deps --upgrade --target outputs/site $(WHEELS)/*.whl)
	PYTHONPATH=$(abspath outputs/site):$(abspath $(WEIGHTS)):$$PYTHONPATH $(GPU_RUN) -m tests.gpu.check $(if $(DATA),--data-dir $(DATA)) $(CHECK)

# All that such a machine needs, in parts of at most PART MiB, in outputs/gpu-pack.
PART ?= 60
gpu-pack: setup
	$(RUN) -m tests.gpu.pack $(PART)

# Runs of every kind killed at seven times as many moments, every pair of methods, all of peft's tuners in
# every way in which each kind of method is tested, Ray's workers killed,
# the benchmarks' peer, fuzzers with ten times the examples, then a quarter of an
# hour of random kills, duplicates, stopped owners, removed folders and bad files against boards, and
# an audit.
soak: setup
	TUNEBENCH_SOAK=1 KILLS=20 OMP_NUM_THREADS=1 $(RUN) -m pytest --timeout 3600 tests/runners/training/test_checkpoint.py tests/runners/test_launchers.py tests/benchmarks/test_baseline.py tests/methods/test_pairs.py -k "random_moments or killed_worker or ray_cluster or submitit or trainer_scores or every_pair"
	TUNEBENCH_SOAK=1 OMP_NUM_THREADS=1 $(RUN) -m pytest --timeout 3600 tests/methods/test_contract.py tests/methods/test_peft.py tests/runners/models/test_architectures.py tests/runners/speed tests/runners/exports/test_model.py tests/runners/training/test_method_trainer.py tests/runners/tasks/test_masked_lm.py tests/runners/tasks/test_mixture.py
	TUNEBENCH_FUZZ=5000 OMP_NUM_THREADS=1 $(RUN) -m pytest tests/test_fuzz.py --timeout 3600
	$(RUN) -m tests.soak

# The boards' pages, the tables of results/runs, of the front page and of the methods, written where they are shown.
tables: setup
	$(RUN) -m results boards results/runs
	$(RUN) -m results results/runs --split --brief --format md --into docs/tables.md
	$(RUN) -m results front --board low1k --into README.md
	$(RUN) -m runners.catalogue --into docs/methods.md

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
