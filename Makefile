# resubmit: every target sets up what it needs. `make` alone lists them.
PYTHON ?=
PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench bench-tls simulate serve docs lock clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## make .venv with .venv/bin/resubmit in it; costs nothing when up to date

.venv/.ready: requirements.lock pyproject.toml packaging/make-venv
	@packaging/make-venv $(PYTHON)
	@touch $@

demo: setup ## watch the incident happen and be recovered, in under a minute
	@.venv/bin/resubmit demo

test: setup ## run the tests
	@$(PY) -m pytest -q -n auto

check: setup ## lint, types, and generated files that must be in step
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@$(PY) -m docs.generate --check

format: setup ## format the code
	@.venv/bin/ruff check --fix -q . ; .venv/bin/ruff format -q .

bench: setup ## print the ratios against peers in the same run
	@$(PY) -m benchmarks

bench-tls: setup ## compare the probe with other tools on the same bad servers; writes docs/tls-tools.md
	@$(PY) -m benchmarks.tls

simulate: setup ## the main story in the simulated world, 200 seeds
	@RESUBMIT_SEEDS=200 $(PY) -m pytest -q -n auto tests/simulation

serve: setup ## run the service with ./config.toml
	@.venv/bin/resubmit serve

docs: setup ## write the generated pages anew
	@$(PY) -m docs.generate

lock: setup ## resolve requirements.lock anew
	@packaging/lock

clean: ## remove what the targets made
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
