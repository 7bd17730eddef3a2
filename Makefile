.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# Most tests wait for servers, so that twice as many as there are cores pass at a time.
WORKERS ?= 4
# The others have targets of their own. Slow files come first, so that no worker is left alone with one at the end.
TESTED := contract e2e integration simulation unit
# On Linux the command ends with make, also when make is killed.
WITH_MAKE := exec $(BIN)/python -I -S runtime/child_process.py $$PPID
# What is in .venv, by the contents of the files that it is made from: a checkout of another commit changes only their times.
RUN := .venv/run-$(shell cat requirements.txt requirements-build.txt | cksum | cut -d ' ' -f 1)
OURS := .venv/leadstream-$(shell cksum < pyproject.toml | cut -d ' ' -f 1)
DEV := .venv/dev-$(shell cksum < requirements-dev.txt | cut -d ' ' -f 1)
BENCH := .venv-bench/lock-$(shell cksum < tests/benchmarks/requirements.txt | cut -d ' ' -f 1)
DBT := .venv-dbt/lock-$(shell cksum < tests/dbt/requirements.txt | cut -d ' ' -f 1)
TOOLS := .venv-tools/lock-$(shell cksum < requirements-tools.txt | cut -d ' ' -f 1)

# A run starts hundreds of processes, and each would compile the tree anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test test-unit simulate test-compose test-faults test-observability test-browser test-dbt screenshots chaos test-install check bench docs lock release

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(OURS)  ## Make .venv with leadstream in it, from the locked requirements

demo: install  ## Run a whole campaign on this machine and show what became of it; ARGS=--keep stays up
	$(WITH_MAKE) $(BIN)/leadstream demo $(ARGS)

test: $(DEV)  ## Run the tests, on a real Kafka; WORKERS=N is how many at once
	$(WITH_MAKE) $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --in-memory $(TESTED:%=tests/%)

test-unit: $(DEV)  ## Run the tests that start no server, with few examples for each property
	$(WITH_MAKE) $(BIN)/pytest -n auto --hypothesis-profile quick -m "not slow" tests/unit

test-faults: $(DEV)  ## Run the slow fault-injection tests, and the properties with many examples
	$(WITH_MAKE) $(BIN)/pytest -n auto --hypothesis-profile thorough -m hypothesis tests/unit
	$(WITH_MAKE) $(BIN)/pytest -m faults

chaos: $(DEV)  ## Hurt every part at random under load for an hour; SEED=N repeats a run, MINUTES=N is how long
	$(WITH_MAKE) $(BIN)/python -m tests.faults.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

simulate: $(DEV)  ## Run bad days of all stages in virtual time; SEED=N is the first, RUNS=N is how many, KEEP=NAME makes a test of the plan that fails
	$(WITH_MAKE) $(BIN)/python -m tests.simulation.simulate --seed $(or $(SEED),1) --runs $(or $(RUNS),1) --jobs $(if $(RUNS),2,1) $(if $(KEEP),--keep $(KEEP))

test-compose: $(DEV)  ## Build the image and run the whole stack in containers, where an engine can be had
	$(WITH_MAKE) $(BIN)/pytest -m compose --durations=12 tests/compose

test-observability: $(DEV)  ## Check alerts and dashboards before a real Prometheus, where one is installed
	$(WITH_MAKE) $(BIN)/pytest -m observability tests/observability

test-install: $(DEV)  ## Install as users do: each Python here, the oldest and newest pip, the wheel alone
	$(WITH_MAKE) $(BIN)/pytest -m install

check: $(DEV)  ## Format, lint, types, import contracts, dead code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture

bench: $(DEV) $(BENCH)  ## Measure, on a real Kafka
	$(WITH_MAKE) $(BIN)/pytest -m benchmark -s

test-browser: $(DEV)  ## Look at the console in Chromium, with the data of a demo, where it is installed
	$(WITH_MAKE) $(BIN)/pytest -m browser tests/browser

test-dbt: $(DEV) $(DBT)  ## Run the dbt project of examples/dbt on DuckDB
	$(WITH_MAKE) $(BIN)/pytest -m dbt tests/dbt

screenshots: $(DEV)  ## Write a picture of each page of the console to dist/screenshots
	$(WITH_MAKE) $(BIN)/python -m tests.browser.screenshots dist/screenshots

