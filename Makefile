# make           set up .venv and run the default study; prints the cost table
# make test      set up .venv and run every test
# make published the published CEMS study, whatever the default study is
# make params    compose conf/ into params.yaml (after editing conf/)
# make lint      ruff and mypy
# make bench     measure; see benchmarks/README.md

PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)

# A copy of the published data beside this checkout serves in place of its public address.
ifneq ($(wildcard $(CURDIR)/../shared/data/cems/Model_Perf),)
export PROMPTROUTE_CEMS ?= $(abspath $(CURDIR)/../shared/data/cems)
endif

LARGE := '^(torch|triton|nvidia-|cuda-)'
SHELL := bash

.PHONY: repro test published params lint bench setup clean
.DEFAULT_GOAL := repro

repro: setup
	dvc repro
	@promptroute evaluate --show

test: setup
	pytest -n 2  # tests/conftest.py says in what order, and which worker does what

published: setup
	dvc exp run -S experiment=published
	@promptroute evaluate --show

params: setup
	promptroute compose

lint: setup
	ruff check .
	ruff format --check .
	mypy

bench: setup
	python -m benchmarks short

setup: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; run make PYTHON=python3.11"; exit 1; }
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@# Two pips side by side: unpacking what torch needs on a GPU is half of the work, and one pip uses one core.
	.venv/bin/python -m pip install --quiet --no-deps --no-compile --requirement <(grep    -E $(LARGE) requirements.lock) & \
	.venv/bin/python -m pip install --quiet --no-deps --no-compile --requirement <(grep -v -E $(LARGE) requirements.lock); \
	  small=$$?; wait $$! && exit $$small
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	.venv/bin/python -m compileall -q -q -j 0 .venv/lib || true  # as pip does, but on every core; templates that some packages hold are no Python
	@touch $@

clean:
	rm -rf .venv
