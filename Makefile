# `make test` does all its set-up itself.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do $$p -c 'import sys; assert sys.version_info >= (3, 11)' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: help deps test lint bench clean
help:
	@echo "make test   everything that CI checks"
	@echo "make lint   ruff, mypy, import contracts"
	@echo "make bench  edged beside raw chains (and NATS where it is installed), about three minutes"

$(BIN)/.stamp: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

lint: $(BIN)/.stamp
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

deps:
	@tools/setup/debian.sh 'gcc:gcc libc6-dev' systemd-analyze:systemd strace:strace unshare:util-linux

test: deps lint
	$(BIN)/python -m pytest -q

bench: $(BIN)/.stamp
	$(BIN)/python tools/bench/run.py

clean:
	rm -rf .venv build dist
