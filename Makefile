# Every target works from a fresh clone: each makes the environment first if needed.
SHELL := /bin/bash
.DEFAULT_GOAL := help
UV_VERSION := 0.13.9
BIN := .venv/bin
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
  --no-emit-index-url pyproject.toml
SERVICES_EXTRAS := api dashboards indexer notifier producer train
FLINK_EXTRAS := $(SERVICES_EXTRAS) devstack flink plots
export UV_PYTHON_DOWNLOADS := never

# A test target may get arguments: make test T="tests/unit -k codec". With RUNS=3 it runs three times
# and prints the median of its seconds.
T ?=
RUNS ?= 1
# All of them: first side by side those that need no server, then in turn those that do and the long ones.
IN_PARALLEL := -m "not flink and not service and not slow" -n logical --maxprocesses 8 --dist worksteal
IN_TURN := -m "flink or service or slow" --durations 20
ALL = sh -c '$(BIN)/python -m pytest $(IN_PARALLEL); first=$$?; $(BIN)/python -m pytest $(IN_TURN) && exit $$first'
# Without compiled files each of the hundreds of processes that tests start would compile its imports.
test test-fast: export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/.ready  ## Make .venv with the project in it

.venv/.ready: pyproject.toml requirements.lock Makefile
	@python=""; for candidate in python3.11 python3.12 python3; do \
	  if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; \
	  then python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then echo "fraudstream: no Python 3.11 or 3.12 found; install one of them (with venv) and run this again" >&2; exit 1; fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then echo "fraudstream: $$python has no venv module; install it (on Debian and Ubuntu: the package python3-venv) and run this again" >&2; exit 1; fi; \
	echo "==> making .venv with $$($$python --version)"; \
	$$python -m venv --clear .venv && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "==> installing the locked dependencies (about 1.2 GB unpacked)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

.PHONY: up
up: .venv/.ready  ## Start the whole stack in the background and wait until it works
	@$(BIN)/python -m devstack up

.PHONY: down
down: .venv/.ready  ## Stop the stack; its state stays
	@$(BIN)/python -m devstack down

.PHONY: status
status: .venv/.ready  ## Show what runs, since when, and where
	@$(BIN)/python -m devstack status

.PHONY: logs
logs: .venv/.ready  ## Follow the logs; of one service with S=flink
	@$(BIN)/python -m devstack logs $(S)

.PHONY: clean
clean: .venv/.ready  ## Stop the stack and remove its state (data, models, logs)
	@$(BIN)/python -m devstack clean

.PHONY: test
test: .venv/.ready  ## Run every test, on real servers started for it
	@$(BIN)/python -m tools.timing --runs $(RUNS) $(if $(T),$(BIN)/python -m pytest $(T),$(ALL))

.PHONY: test-fast
test-fast: .venv/.ready  ## Run the tests that need no JVM, in a few minutes
	@$(BIN)/python -m tools.timing --runs $(RUNS) $(BIN)/python -m pytest \
	  $(IN_PARALLEL) --hypothesis-profile fast --durations 10 $(T)

.PHONY: compose-test
compose-test: .venv/.ready  ## Run the compose file for real, with Docker, and watch it from outside
	@$(BIN)/python -m tests.compose

.PHONY: check
check: .venv/.ready  ## Lint, format check, types, import rules, spelling
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell

.PHONY: format
format: .venv/.ready  ## Format the code and apply safe lint fixes
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

.PHONY: lock
lock: .venv/.ready  ## Resolve the dependencies anew into requirements.lock, and each image's part of it
	@$(LOCK) --all-extras --output-file requirements.lock
	@$(LOCK) $(SERVICES_EXTRAS:%=--extra %) --constraint requirements.lock --output-file requirements-services.lock
	@$(LOCK) $(FLINK_EXTRAS:%=--extra %) --constraint requirements.lock --output-file requirements-flink.lock

.PHONY: docs
docs: .venv/.ready  ## Rewrite .env.example, the JSON schemas and the generated pages of docs
	@$(BIN)/python -m fraud.contracts.json_schema
	@$(BIN)/python -m tools.reference

.PHONY: rates
rates: .venv/.ready  ## Rewrite the exchange-rate table from the newest published rates
	@$(BIN)/python -m tools.exchange_rates

.PHONY: bench
bench: .venv/.ready  ## Measure the stream, REST, training, rules and alerts; one of them with B=rest
	@$(BIN)/python -m benchmarks $(B)
