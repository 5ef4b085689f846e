# `make` or `make help` says what there is. Everything works from a fresh clone on Debian or Ubuntu with Python >= 3.11.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help
help:  ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

# The environment ----------------------------------------------------------------------------------------------------

$(VENV)/.ready: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ostler needs Python 3.11 or newer; say make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(VENV)/.ready  ## Make .venv with the locked dependencies; .venv/bin/ostler is the command

.PHONY: packages
packages:  ## Install the Debian packages that the tests need (as root; says which otherwise)
	@scripts/packages

.PHONY: lock
lock: setup  ## Renew the locked dependencies (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -q \
	  pyproject.toml --extra hyperscan --group dev -o requirements-dev.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -q \
	  pyproject.toml -c requirements-dev.lock -o requirements.lock

# Running ------------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: setup  ## A whole fleet on this machine: from power-on to production, then an hour of faults (HEADLESS=1 for no console)
	$(BIN)/ostler demo $(if $(HEADLESS),--headless)

.PHONY: serve
serve: setup  ## The control plane on SQLite, on 127.0.0.1:8470
	$(BIN)/ostler serve

# Checking -----------------------------------------------------------------------------------------------------------

.PHONY: lint
lint: setup  ## ruff, mypy --strict, import-linter, generated files
	$(BIN)/ruff check src tests bench scripts
	$(BIN)/ruff format --check src tests bench scripts
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m scripts.generate --check

.PHONY: fast
fast: setup  ## The tests that touch nothing, under a minute
	$(BIN)/pytest tests/unit -n auto

.PHONY: test
test: setup packages  ## Every test, with the real components
	$(BIN)/pytest tests -n 2 --dist loadgroup

.PHONY: torch
torch: setup  ## Install PyTorch, for the checks that compute on GPUs and their tests
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-gpu.txt

.PHONY: test-gpu
test-gpu: $(if $(GPU_PYTHON),,torch)  ## The GPU checks on this machine's GPUs, with their figures (GPU_PYTHON=… uses that PyTorch)
	PYTHONPATH=src $(or $(GPU_PYTHON),$(BIN)/python) -m pytest tests/gpu -s -rs -o addopts= -o filterwarnings=default \
	  --import-mode=importlib --confcutdir=tests/gpu

.PHONY: proof
proof: setup packages  ## The long campaigns: hundreds of kill points, fuzzing; prints what they did
	$(BIN)/python -m scripts.proof

.PHONY: bench
bench: setup  ## The benchmarks, quick; each prints one JSON document last
	@for name in scan agent twin fleet bmc decide fabric; do echo "== $$name" >&2; $(BIN)/python -m bench.$$name --quick | tail -n 1; done

.PHONY: generate
generate: setup  ## Renew what is generated from the code: diagram, OpenAPI, first migration
	$(BIN)/python -m scripts.generate

.PHONY: clean
clean:  ## Remove everything that was made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache
