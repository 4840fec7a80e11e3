# make demo, make test: each sets up what is missing first (see harness/setup.sh). make setup does that alone.
SHELL := /bin/bash

DEMO_RUN ?= runs/demo
# auto takes a container engine where one answers, else the local sandbox.
SANDBOX ?= $(if $(filter no,$(SRFT_SYSTEM_SETUP)),local,auto)
# PYTEST_ARGS="tests/env -k shell", DEMO_ARGS="--set practice.train=12 --set practice.test=4" and the like.
PYTEST_ARGS ?=
# Tests wait for containers more than they compute: three at a time on two cores, each file on one worker.
PYTEST := .venv/bin/python -m pytest -n 3 --dist loadfile
DEMO_ARGS ?=

.PHONY: setup model test slow demo bench mutants lint clean

setup:
	@bash harness/setup.sh

# A small model and a tokenizer for what needs real ones; 540 MB, a minute.
model: setup
	.venv/bin/python -m srft.harness.small_models .models

test: setup
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

slow: setup
	.venv/bin/python -m pytest -m slow $(PYTEST_ARGS)

demo: model
	.venv/bin/srft loop --preset demo --sandbox $(SANDBOX) --run $(DEMO_RUN) $(DEMO_ARGS)

bench: setup
	.venv/bin/python -m tests.benchmarks

# FILES="train/rows/mask.py ...", TESTS="further test files", MUTANTS_ARGS="--sample 100 --seed 1"
mutants: setup
	.venv/bin/python -m tests.mutants $(FILES) $(if $(TESTS),--tests $(TESTS)) $(MUTANTS_ARGS)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# The environment and your runs stay, the demo's apart.
clean:
	test ! -x .venv/bin/srft || .venv/bin/srft clean
	rm -rf $(DEMO_RUN) build dist bench.json .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
