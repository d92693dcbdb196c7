# SPDX-License-Identifier: Apache-2.0
"""What the tests of the knowledge share, and the line on precision and recall that ends a run."""

import json
import pathlib
import subprocess

import pytest

from conftest import MEMWATCH, ROOT, clean_environment

RECORDS = ROOT / "knowledge" / "records"
NEGATIVES = pathlib.Path(__file__).parent / "negatives.txt"


@pytest.fixture
def diagnose(tmp_path):
    """diagnose(text or bytes, *arguments, code=0) -> the diagnosis of a log, as JSON is read"""

    def run(log, *arguments, code=0):
        path = tmp_path / "a.log"
        path.write_bytes(log if isinstance(log, bytes) else log.encode())
        done = subprocess.run(
            [MEMWATCH, "diagnose", "--json", *map(str, arguments), path],
            env=clean_environment(),
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == code, done.stderr.decode(errors="replace")
        return json.loads(done.stdout)

    return run


def pytest_terminal_summary(terminalreporter):
    # Workers of pytest-xdist hand these on with their reports.
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for name, value in report.user_properties:
            if name == "corpus" and report.when == "call":
                terminalreporter.write_line(f"knowledge: {value}")
