"""Schemathesis over the server's OpenAPI document: no answer is one that the document does not name."""

import os
import re
import subprocess
import sys
from pathlib import Path

from polytag.models.exported import Exported

SETTINGS = """
seed = 0
continue-on-failure = true
suppress-health-check = ["too_slow", "filter_too_much"]

[generation]
max-examples = 6
deterministic = true
database = "none"
no-shrink = true

[checks]
negative_data_rejection.expected-statuses = ["400", "401", "403", "404", "405", "413", "415", "422"]

[phases.stateful]
enabled = false

# Base64 of no image, and bytes that are no image, are refused, as the description says.
[[operations]]
include-method = "POST"
checks.positive_data_acceptance.enabled = false

[dictionaries]
name = {{ values = ["{name}"] }}
version = {{ values = ["{version}"] }}

[parameters]
"path.name" = {{ dictionary = "name", probability = 0.95 }}
"path.version" = {{ dictionary = "version", probability = 0.95 }}
"""


def test_every_answer_is_one_that_the_document_names(server, small_export: Exported, tmp_path: Path):
    (tmp_path / "schemathesis.toml").write_text(SETTINGS.format(name=small_export.folder.name, version=small_export.id))
    command = [sys.executable, "-m", "schemathesis.cli", "--no-color", "run", f"{server.url}/openapi.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Selected: ([1-9]\d*)/\d+\n +Tested: \1\n", done.stdout), done.stdout
