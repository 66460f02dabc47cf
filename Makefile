# make quickstart   what make tiny does
# make tiny         install, train the tiny model, report on drawn people it never saw (about 8 minutes on 2 cores)
# make test         install the test extras and run the whole suite; ARGS="-m 'not slow'" passes options to pytest
# make lint         ruff's checks and formatting
# make clean        remove the environment, the runs and the caches
#
# PYTHON=python3.12 picks another interpreter than the first one found that is new enough.

VENV := .venv
BIN := $(VENV)/bin
RUN := runs/tiny
ARGS ?=
# a test that hangs ends after a quarter of an hour, with the place where each of its threads stands
HANG := -o faulthandler_timeout=900 -o faulthandler_exit_on_timeout=true
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c '$(NEW_ENOUGH)' 2>/dev/null && echo "$$python" && break; done)

.PHONY: quickstart tiny test lint clean
.DELETE_ON_ERROR:

quickstart: tiny

tiny: $(VENV)/.installed
	$(BIN)/python -m mmjax.train --config configs/tiny.py --workdir $(RUN)
	$(BIN)/python -m mmjax.tiny --workdir $(RUN) --overwrite

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(HANG) $(ARGS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) .libtpu runs .data build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "mmjax needs Python 3.11 or newer and found none; name it with PYTHON=..."; exit 2; }
	"$(PYTHON)" -c '$(NEW_ENOUGH)' || { echo "mmjax needs Python 3.11 or newer; $(PYTHON) is older"; exit 2; }
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(BIN)/python
	@echo "installing what requirements.txt names into $(VENV) (about a minute)"
	@$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

# torch goes in first and by its exact pin, so that nothing else settles which of its builds is taken
$(VENV)/.installed-test: requirements.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet "$$(grep -o 'torch==[0-9.]*' pyproject.toml)"
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps face_recognition==1.3.0 # its dlib would be built from source
	touch $(VENV)/.installed $@

# the TPU's compiler that this JAX asks for, in a folder of its own: JAX looks for TPUs wherever it finds one
FITTING := from importlib.metadata import requires; print(*(r.split(";")[0] for r in requires("jax") if "libtpu" in r))
.libtpu/.installed: | $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --no-deps --target .libtpu "$$($(BIN)/python -c '$(FITTING)')"
	touch $@

$(VENV)/.installed-lint: | $(BIN)/python
	$(BIN)/python -m pip install --quiet 'ruff>=0.17,<0.18'
	touch $@
