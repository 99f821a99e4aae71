# Thin: the real configuration is in pyproject.toml.

PYTHON ?= python3
VENV ?= .venv
HOST ?= 127.0.0.1
PORT ?= 8000
TRAFFIC ?= 5
SECONDS ?= 60
bin = $(VENV)/bin
sources = $(shell git ls-files '*.py')

.PHONY: help demo demo-workers test suite lowest soak lint types docs bench fuzz format api release release-notes

help: ## say what there is to make
	@sed -n 's/^\([a-z-]*\):.* ## /\1: /p' Makefile

# Several Pythons may run the tests at a time.
export COVERAGE_FILE = $(abspath $(VENV))/.coverage
pytest = -m pytest -o cache_dir=$(VENV)/.pytest_cache

demo: $(VENV)/.demo ## run the example app and print the address to open
	@$(bin)/python -m examples.docsearch --host $(HOST) --port $(PORT) --traffic $(TRAFFIC)

demo-workers: $(VENV)/.demo ## run it in several processes, with a Valkey server between them
	@$(bin)/python -m examples.workers --host $(HOST) --port $(PORT) --traffic $(TRAFFIC)

test: $(VENV)/.test ## run all tests
	@.ci/system
	$(bin)/coverage run $(pytest) $(ARGS)
	$(bin)/coverage report

suite: $(VENV)/.test ## run all tests without a count of the lines that they reach: in two thirds of the time
	$(bin)/python $(pytest) $(ARGS)

# Pages, faults, fuzzing and the example cost most of the time, and tell nothing of a library's version.
elsewhere = dashboard browser hostile faults soak fuzz shutdown netns nginx upstream docsearch restart house package newcomer release

lowest: $(VENV)/.lowest ## run the tests of what uses other libraries with the lowest versions that we allow
	$(bin)/python $(pytest) $(elsewhere:%=--ignore-glob='tests/test_%*') $(ARGS)

soak: $(VENV)/.soak ## ten minutes at saturation, and ten thousand viewers that come and go
	$(bin)/python tests/soak.py --into docs/soak $(ARGS)
	VIZPIPE_VISITS=10000 $(bin)/pytest -o faulthandler_timeout=600 tests/test_faults_visits.py

lint: $(VENV)/.lint ## the format, ruff and flake8-async
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/flake8-async --enable ASYNC --startable-in-context-manager run $(sources)

types: $(VENV)/.lint ## mypy and pyright
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

api: $(VENV)/.test ## write down the public API after it has changed
	$(bin)/python tests/public_api.py

release: $(VENV)/.test ## make a release of what is unreleased: VERSION=1.0.0; see docs/releasing.md
	@test -n "$(VERSION)" || { echo 'Which one? VERSION=1.0.0' >&2; exit 1; }
	$(bin)/keepachangelog release $(VERSION)
	echo '__version__ = "$(VERSION)"' >vizpipe_trio/_version.py
	cp docs/api.txt docs/api-released.txt

release-notes: $(VENV)/.test ## print what the changelog says of a release: VERSION=1.0.0
	@$(bin)/keepachangelog show $(VERSION)

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

# Lowest for what users install, newest for what only the tests need. pytest is both: its lowest is tried by test_package.py.
extras = quart,redis,client,opentelemetry,cli,prometheus
comma = ,

$(VENV)/.lowest: $(VENV)/.pip
	$(bin)/python -m pip install --quiet uv
	$(bin)/uv pip compile --quiet --python $(bin)/python --resolution lowest-direct -o $(VENV)/lowest.txt \
		--extra=$(subst $(comma), --extra=,$(extras)) pyproject.toml
	$(bin)/uv pip install --quiet --python $(bin)/python --constraint $(VENV)/lowest.txt \
		--editable '.[$(extras)]' --group test
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
