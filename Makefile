# Podium: `make help` says what there is.

PYTHON ?= python3
VENV := .venv
TF_VENV := .venv-tensorflow
BIN := $(VENV)/bin
# pip reads the exact versions from here; pyproject.toml says what is needed.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	--constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run test test-slow test-tensorflow lint format programs clean

help: ## Say what each target does
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: $(VENV)/.run ## Install; make a result of the tiny benchmark; report it
	$(BIN)/python -m launch.prepare_data --dataset=digits
	$(BIN)/python -m launch.benchmark --benchmark=resnet --size=tiny

test: $(VENV)/.test ## Run the tests, all but the slow ones
	$(BIN)/python -m pytest -m 'not slow'

test-slow: $(VENV)/.test ## Run the proofs that take minutes
	$(BIN)/python -m pytest -m slow

test-tensorflow: $(TF_VENV)/.done ## Compare with TensorFlow's operators and TFDS's own builder
	$(TF_VENV)/bin/python -m pytest -m tensorflow tests/tensorflow

lint: $(VENV)/.test ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.test ## Write the formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

programs: ## Install the Debian programs that some tests call: a browser, jpegtran
	@command -v chromium >/dev/null && command -v jpegtran >/dev/null || \
	  (apt-get update -qq && \
	   apt-get install -y -qq chromium libjpeg-turbo-progs)

clean: ## Remove what was installed and cached here; data and results stay
	rm -rf $(VENV) $(TF_VENV) .pytest_cache .ruff_cache *.egg-info

$(VENV)/.run: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing Podium into $(VENV) (about a minute) ...'
	@$(PIP) --editable '.[tiny]'
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@echo 'Installing what the tests need into $(VENV) ...'
	@$(PIP) --editable '.[tiny,dev]'
	@touch $@

$(TF_VENV)/.done: pyproject.toml constraints.txt
	@test -x $(TF_VENV)/bin/python || $(PYTHON) -m venv $(TF_VENV)
	@echo 'Installing TensorFlow and Podium into $(TF_VENV) (minutes) ...'
	@$(TF_VENV)/bin/python -m pip install --quiet \
	  --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[compare]'
	@touch $@
