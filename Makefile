# Thin: the real configuration is in pyproject.toml.

PYTHON ?= python3
VENV ?= .venv
HOST ?= 127.0.0.1
PORT ?= 8000
TRAFFIC ?= 5
SECONDS ?= 60
bin = $(VENV)/bin
sources = $(shell git ls-files '*.py')

.PHONY: demo demo-workers test soak lint types docs bench fuzz format

demo: $(VENV)/.demo ## run the example app and print the address to open
	@$(bin)/python -m examples.docsearch --host $(HOST) --port $(PORT) --traffic $(TRAFFIC)

demo-workers: $(VENV)/.demo ## run it in several processes, with a Valkey server between them
	@$(bin)/python -m examples.workers --host $(HOST) --port $(PORT) --traffic $(TRAFFIC)

test: $(VENV)/.test ## run all tests
	@.ci/system
	$(bin)/coverage run -m pytest $(ARGS)
	$(bin)/coverage report

soak: $(VENV)/.soak ## ten minutes at saturation, and ten thousand viewers that come and go
	$(bin)/python tests/soak.py --into docs/soak $(ARGS)
	VIZPIPE_VISITS=10000 $(bin)/pytest -o faulthandler_timeout=600 tests/test_faults_visits.py

lint: $(VENV)/.lint
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/flake8-async --enable ASYNC --startable-in-context-manager run $(sources)

types: $(VENV)/.lint
	$(bin)/mypy
	$(bin)/pyright --pythonpath $(bin)/python
	PATH="$(abspath $(bin)):$$PATH" pyright --ignoreexternal --verifytypes vizpipe_trio

docs: $(VENV)/.docs ## build the site into docs/_build; a name that leads nowhere is an error
	$(bin)/sphinx-build -W --keep-going --fresh-env --nitpicky --quiet --builder html docs docs/_build

fuzz: $(VENV)/.test ## search each target for bytes that break a promise, a minute each, or SECONDS=600
	for target in event request resume; do $(bin)/python -m fuzz $$target -max_total_time=$(SECONDS) || exit 1; done

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

$(VENV)/.soak: $(VENV)/.pip
	$(bin)/python -m pip install --quiet --editable '.[quart]' --group soak
	@touch $@

$(VENV)/.bench: $(VENV)/.pip
	$(bin)/python -m pip install --quiet --editable '.[quart,redis]' --group bench
	@touch $@

$(VENV)/.docs: $(VENV)/.pip
	$(bin)/python -m pip install --quiet --editable '.[quart,redis,client,opentelemetry,prometheus,testing]' --group docs
	@touch $@

$(VENV)/.lint: $(VENV)/.pip
	$(bin)/python -m pip install --quiet --editable '.[quart,redis]' --group lint
	@touch $@
