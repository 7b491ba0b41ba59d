# The commands of this project; each makes what it needs first (the virtual environment, a broker), in this folder only.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
CODE := $(wildcard saga services topics tests infra bench)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
EXAMPLES := $(patsubst services/%/demo.py,%,$(filter-out services/checkout/demo.py,$(wildcard services/*/demo.py)))
.PHONY: help demo $(EXAMPLES:%=demo-%) test check bench lint clean

help:
	@echo "make demo    orders through six services over a real Kafka; KEEP=1 leaves it up;"
	@echo "             SAGA_LOG=file:.demo/log does without Kafka"
	@echo "make demo-NAME   an example: $(EXAMPLES)"
	@echo "make test    everything, on a real Kafka, a real PostgreSQL and a real browser"
	@echo "make check   what needs no server: style, types, the fast tests"
	@echo "make bench   the numbers of docs/PERFORMANCE.md, on this machine; it should have nothing else to do for 8 minutes"
	@echo "make clean   stop what runs in this folder and remove all that was made in it"

demo: $(READY)
	@[ -n "$$SAGA_LOG$$SAGA_BOOTSTRAP" ] || infra/prepare.sh demo
	KEEP=$(KEEP) $(BIN)/python -m services.checkout.demo

$(EXAMPLES:%=demo-%): demo-%: $(READY)
	@[ -n "$$SAGA_LOG$$SAGA_BOOTSTRAP" ] || infra/prepare.sh demo
	KEEP=$(KEEP) $(BIN)/python -m services.$*.demo

test: lint
	@infra/prepare.sh test
	@mkdir -p .cache
	$(BIN)/pytest --basetemp=.cache/pytest

check: lint
	@mkdir -p .cache
	$(BIN)/pytest -n auto --dist loadfile --basetemp=.cache/pytest-check -m "not kafka and not postgresql and not prometheus and not browser and not slow"

bench: $(READY)
	@infra/prepare.sh demo
	$(BIN)/python -m bench

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(CODE)

# The stamp comes last: an environment that was interrupted while it was made is gone over again.
$(READY): requirements.lock pyproject.toml
	@PYTHON=$(PYTHON) infra/prepare.sh python
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

clean:
	@if [ -e .demo/processes.json ] && [ -x $(BIN)/python ]; then $(BIN)/python -m services.checkout.demo --stop; fi
	@if [ -e .cache/broker/broker.pid ] && [ -x $(BIN)/python ]; then $(BIN)/python -m infra.broker down; fi
	rm -rf .venv .cache .demo .mypy_cache .ruff_cache .pytest_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
