# `make help` tells what there is. Everything lives in .venv; pip and apt use the machine's own settings.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check

# The first Python that is new enough and can make a virtual environment; the distribution's own by preference.
CAN_VENV := import sys, venv, ensurepip; raise SystemExit(sys.version_info < (3, 11))
find_python = for p in $(PYTHON) /usr/bin/python3 python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(CAN_VENV)' 2>/dev/null && echo $$p && break; done

NO_PYTHON := make: no Python >= 3.11 with venv found: apt-get install python3-venv, or name one: make PYTHON=...

TEST_PACKAGES := prometheus prometheus-alertmanager prometheus-node-exporter victoria-metrics chromium openssl curl \
	nginx-light caddy \
	python3-venv gcc libc6-dev
CONTAINER_PACKAGES := podman buildah runc conmon netavark aardvark-dns iptables mmdebstrap
BENCH_PACKAGES := gcc libc6-dev openssl wrk nginx-light haproxy prometheus

# Tests wait on real programs more than they compute: more workers than cores is right.
WORKERS ?= 4
ARGS ?=

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(VENV)/.promgate ## the virtual environment in .venv, with all that the tests need

.PHONY: packages
packages: ## the Debian packages the tests use (those that are missing; nothing is started)
	@tests/kit/install.sh $(TEST_PACKAGES)

.PHONY: senders
senders: $(VENV)/.senders ## the senders that are tested against, in an environment of their own

.PHONY: scanner
scanner: $(VENV)/.scanner ## the scanner of TLS that listeners are held against, in an environment of its own

.PHONY: proxies
proxies: $(VENV)/.proxies ## Traefik and Envoy, which ask promgate about what they relay, in an environment of their own

.PHONY: providers
providers: $(VENV)/.providers ## the providers of tokens that are tested against: programs of Node, in .venv/providers

.PHONY: test
test: check packages senders scanner proxies providers ## all of it: check, then every test, against real Prometheus, Alertmanager and vmagent
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=worksteal $(ARGS)

.PHONY: soak
soak: packages venv providers ## what takes minutes: a hundred rotations, an agent held for three, a million addresses, an outage
	PROMGATE_SLOW_S=$(or $(SLOW_S),900) $(BIN)/pytest --timeout=0 -k slow_reader tests/relay/test_streaming.py $(ARGS)
	PROMGATE_SOAK=1 PROMGATE_HOLD_S=$(or $(HOLD_S),180) PROMGATE_ROTATIONS=$(or $(ROTATIONS),100) $(BIN)/pytest --timeout=0 \
		--numprocesses=2 tests/e2e/test_rotation_life.py tests/e2e/test_hold.py tests/e2e/test_oauth2_agent.py \
		tests/stores/test_sqlite_faults.py tests/audit/test_faults.py tests/desk/test_faults.py $(ARGS)
	PROMGATE_SOAK=1 $(BIN)/pytest --timeout=0 tests/e2e/test_bounds.py tests/e2e/test_reload.py $(ARGS)
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) demo-test; else echo 'make demo-test was not tried: it needs root' >&2; fi

.PHONY: fuzz
fuzz: venv fuzz-api ## play 50,000 streams against the independent reading of the RFCs (FUZZ=n: that many), and fuzz-api
	PROMGATE_FUZZ=$(or $(FUZZ),50000) $(BIN)/pytest --timeout=0 tests/attacks/test_reference.py $(ARGS)

.PHONY: fuzz-api
fuzz-api: venv $(VENV)/.fuzz ## play the admin API by its own description, with schemathesis (EXAMPLES=n for each operation)
	$(BIN)/python -m tests.e2e.fuzz_admin_api $(VENV)/fuzz/bin/schemathesis $(EXAMPLES)

.PHONY: check
check: packages venv ## ruff and mypy
	$(BIN)/ruff check proxy tests bench demo
	$(BIN)/mypy
	$(BIN)/mypy tests/kit tests/e2e demo

