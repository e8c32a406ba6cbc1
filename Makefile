# `make demo` and `make test` are all the set-up there is; `make check` is what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types install recompile clean

help:  ## list these targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

# The stamp is newer than what it was made from, so a second run installs nothing.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"Gossamer needs Python 3.11 or newer, this is {sys.version.split()[0]}; run: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

install: $(STAMP)  ## create .venv and install Gossamer with the pinned versions

demo: $(STAMP)  ## train dense and sparse networks on the bundled digits and show the result
	$(BIN)/gossamer compare --data digits --methods dense,static,set,rigl --sparsity 0.95 --seeds 3 --out runs/demo --overwrite

test: $(STAMP)  ## the whole test suite
	$(BIN)/python -m pytest -n 2

format: $(STAMP)  ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types test  ## format, lint, types, tests: exactly what CI runs

recompile:  ## forget the compiled kernels, as is needed after an edit in src/gossamer/kernels
	find src benchmarks -name '*.nb[ic]' -delete

clean:  ## remove the environment and every cache
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
