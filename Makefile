# Two commands do everything: `make run` starts the demo fleet, `make test` runs all checks and tests.
# Both install what they need into .venv; `make test` also installs Debian's servers when run as root.

PYTHON ?= python3
BIN := .venv/bin
SERVERS := prometheus prometheus-alertmanager victoria-metrics chromium docker-compose
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
export no_proxy := localhost,127.0.0.1

.PHONY: run test check format bench bench-quick soak clean servers

run: .venv/server.stamp
	exec $(BIN)/aggregator demo

test: check servers
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv data dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.venv/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up .venv: once, about a minute"
	@if ! $(PYTHON) -m venv .venv; then \
	    [ "$$(id -u)" = 0 ] || { echo "install Debian's python3-venv first: sudo apt-get install python3-venv" >&2; exit 1; }; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv && $(PYTHON) -m venv .venv; \
	fi
	@touch $@

.venv/server.stamp: .venv/python.stamp pyproject.toml constraints.txt
	@$(PIP) install -c constraints.txt -e '.[server]'
	@touch $@

.venv/dev.stamp: .venv/python.stamp pyproject.toml constraints.txt
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@ .venv/server.stamp

# Root installs the missing servers; anybody else is told, and the tests that need one skip.
servers:
	@missing=; for program in $(SERVERS); do command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing$$missing"; \
	    apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null 2>&1 \
	        || { echo "apt-get could not install$$missing" >&2; exit 1; }; \
	elif [ -n "$$missing" ]; then echo "not installed:$$missing (their tests will skip; as root make test installs them)"; fi

# Benchmarks: one target each, all write their rows into docs/BENCHMARKS.md.
BENCHES := collect fleet profile churn query query.labels
bench: $(BENCHES:%=bench-%)
$(BENCHES:%=bench-%): bench-%: .venv/dev.stamp servers
	$(BIN)/python -m tests.benchmarks.$*
bench-quick: .venv/dev.stamp servers
	for bench in $(BENCHES); do $(BIN)/python -m tests.benchmarks.$$bench --quick || exit 1; done
soak: .venv/dev.stamp servers
	$(BIN)/python -m tests.benchmarks.soak
