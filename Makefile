# Both `make demo` and `make test` set up what they need: Python 3.11 or newer and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: setup demo test test-slow check lint bench bench-long profile docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m compileall -q src
	touch $@

demo: setup
	$(BIN)/jensen demo --out demo-run

test: setup
	$(BIN)/pytest -q -n 2

test-slow: setup
	$(BIN)/pytest -q -m slow

check: lint docs

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache

docs: setup
	$(BIN)/sphinx-build -W -q --keep-going -j 2 -b html docs docs/_build/html

bench: setup
	$(BIN)/python benchmarks/run.py

bench-long: setup
	$(BIN)/python benchmarks/run.py --long

profile: setup
	$(BIN)/python benchmarks/step_profile.py

clean:
	rm -rf docs/_build docs/gallery docs/api/generated demo-run