# The shell becomes the demo, which dies with make: a recipe of its own would leave it behind after kill -9.
.PHONY: demo
demo: ## all parts on this machine, and a token rotated while you watch (ONCE=1: and then ends)
	@python=$$($(find_python)); [ -n "$$python" ] || { echo '$(NO_PYTHON)' >&2; exit 1; }; \
	exec setpriv --pdeathsig KILL -- "$$python" -m demo --venv=$(VENV) \
		$(if $(ONCE),--once,$(if $(DEMO_SECONDS),--seconds=$(DEMO_SECONDS))) $(ARGS)

.PHONY: demo-test
demo-test: venv ## `make demo` on a Debian made for it, with python3-venv, make and git alone (three minutes); needs root
	@tests/kit/install.sh mmdebstrap
	$(BIN)/python -m tests.containers fresh

.PHONY: bench
bench: packages venv $(VENV)/.bench ## measure against nginx, HAProxy and Caddy (QUICK=1: two minutes; PUBLISH=1: into docs/performance.md)
	@tests/kit/install.sh $(BENCH_PACKAGES)
	$(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(PUBLISH),--publish) $(ARGS)

.PHONY: container-packages
container-packages: ## the Debian packages that `make image` and `make compose-test` use (those that are missing)
	@tests/kit/install.sh $(CONTAINER_PACKAGES)

.PHONY: image
image: packages container-packages venv ## build the Dockerfile on a base made here (no registry), and check it; needs root
	$(BIN)/python -m tests.containers image

.PHONY: compose-test
compose-test: packages container-packages venv ## the same, then run docker-compose.yml and check who gets in; needs root
	$(BIN)/python -m tests.containers compose

.PHONY: requirements
requirements: venv ## resolve the pins anew (UPGRADE=1: to the newest versions), with hashes and nothing of this machine
	@requirements/resolve.sh $(BIN)/python $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean: ## remove what make made
	rm -rf $(VENV) .demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.test: requirements/test.txt | packages
	@python=$$($(find_python)); \
	[ -n "$$python" ] || { echo '$(NO_PYTHON)' >&2; exit 1; }; \
	$$python -m venv --clear $(VENV)
	$(PIP) install --require-hashes -r requirements/test.txt
	@touch $@

$(VENV)/.promgate: pyproject.toml $(VENV)/.test
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.senders: requirements/senders.txt $(VENV)/.test
	$(BIN)/python -m venv --clear $(VENV)/senders
	$(VENV)/senders/bin/python -m pip --quiet --quiet --disable-pip-version-check install --require-hashes \
		-r requirements/senders.txt
	@touch $@

$(VENV)/.scanner: requirements/scan.txt $(VENV)/.test
	$(BIN)/python -m venv --clear $(VENV)/scanner
	$(VENV)/scanner/bin/python -m pip --quiet --quiet --disable-pip-version-check install --require-hashes \
		-r requirements/scan.txt
	@touch $@

$(VENV)/.proxies: requirements/proxies.txt $(VENV)/.test
	$(BIN)/python -m venv --clear $(VENV)/proxies
	$(VENV)/proxies/bin/python -m pip --quiet --quiet --disable-pip-version-check install --require-hashes \
		-r requirements/proxies.txt
	@touch $@

# npm uses the machine's own settings, as pip does; no script of a package is run.
$(VENV)/.providers: tests/kit/providers/package.json $(VENV)/.test
	@command -v node >/dev/null && command -v npm >/dev/null || tests/kit/install.sh nodejs npm
	@mkdir -p $(VENV)/providers && cp $< $(VENV)/providers/
	npm install --prefix $(VENV)/providers --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error
	@touch $@

$(VENV)/.fuzz: requirements/fuzz.txt $(VENV)/.test
	$(BIN)/python -m venv --clear $(VENV)/fuzz
	$(VENV)/fuzz/bin/python -m pip --quiet --quiet --disable-pip-version-check install --require-hashes \
		-r requirements/fuzz.txt
	@touch $@

$(VENV)/.bench: requirements/bench.txt $(VENV)/.test
	$(PIP) install --require-hashes -r requirements/bench.txt
	@touch $@
