# Every target works on a bare machine with Python 3.11+ and make: it makes its own .venv first.
PYTHON ?= python3
BIN := .venv/bin
PYTEST_ARGS ?= -n 2 --dist loadfile
PIP := $(BIN)/pip install -q --disable-pip-version-check -c constraints.txt

.PHONY: help demo test check format bench quality docs clean

help:
	@echo "make demo    hold one whole call: official SDK, talking bot, caller who interrupts"
	@echo "make test    run the tests (official SDKs included, where npm is found)"
	@echo "make check   lint, format, types, layers"
	@echo "make bench   measure everything (more than half an hour) and write docs/performance.md"
	@echo "make quality measure what codec, jitter buffer and concealment do to the sound; needs a C compiler"
	@echo "make docs    write the generated parts of docs/ anew"
	@echo "make format  format the code"
	@echo "make clean   remove .venv and what tests installed"

demo: .venv/demo
	$(BIN)/offhook demo

test: .venv/dev
	$(BIN)/python tests/sdk/install.py
	$(BIN)/pytest $(PYTEST_ARGS)

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev
	$(BIN)/offhook bench all

quality: .venv/quality
	$(BIN)/python -m offhook.bench.quality

docs: .venv/dev
	$(BIN)/python tests/contract/coverage.py
	$(BIN)/python tests/docs/make_reference.py

clean:
	rm -rf .venv .sdk

.venv/made: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Offhook needs Python 3.11 or newer, %s is %d.%d: make PYTHON=python3.11 …" % (sys.executable, *sys.version_info[:2]))'
	$(PYTHON) -m venv .venv
	$(PIP) pip
	@touch $@

.venv/demo: .venv/made pyproject.toml
	$(PIP) -e '.[demo]'
	@touch $@

.venv/quality: .venv/dev
	$(PIP) --group quality
	@touch $@

.venv/dev: .venv/made .venv/demo pyproject.toml
	$(PIP) -e '.[demo]' --group dev
	@touch $@
