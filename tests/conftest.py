# SPDX-License-Identifier: Apache-2.0
"""What every test has at hand: programs run under the library, their reports, and the simulated
GPU's own books to compare them with.

Each run gets folders of its own for reports, ledgers and books, so that tests may run side by side
and nothing is left in the shared ledger directories.
"""

import dataclasses
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import jsonschema
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("B", ROOT / "build")).resolve()
DEPS = pathlib.Path(os.environ.get("DEPS_DIR", BUILD)).resolve()
SANITIZE = os.environ.get("SANITIZE", "")
LIBRARY = BUILD / "libmemwatch.so"
MEMWATCH = BUILD / "memwatch"
SIMGPU = BUILD / "simgpu"

# How long a report may take to appear after its process has ended.
REPORT_TIMEOUT = 10.0

needs_plain_build = pytest.mark.skipif(
    SANITIZE != "", reason="a sanitized build carries the sanitizer's own libraries and symbols"
)

sys.path.insert(0, str(ROOT / "tests" / "simgpu"))


# --- running -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Result:
    """One program's run: how it ended and what is there afterwards."""

    pid: int
    returncode: int
    stdout: str
    stderr: str
    folder: pathlib.Path

    @property
    def reports(self):
        """All reports of the run, children's included, by process id."""
        found = (load_report(path) for path in (self.folder / "reports").glob("memwatch.*.json"))
        return {report["process"]["pid"]: report for report in found}

    @property
    def report(self):
        """The final report of the started process itself; waits for it."""
        return wait_for(lambda: self._final_report(), f"a final report of process {self.pid}")

    @property
    def ledgers(self):
        return sorted((self.folder / "ledgers").glob("memwatch.*.ledger"))

    @property
    def books(self):
        """The simulated GPU's own books of the started process."""
        return self.books_of(self.pid)

    def books_of(self, pid):
        import books

        return books.read(str(self.folder / f"books.{pid}"))

    def _final_report(self):
        # The monitor writes interim reports too; the last one comes with the ledger's removal. (That
        # may be where it is not seen from here.)
        if any(f".{self.pid}." in path.name for path in self.ledgers):
            return None
        report = self.reports.get(self.pid)
        return report if report and report["process"]["exit"]["kind"] != "running" else None


def wait_for(answer, what, timeout=REPORT_TIMEOUT):
    """The first true answer within the time; the test fails otherwise."""
    end = time.monotonic() + timeout
    while True:
        found = answer()
        if found:
            return found
        if time.monotonic() > end:
            pytest.fail(f"there was no {what} within {timeout} s")
        time.sleep(0.02)


def sanitizer_runtimes():
    """A sanitizer's runtime must be the first library of a process that loads sanitized code."""
    wanted = {"address": "libasan.so", "undefined": "libubsan.so", "thread": "libtsan.so"}
    compiler = os.environ.get("CC", "cc").split()
    for name in filter(None, SANITIZE.split(",")):
        query = [*compiler, f"-print-file-name={wanted[name]}"]
        yield os.path.realpath(subprocess.check_output(query, text=True).strip())
    if SANITIZE == "thread":
        yield str(BUILD / "tests" / "hazards" / "libsanitized.so")


