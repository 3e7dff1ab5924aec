# Every target that measures or proves prints one JSON object as its last line and writes it to benchmarks/results/.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready
MEMBERS := libs/regather services/gateway services/shard-worker services/aggregator cli
SERVICES := regather-gateway regather-shard-worker regather-aggregator
EXPORT := $(BIN)/uv export --quiet --no-emit-workspace --no-header
PEERS := .venv-peers
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python

.PHONY: help setup up demo test test-all test-compose test-integration fmt lint types arch lock clean bench-smoke bench-memory bench-isolation hostile-shards chaos chaos-sum simulate mutants bench-restore accept-kinds bench-kinds fuzz-records

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  %-17s %s\n", $$1, $$2}'

setup: $(STAMP) ## make the virtual environment with the locked dependencies

$(STAMP): requirements.lock pyproject.toml $(addsuffix /pyproject.toml,$(MEMBERS))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Regather needs Python 3.11 or newer")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.8"
	@$(UV) --require-hashes -r requirements.lock
	@$(UV) --no-deps $(addprefix -e ,$(MEMBERS))
	@touch $(STAMP)

up: $(STAMP) ## start Kafka and the three services, print their URLs, stay until Ctrl-C
	@$(BIN)/regather up

demo: $(STAMP) ## one job of each kind and one poisoned job through the real chain, all verified
	@$(BIN)/regather demo

test: $(STAMP) ## lint, types, import rule, and the tests that are not long, on a real Kafka; ONLY=path: all tests of that file or folder
	@$(BIN)/python tests/run.py $(if $(ONLY),--report test-only $(ONLY),-m "not long")

test-all: $(STAMP) ## as test, with the long tests: killed brokers and services, thousands of seeds, every kind at every cut
	@$(BIN)/python tests/run.py --report test-all

test-compose: $(STAMP) ## docker-compose.yml for real: scaling, a killed container, a plug-in (needs Docker)
	@$(BIN)/python tests/compose/run.py

test-integration: $(STAMP) ## every test that needs Kafka, on KAFKA=docker|embedded|external
	@REGATHER_KAFKA=$(or $(KAFKA),embedded) $(BIN)/python tests/run.py --report test-integration -m kafka

bench-smoke: $(STAMP) ## 10,000 tiny shards and single tiny jobs over HTTP
	@$(BIN)/python benchmarks/bench_smoke.py

bench-memory: $(STAMP) ## how much the gateway grows while it takes large bodies, on each route
	@$(BIN)/python benchmarks/bench_memory.py

bench-isolation: $(STAMP) $(PEERS) ## 1,000 kills and more, cancels, rebalances, lanes; beside it pebble, ProcessPoolExecutor, Celery
	@PEERS_PYTHON=$(PEERS)/bin/python $(BIN)/python benchmarks/bench_isolation.py

$(PEERS): benchmarks/peers-requirements.txt $(STAMP)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEERS)
	@$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python --require-hashes -r benchmarks/peers-requirements.txt
	@command -v redis-server >/dev/null || apt-get install -qq -y redis-server >/dev/null || echo "Celery is left out: it needs redis-server"
	@touch $(PEERS)

bench-restore: $(STAMP) ## how long a killed aggregator takes, against open jobs and against the log
	@$(BIN)/python benchmarks/bench_restore.py

hostile-shards: $(STAMP) ## GOOD=10000 BAD=1000 SEED=1: every fault a shard can have, in one job
	@$(BIN)/python benchmarks/hostile_shards.py --good $(or $(GOOD),10000) --bad $(or $(BAD),1000) --seed $(or $(SEED),1)

chaos: $(STAMP) ## FAULTS=100 SEED=1: brokers and services killed, suspended, starved by a seeded plan; every answer recomputed
	@PYTHONPATH=benchmarks:tests $(BIN)/python -m chaos.run --faults $(or $(FAULTS),100) --seed $(or $(SEED),1)

chaos-sum: $(STAMP) ## add up the slices of `make chaos` of this commit
	@PYTHONPATH=benchmarks:tests $(BIN)/python -m chaos.sum

simulate: $(STAMP) ## SEEDS=1000 FIRST=0 LEVEL=rules|loops: histories with faults in virtual time; SEED=s replays one
	@PYTHONPATH=tests $(BIN)/python -m simulation --level $(or $(LEVEL),rules) $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000) --first $(or $(FIRST),0))

fuzz-records: $(STAMP) ## RECORDS=100000 FIRST=0: odd records in every topic, beside jobs that must all be right
	@PYTHONPATH=tests $(BIN)/python -m fuzz_records --records $(or $(RECORDS),100000) --first $(or $(FIRST),0)

mutants: $(STAMP) ## every broken build in tests/mutants is caught by the simulation; ONLY="no-fence ..." tries some
	@PYTHONPATH=tests $(BIN)/python -m mutants $(if $(ONLY),--only $(ONLY))

accept-kinds: $(STAMP) ## ONLY=table,image SEED=1 SIZES=1024,default,one FAST=1 CASES=folder: every kind's answers against independent programs
	@PYTHONPATH=tests $(BIN)/python -m accept_kinds $(if $(ONLY),--only "$(ONLY)") --seed $(or $(SEED),1) $(if $(SIZES),--sizes $(SIZES)) $(if $(FAST),--fast) $(if $(CASES),--cases $(CASES))

bench-kinds: $(STAMP) ## ROUNDS=3 ONLY=csv,...: CPU and wall time of the kinds beside DuckDB, Polars, pandas in one run
	@PYTHONPATH=benchmarks $(BIN)/python -m bench_kinds --rounds $(or $(ROUNDS),3) $(if $(ONLY),--only "$(ONLY)")

fmt: $(STAMP) ## format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: $(STAMP) ## check format and lint
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(STAMP) ## strict type check
	@$(BIN)/mypy

arch: $(STAMP) ## import rule
	@PYTHONPATH=tests $(BIN)/lint-imports

lock: $(STAMP) ## resolve the dependencies anew into requirements.lock
	@$(BIN)/uv lock --quiet --upgrade
	@$(EXPORT) --all-packages --all-extras -o requirements.lock
	@$(EXPORT) --no-dev $(addprefix --package ,$(SERVICES)) -o deploy/docker/requirements.lock
	@$(EXPORT) --only-group builders -o deploy/docker/builders.lock

clean: ## remove the virtual environment and all caches
	@rm -rf .venv .venv-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
