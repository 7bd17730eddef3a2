.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install demo test test-faults check bench docs

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed  ## Make .venv with leadstream in it, from the locked requirements

.venv/installed: requirements-dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "leadstream needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $@

demo: install  ## Run a whole campaign on this machine and show what became of it
	$(BIN)/leadstream demo

test: install  ## Run the tests, on a real Kafka
	$(BIN)/pytest -m "not faults and not benchmark"

test-faults: install  ## Run the slow fault-injection tests
	$(BIN)/pytest -m faults

check: install  ## Format, lint, types, import contracts, dead code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture

bench: install  ## Measure, on a real Kafka
	$(BIN)/pytest -m benchmark -s

docs: install  ## Write the generated parts of docs/
	$(BIN)/python -m docs.generate
