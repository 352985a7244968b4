# `make quickstart` and `make test` set up all they need in .venv, also in a fresh checkout.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
TORCH := torch==2.13.0

# The first Python that is new enough; choose another with `make PYTHON=...`.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$python && break; done)

# Several threads in each of several processes only get in each other's way.
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

.DEFAULT_GOAL := help
.PHONY: help quickstart test lint format docs clean

help:
	@echo "make quickstart   pretrain, fine-tune and compare on the shipped elastic moduli"
	@echo "make test         linters, types and all tests"
	@echo "make lint         linters and types only"
	@echo "make format       rewrite the code in the formatter's style"
	@echo "make docs         the pages in docs/_build/html; GALLERY=0 does not run the examples"
	@echo "make clean        remove the virtual environment and caches"

quickstart: $(STAMP)
	$(BIN)/python examples/quickstart.py

test: lint
	$(PYTEST)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

GALLERY ?= 1
docs: $(DOCS_STAMP)
	GALLERY=$(GALLERY) OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

# torch comes first and alone: pip keeps it, where a looser request later on could fetch another build.
$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found; try: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is not a Python >= 3.11; try: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet $(TORCH) -e ".[test,dev]"
	touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet $(TORCH) -e ".[docs]"
	touch $@

clean:
	rm -rf docs/_build docs/api docs/gallery
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
