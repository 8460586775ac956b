# `make` alone prints what there is to do. Only python3 (3.11 or newer) has to be there; everything else is
# installed into .venv from requirements.lock.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# pyright comes whole in its wheel; it need not ask anybody whether there is a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test soak lint format check bench hooks lock clean

help: ## print this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' \
		| while IFS='|' read -r target text; do printf '  make %-9s %s\n' "$$target" "$$text"; done

install: $(VENV)/.installed ## set up .venv (the other targets do it by themselves)

# Nothing is taken that is not hashed in the lock: the build backend is in it too, so the package itself is
# built without isolation.
$(VENV)/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: install ## run the demonstration; it says what to open and what to type
	$(BIN)/python -m examples.demo $(ARGS)

test: install ## run every test; ARGS="-k cancel -n 2" goes to pytest
	$(BIN)/python -m pytest $(ARGS)

soak: install ## the long fault campaigns, an hour of them; ARGS="workers hosts" names single ones
	$(BIN)/python -m tests.campaigns $(ARGS)

lint: install ## check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright

format: install ## repair what can be repaired
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

check: lint test ## everything that has to pass before a commit

bench: install ## measure; ARGS names single benchmarks
	$(BIN)/python -m benchmarks $(ARGS)

hooks: install ## run the linters before every commit
	$(BIN)/prek install

# Neither the address of an index nor a path gets into the lock, only versions and hashes.
lock: install ## write requirements.lock anew from pyproject.toml; ARGS=--upgrade for newer versions
	$(BIN)/python -m pip install --quiet 'uv>=0.13,<1'
	$(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url --no-emit-find-links --all-extras \
		--group build --group test --group lint --group bench --output-file requirements.lock $(ARGS)

clean: ## remove .venv and everything that tools have written
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