docs: $(DEV)  ## Write the generated parts of docs/ and observability/
	$(BIN)/python -m docs.generate

lock: $(TOOLS)  ## Write the lock files anew; UPGRADE=--upgrade or UPGRADE="-P NAME" moves versions
	$(COMPILE) pyproject.toml --output-file requirements.txt
	$(COMPILE) pyproject.toml --extra otel --constraints requirements.txt --output-file requirements-otel.txt
	$(COMPILE) --group build --constraints requirements.txt --output-file requirements-build.txt
	$(COMPILE) pyproject.toml --group dev --constraints requirements.txt --constraints requirements-build.txt \
	    --output-file requirements-dev.txt
	$(COMPILE) --group tools --output-file requirements-tools.txt
	@# The contender that is compared carries the same versions, but for those that Quix Streams excludes.
	awk '/^[a-z].*==/ && !/^pydantic/ {print $$1}' requirements.txt > .venv-tools/run-time.txt
	$(COMPILE) tests/benchmarks/requirements.in --constraints .venv-tools/run-time.txt --output-file tests/benchmarks/requirements.txt
	$(COMPILE) tests/dbt/requirements.in --output-file tests/dbt/requirements.txt

release: $(OURS) $(TOOLS)  ## Write wheel, sdist, bill of materials and image to dist/; publish nothing
	rm -rf dist
	$(BIN)/python -m hatchling build
	.venv-tools/bin/python -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible \
	    --output-file dist/leadstream-$(VERSION).cdx.json requirements.txt
	@for engine in docker podman; do \
	    if $$engine info >/dev/null 2>&1; then \
	        $$engine build --tag leadstream:$(VERSION) . && \
	        $$engine save --output dist/leadstream-$(VERSION)-image.tar leadstream:$(VERSION); exit; \
	    fi; \
	done; echo "no image is built: neither docker nor podman answers here"

VERSION = $(shell $(BIN)/python -c 'from importlib.metadata import version; print(version("leadstream"))')

# A lock is installed by requirements-install.sh alone, always into a new environment: what has left a lock leaves too.
INSTALL = sh requirements-install.sh
NEW_VENV = @command -v "$(PYTHON)" >/dev/null || { echo "there is no $(PYTHON): install Python 3.11 or newer" >&2; exit 1; }; \
    "$(PYTHON)" -c "$$CAN_MAKE_VENV" && "$(PYTHON)" -m venv --clear
COMPILE = .venv-tools/bin/uv pip compile --no-config --quiet --no-header --universal --python-version 3.11 \
    --generate-hashes $(UPGRADE)

define CAN_MAKE_VENV
import sys
if sys.version_info < (3, 11):
    sys.exit("leadstream needs Python 3.11 or newer, this is %d.%d: name a newer one, as in make PYTHON=python3.13" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError:
    sys.exit("this Python cannot make virtual environments: on Debian and Ubuntu, apt install python3-venv")
endef
export CAN_MAKE_VENV

$(RUN):
	$(NEW_VENV) .venv
	$(INSTALL) $(BIN)/python requirements.txt requirements-build.txt
	@touch $@

$(OURS): $(RUN)
	@rm -f .venv/leadstream-*
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@# Python 3.11 reads this file in the locale's encoding, which need not have every letter of an absolute path.
	@cd .venv/lib/*/site-packages && echo ../../../.. > _editable_impl_leadstream.pth
	$(BIN)/python -m pip check
	@touch $@

$(DEV): $(RUN) | $(OURS)
	@! ls .venv/dev-* >/dev/null 2>&1 || $(MAKE) --always-make $(OURS)
	$(INSTALL) $(BIN)/python requirements-dev.txt
	@touch $@

$(BENCH):
	$(NEW_VENV) .venv-bench
	$(INSTALL) .venv-bench/bin/python tests/benchmarks/requirements.txt
	@touch $@

$(DBT):
	$(NEW_VENV) .venv-dbt
	$(INSTALL) .venv-dbt/bin/python tests/dbt/requirements.txt
	@touch $@

$(TOOLS):
	$(NEW_VENV) .venv-tools
	$(INSTALL) .venv-tools/bin/python requirements-tools.txt
	@touch $@
