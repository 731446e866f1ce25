# Everything a newcomer needs is `make demo` and `make test`; both set up .venv the first time and spend no time on it afterwards.
# A machine needs Python 3.11 or newer with pip, and the ordinary Python registry. No GPU, no account, no model hub.

PYTHON ?= python3
UV_VERSION := 0.13.9
UV := PYTHONPATH= UV_SYSTEM_CERTS=1 UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 .tools/bin/uv
READY := .venv/.ready
DOCS_READY := .venv-docs/.ready

.PHONY: demo test check bench docs snippets lock format clean

demo: $(READY)  ## train, judge and report on handwriting scenes made on the spot (under three minutes)
	.venv/bin/polytag demo

test: $(READY)  ## every test
	.venv/bin/python -m pytest

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

format: $(READY)
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

lock: .tools/bin/uv  ## resolve requirements.lock and requirements-docs.lock again from pyproject.toml
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --no-emit-find-links --group dev --custom-compile-command "make lock" -o requirements.lock pyproject.toml
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --no-emit-find-links --group docs --custom-compile-command "make lock" -o requirements-docs.lock

$(READY): requirements.lock pyproject.toml Makefile
	@echo "polytag: setting up .venv (once; about a minute, mostly the download of PyTorch)"
	@$(MAKE) --no-print-directory .tools/bin/uv
	@test -x .venv/bin/python || $(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	$(UV) pip sync --quiet --compile-bytecode --require-hashes --python .venv/bin/python requirements.lock
	$(UV) pip install --quiet --no-deps --python .venv/bin/python --editable .
	@touch $(READY)
	@echo "polytag: .venv is ready"

# The site's tools have an environment of their own: they need no PyTorch, and nothing else needs them.
$(DOCS_READY): requirements-docs.lock
	@$(MAKE) --no-print-directory .tools/bin/uv
	@test -x .venv-docs/bin/python || $(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv-docs
	$(UV) pip sync --quiet --compile-bytecode --require-hashes --python .venv-docs/bin/python requirements-docs.lock
	@touch $(DOCS_READY)

.tools/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "polytag needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore --target .tools uv==$(UV_VERSION)

clean:
	rm -rf .venv .venv-docs .tools site