def clean_environment():
    """Ours without what would change the outcome of a run."""
    ours = re.compile(r"^(MEMWATCH_|SIMGPU_|LD_PRELOAD$|MAKE)")
    environment = {name: value for name, value in os.environ.items() if not ours.match(name)}
    path = [str(SIMGPU), environment.get("LD_LIBRARY_PATH", "")]
    environment["LD_LIBRARY_PATH"] = ":".join(filter(None, path))
    if SANITIZE:
        # What the tests do on purpose (crash, leak) stays what it is without the sanitizer.
        options = "detect_leaks=0:handle_segv=0:handle_abort=0:handle_sigbus=0:exitcode=66"
        environment["ASAN_OPTIONS"] = options
        environment["TSAN_OPTIONS"] = f"{options}:suppressions={ROOT}/tests/tsan.supp"
        environment["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1"
    return environment


@dataclasses.dataclass
class Started:
    """A program that may still be running."""

    process: subprocess.Popen
    folder: pathlib.Path

    def finish(self, timeout=60):
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            out, err = self.process.communicate()
            pytest.fail(f"{self.process.args} ran longer than {timeout} s:\n{out}{err}")
        return Result(self.process.pid, self.process.returncode, out, err, self.folder)


@pytest.fixture
def start_watched(tmp_path_factory):
    """start_watched(argv, env=None, mode="preload", cwd=None) -> Started

    mode: "preload" (LD_PRELOAD), or "none" for the same surroundings without the library.
    A value of None in env takes the variable away.
    """
    started = []

    def start(argv, env=None, mode="preload", cwd=None):
        folder = tmp_path_factory.mktemp("run")
        for name in ("reports", "ledgers"):
            (folder / name).mkdir()
        environment = clean_environment()
        environment.update(
            MEMWATCH_DIR=str(folder / "reports"),
            MEMWATCH_LEDGER_DIR=str(folder / "ledgers"),
            SIMGPU_BOOKS=str(folder / "books.%p"),
        )
        preload = [*sanitizer_runtimes(), *([str(LIBRARY)] if mode == "preload" else [])]
        if preload:
            environment["LD_PRELOAD"] = ":".join(preload)
        for name, value in (env or {}).items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = str(value)
        process = subprocess.Popen(
            [str(argument) for argument in argv],
            env=environment,
            cwd=cwd or folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        started.append(Started(process, folder))
        return started[-1]

    yield start
    for run in started:
        if run.process.poll() is None:
            os.killpg(run.process.pid, signal.SIGKILL)
            run.process.communicate()


@pytest.fixture
def run_watched(start_watched):
    """run_watched(argv, env=None, mode="preload", cwd=None, timeout=60) -> Result"""

    def run(argv, env=None, mode="preload", cwd=None, timeout=60):
        return start_watched(argv, env, mode, cwd).finish(timeout)

    return run


@pytest.fixture
def memwatch():
    """memwatch(*arguments, env=None, cwd=None) -> the finished memwatch program"""

    def run(*arguments, env=None, cwd=None, timeout=60):
        return subprocess.run(
            [str(MEMWATCH), *map(str, arguments)],
            env={**clean_environment(), **{k: str(v) for k, v in (env or {}).items()}},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )

    return run


# --- judging -----------------------------------------------------------------------------------


@functools.cache
def report_schema():
    schema = json.loads((ROOT / "report" / "schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def load_report(path):
    """The report in a file; the test fails if it is not as report/schema.json says."""
    report = json.loads(pathlib.Path(path).read_text())
    errors = [f"{error.json_path}: {error.message}" for error in report_schema().iter_errors(report)]
    assert not errors, f"{path} is not valid by report/schema.json: " + "; ".join(errors[:5])
    return report


# The report's name for each number that the simulated GPU's books keep.
BOOKED = {
    "live": "live_bytes",
    "peak": "peak_bytes",
    "allocated_bytes": "allocated_bytes",
    "allocs": "allocations",
    "frees": "frees",
    "failed": "failed",
}


def compare_with_books(report, books):
    """The report's totals must be the simulated GPU's, per device and space, number by number."""
    # Tensors lie inside what the GPU handed out; it knows nothing of them.
    totals = [row for row in report["totals"] if row["space"] != "tensor"]
    ours = {(row["device"], row["space"]): row for row in totals}
    # What a pool holds back is no allocation: it has no row among the totals.
    theirs = {key: row for key, row in books.items() if key[1] != "pool_reserved"}
    differences = []
    for key in sorted(ours.keys() | theirs.keys()):
        for book_name, report_name in BOOKED.items():
            recorded = ours.get(key, {}).get(report_name, 0)
            true = theirs.get(key, {}).get(book_name, 0)
            if recorded != true:
                differences.append(f"device {key[0]}, {key[1]}: {report_name} {recorded}, true {true}")
    assert not differences, "the report differs from the GPU's books:\n" + "\n".join(differences)


# --- C unit tests ------------------------------------------------------------------------------


class UnitProgram(pytest.Item):
    """One cmocka program of tests/unit; its own output says which of its tests failed."""

    def runtest(self):
        program = BUILD / "tests" / "unit" / self.name
        assert program.exists(), f"{program} is not built: run `make everything`"
        done = subprocess.run(
            [program], env=clean_environment(), capture_output=True, text=True, errors="replace"
        )
        if done.returncode != 0:
            pytest.fail(f"exit status {done.returncode}\n{done.stdout}{done.stderr}", pytrace=False)

    def reportinfo(self):
        return self.path, 0, f"unit: {self.name}"


class UnitSource(pytest.File):
    def collect(self):
        yield UnitProgram.from_parent(self, name=self.path.stem)


def pytest_collect_file(file_path, parent):
    if file_path.parent.name == "unit" and file_path.match("test_*.c"):
        return UnitSource.from_parent(parent, path=file_path)
    return None
