# Every target works on a fresh clone. PYTHON is the interpreter to start from, VENV the environment to make or use.
PYTHON ?= python3
VENV ?= .venv
# Extra words for pytest: make fast PYTEST_ARGS="tests/core -x"
PYTEST_ARGS ?=

# Test processes of make test.
JOBS ?= 2

BIN := $(VENV)/bin
STAMP := $(VENV)/.edgekit-stamp
PYTEST := $(BIN)/python -m pytest $(PYTEST_ARGS)
DEMO_RUN := runs/demo

.DEFAULT_GOAL := help
.PHONY: help env demo test lint fast slow board bench wheel format clean

help: ## Say what there is.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1	\2/' | expand -t 14

env: $(STAMP) ## Make the environment in .venv, pinned by constraints.txt. Instant when nothing changed.

# Keyed on the two files that decide what is installed.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[host,flash,dev,imagenet]"
	@touch $@

demo: env ## Compress the built-in MobileNet to 8 bits, classify real pictures with the result.
	rm -rf $(DEMO_RUN)
	$(BIN)/edgekit compress mobilenet --bits 8 --out $(DEMO_RUN)
	$(BIN)/edgekit classify $(DEMO_RUN)/model.tflite docs/pictures/*.png
	@echo
	@echo "The report is at $(CURDIR)/$(DEMO_RUN)/report.html"

test: lint ## Everything that CI runs: lint, all tests but those that need a board or measure.
	$(PYTEST) -n $(JOBS) --dist worksteal -m "not board and not bench"

# No cache for lint-imports: it has been seen to miss an import that a changed file had gained.
lint: env ## Linter, formatter, types, layers, sizes.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/check_size.py edgekit tools tests

format: env ## Let ruff format and mend what it can.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fast: env ## The tests that take a moment each.
	$(PYTEST)

slow: env ## Only the slow tests.
	$(PYTEST) -m slow

board: env ## Tests on emulated boards (docs/emulated-device.md).
	$(PYTEST) -m board

bench: env ## Benchmarks, quick form; each prints one JSON document.
	@for script in $(wildcard tools/bench_*.py); do \
	  echo "== $$script" >&2; $(BIN)/python $$script --quick || exit 1; \
	done

wheel: env ## Build the wheel and the source archive in dist/.
	$(BIN)/python -m build --no-isolation

clean: ## Remove what can be made again, runs/ and the environment excepted.
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find edgekit tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
