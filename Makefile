.PHONY: demo test test-all lint types bench accept clean
PYTHON ?= python3
BIN := .venv/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -c constraints.txt
# One process of tests for each core, each on one thread (tests/conftest.py); WORKERS= runs them in this one.
WORKERS ?= -n auto --dist worksteal
export MPLBACKEND := Agg

demo: .venv/ready
	@$(BIN)/python -m vaekit.demo

test: .venv/ready
	$(BIN)/python -m pytest $(WORKERS) -m "not slow"

test-all: .venv/ready
	$(BIN)/python -m pytest $(WORKERS)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

bench: .venv/ready
	$(BIN)/python benchmarks/throughput.py --check-precision

accept: .venv/ready
	$(BIN)/python benchmarks/accept.py

# Set-up happens once, and again when the pinned versions or the package's own description change.
.venv/ready: constraints.txt pyproject.toml
	@echo "setting up .venv, step 1 of 3: a virtual environment"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setting up .venv, step 2 of 3: PyTorch, the largest part"
	@$(PIP) torch
	@echo "setting up .venv, step 3 of 3: everything else"
	@$(PIP) -e ".[dev]"
	@touch $@
	@echo "set-up done"

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
