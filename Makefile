# Thin: the real configuration is in pyproject.toml.

PYTHON ?= python3
VENV ?= .venv
HOST ?= 127.0.0.1
PORT ?= 8000
TRAFFIC ?= 5
bin = $(VENV)/bin
sources = $(shell git ls-files '*.py')

.PHONY: demo demo-workers test lint types bench format

demo: $(VENV)/.demo ## run the example app and print the address to open
	@$(bin)/python -m examples.docsearch --host $(HOST) --port $(PORT) --traffic $(TRAFFIC)

demo-workers: $(VENV)/.demo ## run it in several processes, with a Valkey server between them
	@$(bin)/python -m examples.workers --host $(HOST) --port $(PORT) --traffic $(TRAFFIC)

test: $(VENV)/.test ## run all tests
	@.ci/browser
	$(bin)/coverage run -m pytest $(ARGS)
	$(bin)/coverage report

lint: $(VENV)/.lint
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/flake8-async --enable ASYNC --startable-in-context-manager run $(sources)

types: $(VENV)/.lint
	$(bin)/mypy
	$(bin)/pyright --pythonpath $(bin)/python
	PATH="$(abspath $(bin)):$$PATH" pyright --ignoreexternal --verifytypes vizpipe_trio

bench: $(VENV)/.bench ## measure against peers and bare limits: ten minutes, or ARGS=--quick
	$(bin)/python -m benchmarks $(ARGS)

format: $(VENV)/.lint ## let the tools mend what they can
	$(bin)/ruff format .
	$(bin)/ruff check --fix .

# What each target needs, installed once and again when pyproject.toml changes.
$(VENV)/.pip: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(bin)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.demo: $(VENV)/.pip
	$(bin)/python -m pip install --quiet --editable '.[quart,redis]' --group example
	@touch $@

$(VENV)/.test: $(VENV)/.pip
	$(bin)/python -m pip install --quiet --editable '.[quart,redis]' --group test
	@touch $@

$(VENV)/.bench: $(VENV)/.pip
	$(bin)/python -m pip install --quiet --editable '.[quart,redis]' --group bench
	@touch $@

$(VENV)/.lint: $(VENV)/.pip
	$(bin)/python -m pip install --quiet --editable '.[quart,redis]' --group lint
	@touch $@
