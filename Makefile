# make run    from nothing to answers in out.jsonl, by way of the bundled demo model
# make install   puts l4 on your PATH, by uv, pipx, or a virtual environment of its own
# make test   the same set-up with the test tools, then every check
# make test-slow   the tests that take minutes: set-up, doctor, wheel and sdist, sweeps by seed
# make test-clients   llm, LiteLLM and lm-evaluation-harness against `l4 serve`; installs the `clients` extra first
# make test-train   the tests of training/; installs torch and the rest of the `train` extra first
# make pictures   the README's pictures anew, from real sessions
# make upgrade   requirements.lock anew: the newest releases that pyproject.toml allows
#
# All may be run again at any time; what is in place is not done twice.

PYTHON ?= python3
VENV   := .venv
LOCK   := requirements.lock
BIN    := $(VENV)/bin
CHECKPOINT := l4cli/demo/checkpoint
SHARDS := $(wildcard $(CHECKPOINT)/*)

.DEFAULT_GOAL := help
.PHONY: help run install test check pytest test-slow test-clients test-train pictures upgrade llama.cpp clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

run: build/demo-Q8_0.gguf build/demo-Q4_K_M.gguf
	$(BIN)/l4 run -m build/demo-Q8_0.gguf --temperature 0 examples/prompts.jsonl > out.jsonl
	@$(BIN)/python examples/show.py examples/prompts.jsonl out.jsonl
	@printf '\nTry next:\n'
	@printf '  %s\n' '$(BIN)/l4 chat' \
	  '$(BIN)/l4 ask examples/pump.md -q "What is the access code of the pump house?"' \
	  '$(BIN)/l4 chat -m qwen3-0.6b      # a real model; asks before it downloads 609 MiB'
	@printf '"make install" puts l4 on your PATH.\n'

install: | llama.cpp
	@$(BIN)/python -m l4cli.native.command

test: check pytest

check: $(VENV)/.test-installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

pytest: $(VENV)/.test-installed
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-slow: $(VENV)/.test-installed
	$(BIN)/python -m pytest -m slow

pictures: $(VENV)/.test-installed
	$(BIN)/python examples/pictures.py

test-clients: $(VENV)/.clients-installed
	$(BIN)/python -m pytest -m clients tests/serve

test-train: $(VENV)/.train-installed
	$(BIN)/python -m pytest -m train tests/training

upgrade:
	$(PYTHON) -m venv --clear build/upgrade
	build/upgrade/bin/python -m pip install --quiet uv
	build/upgrade/bin/uv pip compile --quiet --universal --python-version 3.10 --no-python-downloads \
	  --upgrade --extra fast --extra test --no-annotate --no-emit-index-url \
	  --custom-compile-command 'make upgrade' -o requirements.lock pyproject.toml

build/demo-%.gguf: $(VENV)/.installed $(SHARDS)
	@mkdir -p build
	$(BIN)/l4 convert $(CHECKPOINT) -o $@ --type $*

$(VENV)/.installed: pyproject.toml $(LOCK) | llama.cpp
	$(BIN)/python -m pip install --quiet -c $(LOCK) -e '.[fast,serve]'
	@touch $@

$(VENV)/.test-installed: pyproject.toml $(LOCK) | llama.cpp
	$(BIN)/python -m pip install --quiet -c $(LOCK) -e '.[test]'
	@touch $@ $(VENV)/.installed

# requirements.lock does not pin the packages of the `clients` extra.
$(VENV)/.clients-installed: pyproject.toml $(LOCK) | llama.cpp
	$(BIN)/python -m pip install --quiet -c $(LOCK) -e '.[test,clients]'
	@touch $@ $(VENV)/.test-installed $(VENV)/.installed

# requirements.lock does not pin torch and the others of the `train` extra.
$(VENV)/.train-installed: pyproject.toml $(LOCK) | llama.cpp
	$(BIN)/python -m pip install --quiet -c $(LOCK) -e '.[test,train]'
	@touch $@ $(VENV)/.test-installed $(VENV)/.installed

# Compiled for this processor, with flags that this compiler needs; nothing is done if it is in place.
llama.cpp: | $(VENV)/bin/pip
	@$(BIN)/python -m l4cli.native.wheel --lock $(LOCK)

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "l4 needs Python 3.10 or newer; name one with: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

clean:
	rm -rf build out.jsonl
