# `make help` lists what there is. Everything runs in .venv, from hash-pinned packages.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
# Threads that wait give way, after a fraction of a millisecond: with other load on the machine, spinning as long as GNU's
# OpenMP does makes a step several times slower, and not spinning at all makes views twice as slow without it.
export OMP_WAIT_POLICY ?= passive
export GOMP_SPINCOUNT ?= 10000
# A shell may forbid bytecode: then every stage and every test would compile this project, and torch, anew.
unexport PYTHONDONTWRITEBYTECODE
UV_COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --no-annotate --extra dev pyproject.toml
# Releases of uv write the same marker in different ways: names and versions are what has to agree.
PINS := grep -oE '^[^ ]+==[^ ;]+'
CYCLONEDX := 7.5.0
BANDIT := 1.9.4
PIP_AUDIT := 2.10.1
PIP_LICENSES := 5.5.5
COVERAGE := 7.17.5
COVERED := 92
SBOM := uv tool run --from 'cyclonedx-bom==$(CYCLONEDX)' cyclonedx-py requirements requirements.lock \
	  --pyproject pyproject.toml --output-format JSON --output-file build/sbom.cdx.json
# Tests side by side, one thread each. A file stays in one process, since its tests share what is costly to make.
JOBS ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || sysctl -n hw.ncpu)
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
SIDE_BY_SIDE := -n $(JOBS) --dist loadfile --no-loadscope-reorder
PYTEST := $(ONE_THREAD) python -m pytest $(SIDE_BY_SIDE)
# CPU=1: PyTorch's builds without CUDA, gigabytes smaller. They are other files than those of the lock, so that their
# hashes, which it does not have, go unchecked; those of all other packages are checked.
INSTALL := uv pip install --compile-bytecode $(if $(CPU),--no-deps --torch-backend cpu -r $(VENV)/cpu.lock,--require-hashes -r requirements.lock)
WITHOUT_CUDA := /^[a-z0-9]/ {cuda = /^(nvidia-[^m]|cuda-|triton==)/; bare = /^torch(vision)?==/} \
	bare {sub(/ *\\$$/, "")} cuda || (bare && /--hash/) {next} {print}

.PHONY: help setup demo test test-fast test-times test-machines check docs lock preset status experiments folds repeat compare tutorial papers bundle results dist coverage mutants security verify clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.ready  ## make .venv and install everything; CPU=1 takes a PyTorch without CUDA

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and f"error: got Python {v[0]}.{v[1]}; expected 3.11 to 3.13; run `make PYTHON=python3.12 …`")'
	@if command -v uv >/dev/null; then test -x $(BIN)/python || uv venv --quiet --python $(PYTHON) $(VENV); \
	else test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV); $(BIN)/python -m pip install --quiet uv; fi
	@$(if $(CPU),awk '$(WITHOUT_CUDA)' requirements.lock >$(VENV)/cpu.lock)
	$(INSTALL)
	uv pip install --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup  ## run the pipeline on the embedded phantom and print the report's path
	dvc repro
	@echo "report: $(CURDIR)/report/index.html"

test: setup  ## run every test
	$(PYTEST)

test-fast: setup  ## run the tests but those that start many processes, train, drive a browser or take seconds
	$(PYTEST) -m "not slow"

test-times: setup  ## run every test and print the seconds of each folder of tests
	$(ONE_THREAD) python benchmarks/tests.py $(SIDE_BY_SIDE) $(ARGS)

test-machines: setup  ## run every test as other CPUs would: narrower vectors, one and two threads (about three times as long)
	python tests/machines.py $(ARGS)

check: setup  ## lint, types, spelling, and that the lock file fits pyproject.toml
	ruff check .
	ruff format --check .
	mypy
	codespell
	@fresh=$$(mktemp) && cp requirements.lock $$fresh && $(UV_COMPILE) --output-file $$fresh && \
	diff <($(PINS) requirements.lock) <($(PINS) $$fresh) >&2 || \
	{ echo 'error: requirements.lock does not fit pyproject.toml; run `make lock`' >&2; exit 1; }

docs: setup  ## build the documentation into site/
	mkdocs build --quiet
	@echo "documentation: $(CURDIR)/site/index.html"

lock: setup  ## pin the whole tree of requirements again
	$(UV_COMPILE) --upgrade --output-file requirements.lock

