# SPDX-License-Identifier: Apache-2.0
"""Nothing that goes wrong on our side reaches the watched program: with each of these faults its
output and its end are those of a run without the library, and what was lost stands in the report."""

import functools
import os
import random
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from conftest import (
    BUILD,
    LIBRARY,
    MEMWATCH,
    SANITIZE,
    SIMGPU,
    clean_environment,
    compare_with_books,
    load_report,
    wait_for,
)

PROGRAM = BUILD / "tests" / "endtoend" / "faults"
COMPILER = os.environ.get("CC", "cc").split()
# No process of the machine has this number for a user: it is refused every file and every process.
NOBODY = 54321
BLOCKS = 1000
MANY_BLOCKS = 200_000  # more than the table's first part holds

plain_build = pytest.mark.skipif(bool(SANITIZE), reason="a sanitizer needs what is taken away here")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@functools.cache
def own_mounts_permitted():
    tried = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    return tried.returncode == 0


def mounted(*mounts):
    """The words before a command so that it runs with mounts of its own."""
    if not own_mounts_permitted():
        pytest.skip("unshare -m with mount is not permitted here")
    return ["unshare", "-m", "sh", "-ec", "\n".join([*mounts, 'exec "$@"']), "sh"]


def limited(limits):
    return ["bash", "-c", f'{limits} && exec "$@"', "bash"]


def as_nobody():
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def outcome(result):
    return result.returncode, result.stdout, result.stderr


@pytest.fixture
def run_both(run_watched):
    """run_both(argv, env=None, cwd=None) -> Result of the watched run, which must look like the other."""

    def run(argv, env=None, cwd=None):
        alone = run_watched(argv, env=env, mode="none", cwd=cwd)
        watched = run_watched(argv, env=env, cwd=cwd)
        assert outcome(watched) == outcome(alone)
        assert "errno changed: 0\n" in watched.stdout, "the program did not come to its end"
        return watched

    return run


@pytest.fixture
def public_folder():
    """A folder that every user may enter, with what a run needs: the test's own are root's alone."""
    with tempfile.TemporaryDirectory(prefix="memwatch-test.") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for path in (PROGRAM, LIBRARY, MEMWATCH, SIMGPU / "libcuda.so.1"):
            shutil.copy(path, folder)
        yield folder


@pytest.fixture
def writable_folder(public_folder):
    folder = public_folder / "writable"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    return folder


def public_environment(folder, **more):
    return {
        "LD_LIBRARY_PATH": folder,
        "SIMGPU_BOOKS": None,
        "HOME": folder,
        **more,
    }


def reports_in(folder):
    return [load_report(path) for path in Path(folder).glob("memwatch.*.json")]


def ledgers_in(folder):
    return sorted(Path(folder).glob("memwatch.*.ledger"))


def report_of(memwatch, ledger):
    """What `memwatch report` makes of a ledger that was left behind."""
    done = memwatch("report", "--format", "json", "--output", f"{ledger}.json", ledger)
    assert done.returncode == 0, done.stderr
    return load_report(f"{ledger}.json")


def losses(report):
    return {kind: loss["count"] for kind, loss in report["coverage"]["losses"].items()}


def has_gpu_memory(report):
    device = [row for row in report["totals"] if row["space"] == "device"]
    return bool(device) and device[0]["allocations"] > BLOCKS


# --- without any fault ---------------------------------------------------------------------------


def test_without_a_fault_the_report_is_complete(run_both):
    result = run_both([PROGRAM, MANY_BLOCKS])
    compare_with_books(result.report, result.books)
    # A free of an address that nobody allocated fails, and a failing free loses nothing.
    assert losses(result.report) == {}


# --- folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("monitor", [0, 1])
@as_root
def test_a_report_folder_that_cannot_be_written_is_replaced_by_another(
    run_both, public_folder, writable_folder, monitor
):
    """Root may write everywhere, hence the other user."""
    refused = public_folder / "refused"
    refused.mkdir()
    environment = public_environment(
        public_folder,
        MEMWATCH_DIR=refused,
        MEMWATCH_LEDGER_DIR=writable_folder,
        MEMWATCH_MONITOR=monitor,
        LD_PRELOAD=None,
    )
    command = [*as_nobody(), "env", f"HOME={writable_folder}"]
    command += [f"LD_PRELOAD={public_folder / LIBRARY.name}", public_folder / PROGRAM.name, BLOCKS]
    alone = [*command[:-3], public_folder / PROGRAM.name, BLOCKS]
    del alone
    run_both(command, env=environment, cwd=writable_folder)
    reports = wait_for(lambda: list(writable_folder.rglob("memwatch.*.json")), "report elsewhere")
    assert has_gpu_memory(load_report(reports[0]))
    assert list(refused.iterdir()) == []
