# One command for each thing a person does here. Each does its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

COMPILED := build/compiled
# Patroni's own environment. As root it runs as another user, who may not be able to reach our Python.
PATRONI := build/patroni
PATRONI_PYTHON ?= $(firstword $(wildcard /usr/bin/python3) $(PYTHON))

.PHONY: help demo tour test lint unit format compiled test-compiled drill bench soak load consistency cache-check oracle state-fuzz
.PHONY: wire-fuzz compose-test patroni-test screenshots clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed (PYTHON=... to name it)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: $(READY) ## A primary, two standbys and Pointsman in front of them, until Ctrl-C
	$(BIN)/pointsman demo $(ARGS)

tour: $(READY) ## A scripted walk through the demo, then exit
	$(BIN)/pointsman demo --tour

lint: $(READY) ## Format check, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(READY) ## The tests (ARGS="-k name" to choose)
	$(BIN)/pytest $(ARGS)

test: lint unit ## Everything CI runs

format: $(READY) ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

compiled: $(COMPILED)/.ready ## The data plane as extension modules, in build/compiled (needs a C compiler)

$(COMPILED)/.ready: $(READY) hatch_build.py $(shell find middleware parser routing healthcheck -name '*.py')
	rm -rf $(COMPILED)
	POINTSMAN_COMPILE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --target $(COMPILED) .
	@touch $@

test-compiled: $(COMPILED)/.ready ## The tests, against the compiled data plane
	PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(COMPILED) $(BIN)/pytest $(ARGS)

compose-test: $(READY) ## The walk of docs/ha-demo.md, in containers (takes or starts a Docker engine)
	tests/compose/run.sh $(ARGS)

patroni-test: $(READY) $(PATRONI)/.ready ## A cluster that a real Patroni runs, through a failover and a switchover
	$(BIN)/pytest tests/patroni $(ARGS)

$(PATRONI)/.ready: tests/patroni/constraints.txt
	rm -rf $(PATRONI)
	$(PATRONI_PYTHON) -m venv --without-pip $(PATRONI)
	$(BIN)/python -m pip --python $(PATRONI)/bin/python install --quiet --disable-pip-version-check -c tests/patroni/constraints.txt 'patroni[etcd3]' 'psycopg[binary]'
	@touch $@

drill: $(READY) ## Every failover drill on a cluster of its own, with a report (ARGS="--sync --runs 3")
	$(BIN)/pointsman drill all $(ARGS)

bench: $(READY) ## CPU per transaction against PostgreSQL, PgBouncer and pgpool-II (ARGS="--help")
	@if command -v cc >/dev/null; then $(MAKE) --no-print-directory compiled; fi
	$(BIN)/python -m tests.bench $$(test -e $(COMPILED)/.ready && echo --compiled $(COMPILED)) $(ARGS)

soak: $(READY) ## 10^5 transactions per mode over few servers, 1 GB results and COPY: the long loads
	$(BIN)/python -m tests.soak $(ARGS)

load: $(READY) ## Connections: 2,000 who come and go, 10,000 idle and looked at, 500 that connect for one query (ARGS="--help")
	@if command -v cc >/dev/null; then $(MAKE) --no-print-directory compiled; fi
	$(BIN)/python -m tests.load $$(test -e $(COMPILED)/.ready && echo --compiled $(COMPILED)) $(ARGS)

consistency: $(READY) ## Read-your-writes while standbys' replay is paused at random (ARGS="--level global")
	$(BIN)/python -m tests.consistency $(ARGS)

cache-check: $(READY) ## The query cache's answers, held against what is promised of them (ARGS="--level global")
	$(BIN)/python -m tests.cachecheck $(ARGS)

oracle: $(READY) ## A real standby judges the routing: misroutes, and what stayed needlessly (ARGS="--help")
	$(BIN)/python -m tests.oracle $(ARGS)

state-fuzz: $(READY) ## Clients that share few servers see what each sees on a connection of its own (ARGS="--help")
	$(BIN)/python -m tests.statefuzz $(ARGS)

wire-fuzz: $(READY) ## Mutated streams of clients and of servers: no crash, hang or leak, and nobody else notices (ARGS="--help")
	$(BIN)/python -m tests.wirefuzz $(ARGS)

screenshots: $(READY) ## The pictures of docs/dashboard.md, of a cluster under load (needs chromium)
	$(BIN)/python -m tests.dashboard.screenshots

clean: ## Remove what make made
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
