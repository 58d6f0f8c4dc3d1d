# Everything starts here; `make` alone explains. Only Python 3.11+ and make are needed.
.DEFAULT_GOAL := help
.PHONY: help setup vllm run test test-slow lint format constraints clean
BIN := .venv/bin
ARGS ?=

# Our rooms first: a foreign `tasks` or `models` on the path would win over ours otherwise.
export PYTHONPATH := $(CURDIR)

help:
	@echo 'The Flywheel: a policy that gets better at problems that can be checked.'
	@echo ''
	@echo '  make run          set up .venv, then turn the wheel; ARGS="--rounds 2" goes to `flywheel run`'
	@echo '  make test         set up .venv, then every check: format, lint, types, import contracts, tests'
	@echo '  make test-slow    the tests with real engines, browsers and kills (up to 40 minutes)'
	@echo '  make setup        only set up .venv; a second time does nothing'
	@echo '                    PYTHON=python3.12 make setup    with that Python'
	@echo '                    TORCH_INDEX=URL make setup      with torch from another package index'
	@echo '  make vllm         vLLM for CPUs, in .venv-vllm: policy.engine=vllm works there (docs/engines.md)'
	@echo '  make lint         the checks of make test without the tests'
	@echo '  make format       put the code into its format'
	@echo '  make constraints  write the versions now in .venv to constraints.txt'
	@echo '  make clean        remove .venv and caches; what was learnt (.flywheel) stays'
	@echo ''
	@echo 'ARGS="-k gate" narrows the tests. After set-up, .venv/bin/flywheel --help tells the rest.'

setup:
	@sh setup.sh

vllm: setup
	@sh setup-vllm.sh

run: setup
	@$(BIN)/flywheel run $(ARGS)

lint: setup
	@echo '== format'
	@$(BIN)/ruff format --check .
	@echo '== lint'
	@$(BIN)/ruff check .
	@echo '== types'
	@$(BIN)/mypy
	@echo '== import contracts'
	@$(BIN)/lint-imports --no-logo

test: lint
	@echo '== tests'
	@$(BIN)/python -m pytest -m 'not slow' $(ARGS)

test-slow: setup
	@echo '== slow tests'
	@$(BIN)/python -m pytest -m slow $(ARGS) || { code=$$?; [ $$code -eq 5 ] && echo 'No slow test here.' || exit $$code; }

format: setup
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# Without local build tags and our own package, so that the pins hold on every platform.
constraints: setup
	@$(BIN)/python -m pip freeze --exclude-editable --exclude flywheel --exclude setuptools > .venv/frozen.txt
	@{ echo '# Exact versions of everything in .venv, written by `make constraints`.'; \
	  sed 's/+[a-z0-9.]*$$//' .venv/frozen.txt; } > constraints.txt

clean:
	rm -rf .venv .venv-vllm build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -not -path './.flywheel/*' -prune -exec rm -rf {} +
