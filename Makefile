# Podium: `make help` says what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# pip reads the exact versions from here; pyproject.toml says what is needed.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	--constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run test test-slow lint format browser clean

help: ## Say what each target does
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: $(VENV)/.run ## Install; make a result of the tiny benchmark; report it
	$(BIN)/python -m launch.prepare_data --dataset=digits
	$(BIN)/python -m launch.benchmark --benchmark=resnet --size=tiny

test: $(VENV)/.test ## Run the tests, all but the slow ones
	$(BIN)/python -m pytest -m 'not slow'

test-slow: $(VENV)/.test ## Run the proofs that take minutes
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.test ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.test ## Write the formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

browser: ## Install Debian's Chromium, which the report's test looks through
	@command -v chromium >/dev/null || \
	  (apt-get update -qq && apt-get install -y -qq chromium)

clean: ## Remove what was installed and cached here; data and results stay
	rm -rf $(VENV) .pytest_cache .ruff_cache *.egg-info

$(VENV)/.run: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing Podium into $(VENV) (about a minute) ...'
	@$(PIP) --editable '.[tiny]'
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@echo 'Installing what the tests need into $(VENV) ...'
	@$(PIP) --editable '.[tiny,dev]'
	@touch $@
