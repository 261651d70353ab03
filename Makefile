# The README's commands, and the ones of a working day. Thin: what they do stands in Python.
PYTHON ?= python3
BIN := .venv/bin
RUN ?=
ARGS ?=
BACKEND ?= process

.DEFAULT_GOAL := help
.PHONY: help setup setup-all setup-dev bench bench-db smoke bench-generator bench-capacity test prove truth truth-long lint report charts lock services clean

help:  ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv/.installed: requirements.lock
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: Python has no venv; install it: apt-get install python3-venv" >&2; exit 6; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: Python 3.11 or newer is needed: make PYTHON=python3.11" >&2; exit 6; }
	@echo "setting up .venv (once)" >&2
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Touched by the installation itself, once nothing is missing.
.venv/.installed-all: .venv/.installed requirements-all.lock
	@$(BIN)/python -m harness.setup_all $@

.venv/.installed-dev: .venv/.installed requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	@touch $@

setup: .venv/.installed  ## install what `make bench` needs (done by itself the first time)

setup-all: .venv/.installed-all  ## also every server and framework that is measured; as root, what Debian has for them

setup-dev: .venv/.installed-dev  ## also what `make test` and `make lint` need

bench: .venv/.installed  ## measure four variants on six endpoints, draw the report (under 6 minutes); BACKEND=compose: in containers
	@$(BIN)/gatebench run quick --backend $(BACKEND) $(ARGS)

bench-db: .venv/.installed-all  ## the same families on a PostgreSQL that is started for it, and removed
	@$(BIN)/gatebench run queries --backend $(BACKEND) --database $(ARGS)

smoke: .venv/.installed  ## the same in 45 seconds: shows that it works, supports no claim
	@$(BIN)/gatebench run quick --repeats 1 --duration 1 $(ARGS)

bench-generator: .venv/.installed  ## the load generator against wrk and stock Locust (some minutes)
	@$(BIN)/python -m harness.bench_generator $(ARGS)

bench-capacity: .venv/.installed  ## are the models of capacity right? three variants, levels no fit has seen (some minutes)
	@$(BIN)/python -m harness.capacity.bench $(ARGS)

test: .venv/.installed-dev  ## run the tests
	@$(BIN)/pytest -m "not slow and not realtime" $(ARGS)

prove: .venv/.installed-dev  ## the slow proofs: faults on real servers and load workers, counts, clocks, memory, mutations
	@$(BIN)/pytest -m "slow and not realtime" $(ARGS)

truth: .venv/.installed-dev  ## the instrument's proofs in real time; they need a quiet machine
	@$(BIN)/pytest -m "realtime and not long" $(ARGS)

truth-long: .venv/.installed-dev  ## identical servers on real ones, a token bucket's capacity: 15 minutes on a quiet machine
	@$(BIN)/pytest -m long -s $(ARGS)

lint: .venv/.installed-dev .venv/.installed-all  ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

report: .venv/.installed  ## rebuild a report: make report RUN=results/NAME (the newest unless told)
	@$(BIN)/gatebench report $(RUN)

charts: .venv/.installed  ## each chart as a picture: make charts RUN=results/NAME ARGS='--format svg'
	@$(BIN)/gatebench charts $(RUN) $(ARGS)

lock:  ## pin the newest versions that fit, with hashes and no index address (needs uv)
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 pyproject.toml -o requirements.lock
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 --extra all -c requirements-dev.lock pyproject.toml -o requirements-all.lock

services:  ## write a service of docker-compose.yml for each variant
	@$(BIN)/python -m harness.serve.services

clean:  ## remove what was installed and cached; results stay
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
