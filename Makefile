.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test test-fast check format docs bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with the locked dependencies (every other target does this by itself)

$(READY): pyproject.toml uv.lock .ci/bootstrap.py
	@$(PYTHON) .ci/bootstrap.py
	@touch $@

demo: $(READY) ## A real Ray cluster on this machine bursts into the sandbox cloud and gives everything back
	@$(BIN)/fabric demo

test: $(READY) ## All tests, real Ray clusters included
	@$(BIN)/python -m pytest -m "not cluster" -n 2
	@$(BIN)/python -m pytest -m cluster

test-fast: $(READY) ## The tests that start no Ray cluster
	@$(BIN)/python -m pytest -m "not cluster" -n 2

check: $(READY) ## Lint, types, import rules, generated files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/pyright
	@$(BIN)/python -m tests.docs.generated --check

format: $(READY) ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(READY) ## Regenerate the reference pages and schemas
	@$(BIN)/python -m tests.docs.generated --write

bench: $(READY) ## The measurements published in docs/reference/benchmarks.md (long)
	@for script in decide journal react placement; do $(BIN)/python -m tests.bench.$$script; done

clean: ## Remove what was built; keeps your configuration and state
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache
