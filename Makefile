# `make test` and `make demo` do all their set-up themselves: Debian packages, .venv, Python packages.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do $$p -c 'import sys; assert sys.version_info >= (3, 11)' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
KEEP ?=
WORLDS ?= 1000000
# A kernel as a process, for tests: Debian has it for PCs only.
UML := $(if $(filter amd64,$(shell dpkg --print-architecture 2>/dev/null)),linux.uml:user-mode-linux)

.PHONY: help deps test soak soak-properties soak-chaos soak-steps lint demo bench bench-balance bench-migration bench-policy bench-stores bench-paper clean
help:
	@echo "make demo        a mesh on loopback with a fleet of robot arms, and an account of every call"
	@echo "make demo KEEP=1 the same, and the mesh stays up with commands to try"
	@echo "make test        everything that CI checks"
	@echo "make soak        WORLDS=1000000 simulated meshes on all cores, other ones each time"
	@echo "make soak-properties  other examples for the tests that look for some, and many more; some minutes"
	@echo "make soak-chaos  three nodes and a Redis: 128,000 calls, 300 moves, each node killed twice, pauses; with sync, then with checkpoint; some minutes"
	@echo "make soak-steps  nodes killed and paused, and the store killed, at every step of every move; some minutes"
	@echo "make lint        ruff, mypy, import contracts"
	@echo "make bench       edged beside raw chains (and NATS where it is installed), about three minutes"
	@echo "make bench-balance  the balancing policies beside one central queue, in virtual time and live"
	@echo "make bench-migration  how long a session's calls wait while it moves, about two minutes"
	@echo "make bench-stores  remote-state and local-state calls with each store, side by side, about four minutes"
	@echo "make bench-paper    the paper's first experiment on real nodes: fixed numbers of local sessions beside the policy"
	@echo "make bench-policy   what is claimed of the policy, in virtual time: beside the formula, and the best static choice"
	@echo "make deps        the Debian packages whose programs the tests need, where they are missing"
	@echo "make clean       remove .venv, build and dist"

# Debian keeps ensurepip in a package of its own, which has no program to look for.
$(BIN)/.stamp: pyproject.toml
	@test -n "$(PYTHON)" || { echo "edged needs Python 3.11 or newer: apt-get install python3, or make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tools/setup/debian.sh ensurepip:python3-venv
	$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --timeout 60 -e '.[dev]' || { echo "pip could not install what edged needs (see above): it takes a network, or a mirror named by PIP_INDEX_URL" >&2; exit 1; }
	@touch $@

lint: $(BIN)/.stamp
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini
	$(BIN)/lint-imports

deps:
	@tools/setup/debian.sh 'gcc:gcc libc6-dev' node:nodejs ip:iproute2 systemd-analyze:systemd strace:strace unshare:util-linux redis-server:redis-server $(UML)

test: deps lint
	$(BIN)/python -m pytest -q

soak: $(BIN)/.stamp
	cd tests && ../$(BIN)/python -m sim.soak $(WORLDS)

soak-properties: $(BIN)/.stamp
	$(BIN)/python -m pytest -q -m hypothesis --hypothesis-profile=others tests

soak-chaos: deps $(BIN)/.stamp
	cd tests && ../$(BIN)/python -m support.chaos sync 64 2000 300 2 3
	cd tests && ../$(BIN)/python -m support.chaos checkpoint 64 2000 300 2 3

soak-steps: deps $(BIN)/.stamp
	$(BIN)/python -m pytest -q -m 'soak or not soak' tests/e2e/test_faults_at_steps.py

demo: deps $(BIN)/.stamp
	$(BIN)/python tools/demo/run.py $(if $(KEEP),--keep)

bench: $(BIN)/.stamp
	$(BIN)/python tools/bench/run.py

bench-balance: $(BIN)/.stamp
	$(BIN)/python tools/bench/balance.py

bench-migration: $(BIN)/.stamp
	$(BIN)/python tools/bench/migration.py

bench-stores: deps $(BIN)/.stamp
	$(BIN)/python tools/bench/stores.py

bench-paper: $(BIN)/.stamp
	$(BIN)/python tools/bench/paper_live.py

bench-policy: $(BIN)/.stamp
	$(BIN)/python tools/bench/policy.py

clean:
	rm -rf .venv build dist
