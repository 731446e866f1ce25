# Everything a newcomer needs is `make demo` and `make test`; both set up .venv the first time and spend no time on it afterwards.
# A machine needs Python 3.11 or newer with pip, and the ordinary Python registry. No GPU, no account, no model hub.

PYTHON ?= python3
UV_VERSION := 0.13.9
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder  # tests/conftest.py puts long files first
UV := PYTHONPATH= UV_SYSTEM_CERTS=1 UV_PYTHON_DOWNLOADS=never .tools/bin/uv
COMPILE := $(UV) pip compile --quiet --no-emit-index-url --no-emit-find-links --no-annotate
READY := .venv/.ready
DOCS_READY := .venv-docs/.ready
LOWEST := .venv-lowest
FAST := tests/data tests/metrics tests/package tests/predictions tests/laws/test_repository.py $(wildcard tests/test_*.py)

.PHONY: demo test test-fast test-lowest check bench docs snippets build lock format clean

demo: $(READY)  ## train, judge and report on handwriting scenes made on the spot (three to four minutes)
	.venv/bin/polytag demo

test: $(READY)  ## every test, in two processes
	.venv/bin/python -m pytest $(PARALLEL)

test-fast: $(READY)  ## the rooms that need no PyTorch, without the slow tests and the real photographs (under a minute)
	.venv/bin/python -m pytest $(PARALLEL) -m "not slow and not browser" -k "not photographs and not torchvision" $(FAST)

test-lowest: $(LOWEST)/.ready  ## every test but the browser's, with the oldest versions that pyproject.toml allows
	$(LOWEST)/bin/python -m pytest $(PARALLEL) -m "not browser" -W "ignore:'click.utils:DeprecationWarning"  # old Typer, new click

check: $(READY)  ## formatting, lint, types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/pyright

bench: $(READY)  ## side-by-side measurements; results go to benchmarks/results
	.venv/bin/python benchmarks/run_all.py

docs: $(DOCS_READY)  ## the documentation as a site in site/; a broken link fails it
	.venv-docs/bin/python docs/site/build.py site

snippets: $(READY)  ## run every snippet of the documentation
	.venv/bin/python -m pytest tests/laws/test_docs.py

build: $(READY)  ## dist/: the sdist, and the wheel that is built from it, with the locked build tools
	$(UV) build --no-build-isolation --no-create-gitignore --clear --python .venv/bin/python --out-dir dist .

format: $(READY)
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

lock: .tools/bin/uv  ## resolve requirements.lock again from pyproject.toml, and take the hashes of uv $(UV_VERSION)
	$(COMPILE) --universal --python-version 3.11 --generate-hashes --extra all --group dev \
	  --custom-compile-command "make lock" -o requirements.lock pyproject.toml
	echo "uv==$(UV_VERSION)" | $(COMPILE) --universal --generate-hashes \
	  --custom-compile-command "make lock" -o requirements-uv.lock -
	$(COMPILE) --universal --python-version 3.11 --generate-hashes --group docs \
	  --custom-compile-command "make lock" -o requirements-docs.lock

$(READY): requirements.lock pyproject.toml Makefile
	@echo "polytag: setting up .venv, once. On Linux x86-64 this downloads 3.5 GB from the Python registry, nearly all of it PyTorch"
	@echo "polytag: and CUDA, and takes 6.9 GB of the disk; on macOS and Windows under 0.5 GB. docs/howto/install.md: without CUDA."
	@$(MAKE) --no-print-directory .tools/bin/uv
	@test -x .venv/bin/python || $(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	$(UV) pip sync --compile-bytecode --require-hashes --python .venv/bin/python requirements.lock
	$(UV) pip install --quiet --no-deps --no-build-isolation --python .venv/bin/python --editable .
	@touch $(READY)
	@echo "polytag: .venv is ready"

# The site's tools have an environment of their own: they need no PyTorch, and nothing else needs them.
$(DOCS_READY): requirements-docs.lock
	@$(MAKE) --no-print-directory .tools/bin/uv
	@test -x .venv-docs/bin/python || $(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv-docs
	$(UV) pip sync --quiet --compile-bytecode --require-hashes --python .venv-docs/bin/python requirements-docs.lock
	@touch $(DOCS_READY)

$(LOWEST)/.ready: pyproject.toml Makefile
	@$(MAKE) --no-print-directory .tools/bin/uv
	$(UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(LOWEST)
	$(COMPILE) --resolution lowest-direct --python $(LOWEST)/bin/python --generate-hashes --extra all --group dev \
	  --custom-compile-command "make test-lowest" -o $(LOWEST)/requirements.txt pyproject.toml
	$(UV) pip sync --compile-bytecode --require-hashes --python $(LOWEST)/bin/python $(LOWEST)/requirements.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation --python $(LOWEST)/bin/python --editable .
	@touch $@

.tools/bin/uv: requirements-uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "polytag needs Python 3.11 or newer; set PYTHON=python3.11")'
	@echo "polytag: pip install --require-hashes uv==$(UV_VERSION) into .tools (26 MB), which installs the rest"
	@$(PYTHON) -m pip install --quiet --require-hashes --disable-pip-version-check --no-warn-script-location \
	  --root-user-action=ignore --upgrade --target .tools -r requirements-uv.lock
	@touch $@

clean:
	rm -rf .venv .venv-docs $(LOWEST) .tools dist site