preset: setup  ## make a preset the current experiment: make preset NAME=sartaj (without NAME, they are listed)
	@tumorxai preset $(NAME)

status: setup  ## what `dvc repro` would run, after a look at sources, code and packages
	@dvc repro --quiet inputs
	@dvc status

experiments: setup  ## one row an experiment: the main scores that differ, and why
	@dvc exp show --only-changed --drop "data/.*|models/.*|details|plots|.*(_low|_high|f1|auroc|calibration_error|balanced_accuracy|rank|blob)"

# In copies of the folder, which keeps its own parameters and results; ARGS as for `dvc exp run`: ARGS="-S method=byol".
folds: setup  ## every fold of a cross-validation, and the leaderboard, which pools them: make folds FOLDS=5 ARGS=…
	@for fold in $$(seq 0 $$(($(or $(FOLDS),5) - 1))); do \
	dvc exp run --temp -S split.folds=$(or $(FOLDS),5) -S split.fold=$$fold $(ARGS) || exit 1; done
	tumorxai compare

repeat: setup  ## the same with other seeds, and the leaderboard, which has their spread: make repeat SEEDS="0 1 2" ARGS=…
	@for seed in $(or $(SEEDS),0 1 2); do dvc exp run --temp -S seed=$$seed $(ARGS) || exit 1; done
	tumorxai compare

tutorial: setup  ## run the commands of docs/tutorial.md, from top to bottom, in a copy of the project
	@python -m tests.tutorial

compare: setup  ## a leaderboard of all experiments and commits, with paired tests
	tumorxai compare

papers: setup  ## rerun the papers' recipes and write their results: make papers [PAPER=firildak]
	@for paper in $(or $(PAPER),$(basename $(notdir $(wildcard papers/*.yaml)))); do python -m tumorxai.tools.papers $$paper || exit 1; done

bundle: setup  ## a folder that runs without network and DVC: make bundle OUT=build/bundle PAPER=firildak, or ARGS="-S seed=0,1"
	python -m tumorxai.tools.offline.bundle $(or $(OUT),build/bundle) $(if $(PAPER),--paper $(PAPER)) $(ARGS)

results: setup  ## write every page of results/ and the README's table from results/*.json
	python -m tumorxai.tools.results

dist: setup  ## build wheel and sdist into dist/, and build/sbom.cdx.json, the components that requirements.lock names
	rm -rf dist && mkdir -p build
	python -m hatchling build -d dist
	$(SBOM)

coverage: setup  ## run every test and demand that they run 92% of the lines of src; the table is in build/coverage.txt
	mkdir -p build/coverage
	uv pip install --quiet --target build/coverage 'coverage==$(COVERAGE)'
	echo 'import coverage; coverage.process_startup()' >build/coverage/sitecustomize.py
	printf '[run]\nsource = $(CURDIR)/src\nparallel = true\ndata_file = $(CURDIR)/build/coverage/data\n' >build/coverage/rc
	COVERAGE_PROCESS_START=$(CURDIR)/build/coverage/rc PYTHONPATH=$(CURDIR)/build/coverage $(PYTEST) $(ARGS)
	cd build/coverage && python -m coverage combine --quiet --rcfile=rc
	cd build/coverage && python -m coverage report --rcfile=rc --fail-under=$(COVERED) >../coverage.txt; \
	status=$$?; tail -1 ../coverage.txt; exit $$status

mutants: setup  ## change groups, split, statistics and audit in small ways and demand that the tests notice 85% (hours)
	$(ONE_THREAD) python -m benchmarks.mutants $(ARGS)

security: setup  ## static analysis, known weaknesses (asks an index), licences and components, in build/
	mkdir -p build
	ruff check --select S src stages
	uv tool run --from 'bandit==$(BANDIT)' bandit --quiet --recursive --severity-level medium src stages
	uv tool run --from 'pip-licenses==$(PIP_LICENSES)' pip-licenses --python $(BIN)/python --format json --with-urls \
	  --output-file build/licences.json
	$(SBOM)
	uv tool run --from 'pip-audit==$(PIP_AUDIT)' pip-audit --requirement requirements.lock --disable-pip --require-hashes --strict

verify: setup  ## are the outputs what dvc.lock records, byte for byte, and the metrics within the committed ones?
	tumorxai doctor --verify

clean:  ## remove what the pipeline and the tools made (not DVC's cache)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .tumorxai build dist site
