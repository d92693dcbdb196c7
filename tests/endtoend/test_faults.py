# SPDX-License-Identifier: Apache-2.0
"""Nothing that goes wrong on our side reaches the watched program.

With each of these faults its output and its end are those of a run without the library, and what
was lost stands in the report.
"""

import dataclasses
import functools
import itertools
import os
import random
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest
from conftest import (
    BUILD,
    LIBRARY,
    MEMWATCH,
    SANITIZE,
    SIMGPU,
    Started,
    compare_with_books,
    load_report,
    needs_plain_build,
    wait_for,
)

PROGRAM = BUILD / "tests" / "endtoend" / "faults"
COMPILER = os.environ.get("CC", "cc").split()
# A user that owns nothing: every file refuses it, and it has no process but the test's.
NOBODY = 54321
BLOCKS = 1000
MANY_BLOCKS = 200_000  # more than the table's first part holds

another_user = pytest.mark.skipif(
    os.geteuid() != 0 or bool(SANITIZE), reason="needs root, to become another user; no sanitizer"
)


@functools.cache
def may_mount():
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


def with_mounts(*commands):
    """The words before a command that give it mounts of its own."""
    if not may_mount():
        pytest.skip("unshare -m and mount are not permitted here")
    return ["unshare", "-m", "sh", "-ec", "\n".join([*commands, 'exec "$@"']), "sh"]


def with_limits(limits):
    return ["bash", "-c", f'{limits} && exec "$@"', "bash"]


AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def outcome(result):
    return result.returncode, result.stdout, result.stderr


@pytest.fixture
def run_both(run_watched):
    """run_both(argv, env=None, cwd=None, library=None, wrong=None) -> Result of the watched run

    Its outcome must be that of a run without us. library: another copy of it. wrong: the option
    whose value is wrong, which is told in one line.
    """

    def run(argv, env=None, cwd=None, library=None, wrong=None):
        copy = {"LD_PRELOAD": library} if library else {}
        alone = run_watched(argv, env=env, mode="none", cwd=cwd)
        watched = run_watched(argv, env={**(env or {}), **copy}, cwd=cwd)
        if wrong:
            line, watched.stderr = watched.stderr.split("\n", 1)
            assert line.startswith(f"memwatch: {wrong}=") and "the default is used" in line
        assert outcome(watched) == outcome(alone)
        assert "errno changed: 0\n" in watched.stdout, "the program did not come to its end"
        return watched

    return run


@pytest.fixture
def public_folder():
    """A folder that every user may enter, with what a run needs: others are root's alone."""
    with tempfile.TemporaryDirectory(prefix="memwatch-test.") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for path in (PROGRAM, LIBRARY, MEMWATCH, SIMGPU / "libcuda.so.1"):
            shutil.copy(path, folder)
        (folder / "nobodys").mkdir()
        os.chown(folder / "nobodys", NOBODY, NOBODY)
        yield folder


@pytest.fixture
def run_as_nobody(run_both, public_folder):
    """run_as_nobody(env, limits) -> the folder for all that user's files, after a run_both."""

    def run(env, limits="true", **more):
        own = public_folder / "nobodys"
        surroundings = {
            "LD_LIBRARY_PATH": public_folder,
            "SIMGPU_BOOKS": None,
            "HOME": own,
            "MEMWATCH_DIR": own,
            "MEMWATCH_LEDGER_DIR": own,
        }
        command = [*AS_NOBODY, *with_limits(limits), public_folder / PROGRAM.name, "-l", BLOCKS]
        run_both(command, {**surroundings, **env}, own, public_folder / LIBRARY.name, **more)
        return own

    return run


@pytest.fixture
def hold(start_watched, tmp_path):
    """hold(env, blocks=BLOCKS, mode="preload") -> a Held program: awake, with blocks of its own."""
    fifos = (tmp_path / f"go.{i}" for i in itertools.count())

    def start(env, blocks=BLOCKS, mode="preload"):
        fifo = next(fifos)
        os.mkfifo(fifo)
        run = start_watched([PROGRAM, "-w", fifo, blocks], env=env, mode=mode)
        assert run.process.stdout.readline() == "ready\n"
        return Held(run, fifo)

    return start


@dataclasses.dataclass
class Held:
    run: Started
    fifo: Path

    @property
    def ledger(self):
        return wait_for(lambda: ledgers_below(self.run.folder / "ledgers"), "ledger")[0]

    def go_on(self):
        """Lets the program go on to its end, which must be that of a run without us."""
        with open(self.fifo, "w"):
            pass
        result = self.run.finish()
        assert outcome(result) == UNHARMED
        return result


# `faults` without us, after its "ready": test_what_unharmed_is.
UNHARMED = (3, "failed: 564, errno changed: 0\n", "")


def reports_below(folder):
    return [load_report(path) for path in Path(folder).rglob("memwatch.*.json")]


def ledgers_below(folder):
    return sorted(Path(folder).rglob("memwatch.*.ledger"))


@pytest.fixture
def report_of(memwatch):
    """What `memwatch report` makes of a ledger that was left behind."""

    def read(ledger):
        output = Path(f"{ledger}.as.json")
        done = memwatch("report", "--format", "json", "--output", output, ledger)
        assert done.returncode == 0, done.stderr
        return load_report(output)

    return read


def losses(report):
    return {kind: loss["count"] for kind, loss in report["coverage"]["losses"].items()}


def totals(report, space="device"):
    (row,) = [row for row in report["totals"] if row["space"] == space]
    return row


def is_of_the_whole_run(report):
    return totals(report)["allocations"] > BLOCKS and losses(report) == {}


def assert_agrees(report, books):
    """As compare_with_books, but for peaks: threads that allocate and free at the same time meet
    in one order in the GPU and in another in the recorder."""
    for row in report["totals"]:
        books[row["device"], row["space"]]["peak"] = row["peak_bytes"]
    compare_with_books(report, books)


def test_what_unharmed_is(hold):
    hold({}, mode="none").go_on()


def test_without_a_fault_the_report_is_complete(run_both):
    result = run_both([PROGRAM, MANY_BLOCKS])
    assert_agrees(result.report, result.books)
    assert losses(result.report) == {}


# --- folders and files ---------------------------------------------------------------------------


@another_user
@pytest.mark.parametrize("monitor", [0, 1])
def test_a_report_folder_that_cannot_be_written_is_told_and_replaced(run_as_nobody, public_folder, monitor):
    refused = public_folder / "refused"
    refused.mkdir()
    environment = {"MEMWATCH_DIR": refused, "MEMWATCH_MONITOR": monitor}
    own = run_as_nobody(environment, wrong="MEMWATCH_DIR")
    (report,) = wait_for(lambda: reports_below(own), "report in another folder")
    assert is_of_the_whole_run(report)
    assert list(refused.iterdir()) == []


@pytest.mark.parametrize("monitor", [0, 1])
def test_a_report_folder_deleted_meanwhile_is_made_again_or_replaced(hold, monitor):
    held = hold({"MEMWATCH_MONITOR": monitor})
    shutil.rmtree(held.run.folder / "reports")
    result = held.go_on()
    (report,) = wait_for(lambda: reports_below(result.folder), "report")
    assert is_of_the_whole_run(report)


def is_watched(ledger):
    """Does a monitor have it open?"""
    for link in Path("/proc").glob("[0-9]*/fd/[0-9]*"):
        try:
            command = (link.parent.parent / "cmdline").read_bytes()
            if os.readlink(link) == str(ledger) and b"\0monitor\0" in command:
                return True
        except OSError:
            continue
    return False


@pytest.mark.parametrize("monitor", [0, 1])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_ledger_deleted_while_in_use_is_read_by_the_monitor_all_the_same(hold, what, monitor):
    held = hold({"MEMWATCH_MONITOR": monitor})
    if monitor:
        wait_for(lambda: is_watched(held.ledger), "monitor that watches")
    if what == "file":
        held.ledger.unlink()
    else:
        shutil.rmtree(held.ledger.parent)
    result = held.go_on()
    if monitor:
        (report,) = wait_for(lambda: reports_below(result.folder), "report")
        assert is_of_the_whole_run(report)
        assert report["process"]["exit"]["code"] == result.returncode
    else:
        assert not result.reports, "there was nobody who could have kept it"


def test_a_full_ledger_folder_is_replaced_by_another(run_both, tmp_path):
    (tmp_path / "full").mkdir()
    mounts = with_mounts(f"mount -t tmpfs -o size=1M none {tmp_path}/full")
    result = run_both([*mounts, PROGRAM, BLOCKS], {"MEMWATCH_LEDGER_DIR": tmp_path / "full"})
    assert is_of_the_whole_run(result.report)


@pytest.mark.parametrize("size, asked_for", [("1M", "/tmp"), ("8M", None)])
def test_where_no_folder_has_room_nothing_is_recorded(run_both, size, asked_for):
    """Only a folder that the user asked for may be filled to its last bytes."""
    if BUILD.is_relative_to("/tmp"):
        pytest.skip("the build lies in /tmp, which is what this test fills")
    full = [f"mount -t tmpfs -o size={size} none {folder}" for folder in ("/tmp", "/dev/shm")]
    mounts = with_mounts(*full, "cd /tmp", "mkdir reports")
    environment = dict.fromkeys(("XDG_RUNTIME_DIR", "TMPDIR", "SIMGPU_BOOKS"))
    environment |= {"MEMWATCH_DIR": "/tmp/reports", "MEMWATCH_LEDGER_DIR": asked_for}
    left = [*with_limits("true")]
    left[2] = '"$@"; status=$?; ls -A /tmp /dev/shm /tmp/reports; exit $status'
    result = run_both([*mounts, *left, PROGRAM, BLOCKS], environment)
    assert "memwatch" not in result.stdout


def test_a_folder_that_fills_up_meanwhile_loses_what_did_not_fit(run_both, tmp_path):
    (tmp_path / "small").mkdir()
    mounts = with_mounts(f"mount -t tmpfs -o size=4M none {tmp_path}/small")
    result = run_both(
        [*mounts, PROGRAM, MANY_BLOCKS], {"MEMWATCH_LEDGER_DIR": tmp_path / "small"}
    )
    assert_counts_what_it_lost(result.report, result.books)


def test_descriptors_closed_and_used_for_another_file_leave_that_file_alone(run_both, tmp_path):
    """The table grows afterwards, and must not do so in the program's file."""
    (tmp_path / "file").write_text("mine")
    result = run_both([PROGRAM, "-l", "-c", tmp_path / "file", MANY_BLOCKS])
    assert (tmp_path / "file").read_text() == "mine"
    assert_counts_what_it_lost(result.report, result.books)


def test_a_table_that_is_full_loses_what_did_not_fit(run_both):
    result = run_both([PROGRAM, MANY_BLOCKS], {"MEMWATCH_LEDGER_MAX": 4})
    assert_counts_what_it_lost(result.report, result.books)


def assert_counts_what_it_lost(report, books):
    """Recorded and lost together are what the GPU knows."""
    lost, truth = losses(report), books[0, "device"]
    assert lost["growth"] > 0
    assert lost["records"] > MANY_BLOCKS / 2
    assert totals(report)["allocations"] + lost["records"] == truth["allocs"]
    assert totals(report)["live_bytes"] == truth["live"]
    assert totals(report)["peak_bytes"] < truth["peak"]
    assert lost["unknown_frees"] == lost["records"]
    assert report["ledger"]["check"]["ok"]
    assert not report["coverage"]["complete"]


# --- limits --------------------------------------------------------------------------------------

# The limit, and what is left of a run under it: a report, a ledger that can be read later (the
# memwatch program is under the limit too), or nothing.
LIMITS = {
    "no files": ("ulimit -f 0", None),
    "files smaller than a ledger": ("ulimit -f 1000", None),
    "files a little smaller than a ledger": ("ulimit -f 2336", None),
    "files with no room for stacks": ("ulimit -f 2764", "no stacks"),
    "files of a ledger's first size": ("ulimit -f 3044", "report"),
    "four descriptors": ("ulimit -n 4", "ledger"),
    "five descriptors": ("ulimit -n 5", "ledger"),
    "twelve descriptors": ("ulimit -n 12", "report"),
    "400 MB of addresses": ("ulimit -s 256 -v 400000", "report"),
    "60 MB of addresses": ("ulimit -s 256 -v 60000", "report"),
    "too few addresses for a ledger": ("ulimit -s 256 -v 28000", None),
}


@needs_plain_build
@pytest.mark.parametrize("monitor", [0, 1])
@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_of_the_shell_costs_at_most_the_report(run_both, report_of, limit, monitor):
    limits, left = LIMITS[limit]
    # The GPU's own books are files too, and malloc's second arena is 64 MiB of addresses.
    environment = {"SIMGPU_BOOKS": None, "MALLOC_ARENA_MAX": 1, "MEMWATCH_MONITOR": monitor}
    result = run_both([*with_limits(limits), PROGRAM, "-l", BLOCKS], environment)
    if left == "report":
        assert is_of_the_whole_run(result.report)
    elif left == "ledger":
        (ledger,) = result.ledgers
        assert is_of_the_whole_run(report_of(ledger))
    elif left == "no stacks":
        allocations = totals(result.report)["allocations"]
        assert allocations > BLOCKS
        assert losses(result.report)["stacks"] >= allocations
        assert not result.report["coverage"]["complete"]
    else:
        assert list((result.folder / "ledgers").iterdir()) == []
        assert not result.reports


@another_user
@pytest.mark.parametrize("monitor", [0, 1])
def test_without_any_more_processes_the_ledger_stays_and_can_be_read(
    run_as_nobody, report_of, monitor
):
    own = run_as_nobody({"MEMWATCH_MONITOR": monitor}, "ulimit -u 1")
    (ledger,) = ledgers_below(own)
    assert is_of_the_whole_run(report_of(ledger))


@another_user
def test_nobody_but_root_makes_a_ledger_shorter_by_accident(run_as_nobody, report_of):
    """The program that it belongs to would die of SIGBUS."""
    (ledger,) = ledgers_below(run_as_nobody({"MEMWATCH_MONITOR": 0}, "ulimit -u 1"))
    for careless in ([">", ledger], ["echo x >>", ledger], ["truncate -s 0", ledger]):
        done = subprocess.run(
            [*AS_NOBODY, "sh", "-c", " ".join(map(str, careless))], stderr=subprocess.PIPE, text=True
        )
        assert done.returncode != 0
        assert "ermission denied" in done.stderr
    assert is_of_the_whole_run(report_of(ledger))


@needs_plain_build
@pytest.mark.parametrize("monitor", [0, 1])
def test_without_proc_there_is_a_report_all_the_same(run_both, monitor):
    mounts = with_mounts("mount -t tmpfs none /proc")
    result = run_both([*mounts, PROGRAM, BLOCKS], {"MEMWATCH_MONITOR": monitor})
    assert_agrees(result.report, result.books)


# --- the memwatch program ------------------------------------------------------------------------


def nothing(path):
    del path


def not_executable(path):
    path.write_text("#!/bin/sh\n")
    path.chmod(0o644)


def no_program(path):
    path.write_bytes(b"\x7fELF, but no more of it")
    path.chmod(0o755)


def without_interpreter(path):
    path.write_text("#!/nowhere/interpreter\n")
    path.chmod(0o755)


def another_program(path):
    path.write_text("#!/bin/sh\necho $* >&1\nexit 1\n")
    path.chmod(0o755)


@pytest.mark.parametrize("monitor", [0, 1])
@pytest.mark.parametrize("make", [nothing, not_executable, Path.mkdir])
def test_what_is_no_program_is_told_and_the_librarys_own_taken(run_both, tmp_path, make, monitor):
    make(tmp_path / "memwatch")
    environment = {"MEMWATCH_PROGRAM": tmp_path / "memwatch", "MEMWATCH_MONITOR": monitor}
    result = run_both([PROGRAM, BLOCKS], environment, wrong="MEMWATCH_PROGRAM")
    assert is_of_the_whole_run(result.report)


@pytest.mark.parametrize("monitor", [0, 1])
@pytest.mark.parametrize("make", [no_program, without_interpreter, another_program])
def test_without_a_memwatch_program_the_ledger_stays_and_can_be_read(
    run_both, report_of, tmp_path, make, monitor
):
    make(tmp_path / "memwatch")
    environment = {"MEMWATCH_PROGRAM": tmp_path / "memwatch", "MEMWATCH_MONITOR": monitor}
    result = run_both([PROGRAM, BLOCKS], environment)
    (ledger,) = result.ledgers
    report = report_of(ledger)
    assert_agrees(report, result.books)
    assert is_of_the_whole_run(report)


@needs_plain_build
def test_a_library_alone_without_its_program_beside_it(run_both, report_of, tmp_path):
    copy = shutil.copy(LIBRARY, tmp_path)
    (ledger,) = run_both([PROGRAM, BLOCKS], library=copy).ledgers
    assert is_of_the_whole_run(report_of(ledger))


# --- a ledger that somebody else writes into -----------------------------------------------------

HEADER_BYTES = 65536  # MW_HEADER_BYTES
PATTERNS = {
    "zeros": lambda size: bytes(size),
    "ones": lambda size: b"\xff" * size,
    "noise": random.Random(1).randbytes,
    "small numbers": lambda size: random.Random(2).choices(range(4), k=size),
}
PLACES = {
    "everywhere": (0, None),
    "in the header": (64, HEADER_BYTES),
    "behind the header": (HEADER_BYTES, None),
    # What is looked for is found, but what it says is wrong.
    "behind the header, but for keys": (HEADER_BYTES, None),
}
RECORD_BYTES, KEY_BYTES = 32, 8  # struct mw_record, and its commit word


def fill(ledger, place, pattern):
    first, end = PLACES[place]
    content = bytearray(ledger.read_bytes())
    before, end = bytes(content), end or len(content)
    content[first:end] = bytes(PATTERNS[pattern](end - first))
    if place.endswith("but for keys"):
        for byte in range(KEY_BYTES):
            content[first + byte : end : RECORD_BYTES] = before[first + byte : end : RECORD_BYTES]
    with open(ledger, "r+b") as file:
        file.write(content)


def assert_one_line_or_a_report(memwatch, ledger, folder):
    """`memwatch report` of whatever a file has become."""
    for form in ("text", "json"):
        done = memwatch("report", "--format", form, "--output", folder / "output", ledger)
        if done.returncode == 0:
            assert (folder / "output").stat().st_size
        else:
            assert done.returncode > 0 and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("monitor", [0, 1])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("place", PLACES)
def test_a_ledger_overwritten_while_in_use(hold, memwatch, tmp_path, place, pattern, monitor):
    # So many blocks that the table, whose directory is among what is overwritten, must grow.
    held = hold({"MEMWATCH_MONITOR": monitor}, MANY_BLOCKS)
    fill(held.ledger, place, pattern)
    copy = shutil.copy(held.ledger, tmp_path / "copy.ledger")
    result = held.go_on()
    for ledger in [copy, *result.ledgers]:
        assert_one_line_or_a_report(memwatch, ledger, tmp_path)


@pytest.mark.parametrize("monitor", [0, 1])
def test_a_ledger_scribbled_over_all_the_time(hold, memwatch, tmp_path, monitor):
    held = hold({"MEMWATCH_MONITOR": monitor}, MANY_BLOCKS)
    ledger, done, noise = held.ledger, threading.Event(), random.Random(3)
    last_place = ledger.stat().st_size - HEADER_BYTES  # the file must not get longer

    def scribble():
        with open(ledger, "r+b", buffering=0) as file:
            while not done.is_set():
                file.seek(noise.randrange(last_place))
                file.write(noise.randbytes(noise.choice((1, 8, 4096, 65536))))

    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        result = held.go_on()
    finally:
        done.set()
        writer.join()
    for left in result.ledgers:
        assert_one_line_or_a_report(memwatch, left, tmp_path)


# --- options -------------------------------------------------------------------------------------

WRONG_PATHS = [
    ("MEMWATCH_DIR", "/etc/passwd"),
    ("MEMWATCH_DIR", "/etc/passwd/below/a/file"),
    ("MEMWATCH_DIR", "/tmp/" + "long" * 200),
    ("MEMWATCH_LEDGER_DIR", "/nowhere/ledgers"),
    ("MEMWATCH_LEDGER_DIR", "/etc/passwd"),
    ("MEMWATCH_PROGRAM", "/etc"),
    ("MEMWATCH_PROGRAM", "/nowhere/memwatch"),
]
WRONG = [
    ("MEMWATCH_ENABLE", "yes"),
    ("MEMWATCH_MONITOR", "2"),
    ("MEMWATCH_LEDGER_MAX", "3"),
    ("MEMWATCH_LEDGER_MAX", "-1"),
    ("MEMWATCH_LEDGER_MAX", "99999999999999999999"),
    ("MEMWATCH_DEEPBIND", "maybe"),
    ("MEMWATCH_DEEPBIND", "clear\nand more\x1b[31m"),
    ("MEMWATCH_DEEPBIND", "long" * 10000),
]


@pytest.mark.parametrize("option, value", WRONG, ids=[f"{o}={v[:12]!r}" for o, v in WRONG])
def test_a_wrong_option_value_gives_one_line_and_the_default(run_watched, option, value):
    result = run_watched([PROGRAM, BLOCKS], env={option: value})
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"memwatch: {option}={value[:5]}") and "the default is used" in line
    assert line.isprintable() and len(line) < 200
    assert (result.returncode, result.stdout) == (3, f"ready\n{UNHARMED[1]}")
    assert is_of_the_whole_run(result.report)


@pytest.mark.parametrize("option, value", WRONG_PATHS, ids=[f"{o}={v[:20]}" for o, v in WRONG_PATHS])
def test_a_wrong_path_gives_one_line_and_the_default(run_both, tmp_path, option, value):
    result = run_both([PROGRAM, BLOCKS], {option: value}, cwd=tmp_path, wrong=option)
    # The default for reports is the working folder.
    folder = tmp_path if option == "MEMWATCH_DIR" else result.folder
    (report,) = wait_for(lambda: reports_below(folder), "report")
    assert is_of_the_whole_run(report)


def test_a_folder_for_reports_that_can_be_made_is_no_wrong_value(run_both, tmp_path):
    folder = tmp_path / "to" / "be" / "made"
    run_both([PROGRAM, BLOCKS], {"MEMWATCH_DIR": folder})
    (report,) = wait_for(lambda: reports_below(folder), "report")
    assert is_of_the_whole_run(report)


def test_a_wrong_option_value_is_no_matter_for_a_program_without_a_gpu(run_watched):
    result = run_watched(["echo", "hello"], env=dict(WRONG + WRONG_PATHS))
    assert outcome(result) == (0, "hello\n", "")


def test_an_empty_option_value_is_the_default(run_both):
    options = {option: "" for option, _ in WRONG}
    assert is_of_the_whole_run(run_both([PROGRAM, BLOCKS], options).report)


def test_an_empty_path_is_the_default(run_both, tmp_path):
    run_both([PROGRAM, BLOCKS], {option: "" for option, _ in WRONG_PATHS}, cwd=tmp_path)
    (report,) = wait_for(lambda: reports_below(tmp_path), "report in the working folder")
    assert is_of_the_whole_run(report)


# --- programs that are not watched ---------------------------------------------------------------

HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 5; }\n'


def compile_program(folder, source, *flags):
    (folder / "program.c").write_text(source)
    command = [*COMPILER, "-o", folder / "program", folder / "program.c", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    return folder / "program" if done.returncode == 0 else None


def test_a_static_program_is_not_watched_and_not_harmed(run_watched, memwatch, tmp_path):
    program = compile_program(tmp_path, HELLO, "-static")
    assert program, "the compiler makes no static programs: is libc6-dev complete?"
    result = run_watched([program])
    assert outcome(result) == (5, "hello\n", "")
    doctor = memwatch("doctor", program)
    assert doctor.returncode == 1 and "statically" in doctor.stdout


def test_a_32_bit_program_is_not_watched_and_not_harmed(run_watched, memwatch, tmp_path):
    program = compile_program(tmp_path, HELLO, "-m32")
    if not program:
        pytest.skip("no 32-bit programs here: gcc-multilib is not installed")
    result = run_watched([program])
    assert (result.returncode, result.stdout) == (5, "hello\n")
    # The dynamic loader's own remark, which no library can prevent.
    assert all(line.startswith("ERROR: ld.so: ") for line in result.stderr.splitlines())
    doctor = memwatch("doctor", program)
    assert doctor.returncode == 1 and "32-bit" in doctor.stdout


# Allocates through the driver found at the path given, and says whose rights it has and whether the
# library is there.
ALLOCATES = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char line[4096];
    void *cuda = dlopen(argv[argc - 1], RTLD_NOW), *context;
    unsigned long long address;
    if (!cuda) return puts(dlerror()), 1;
    int (*init)(unsigned) = dlsym(cuda, "cuInit");
    int (*retain)(void **, int) = dlsym(cuda, "cuDevicePrimaryCtxRetain");
    int (*use)(void *) = dlsym(cuda, "cuCtxSetCurrent");
    int (*allocate)(unsigned long long *, size_t) = dlsym(cuda, "cuMemAlloc_v2");
    if (init(0) || retain(&context, 0) || use(context) || allocate(&address, 4096)) return 2;
    int preloaded = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) preloaded |= strstr(line, "BrokenLocale") != 0;
    printf("effective user %d, preloaded: %d\n", (int)geteuid(), preloaded);
    return 0;
}
"""


def setuid_program(folder):
    program = compile_program(folder, ALLOCATES, "-ldl")
    program.chmod(0o4755)
    return program


@another_user
def test_a_setuid_program_is_not_watched(run_watched, public_folder):
    own = public_folder / "nobodys"
    environment = {"MEMWATCH_DIR": own, "MEMWATCH_LEDGER_DIR": own, "SIMGPU_BOOKS": None}
    environment["LD_PRELOAD"] = public_folder / LIBRARY.name
    program = setuid_program(public_folder)
    command = [*AS_NOBODY, program, public_folder / "libcuda.so.1"]
    result = run_watched(command, environment, cwd=own)
    if "effective user 0" not in result.stdout:
        pytest.skip("setuid programs have no effect in this folder")
    assert result.stderr == ""
    assert list(own.iterdir()) == []


@another_user
def test_a_setuid_program_into_which_we_are_loaded_all_the_same_is_left_alone(
    run_watched, public_folder
):
    """The loader preloads a library that is setuid itself and lies in a system folder: there is one
    for the time of the test, in place of a library that nobody uses."""
    query = [*COMPILER, "-print-file-name=libBrokenLocale.so.1"]
    place = Path(subprocess.check_output(query, text=True).strip())
    if not place.is_absolute():
        pytest.skip("there is no libBrokenLocale.so.1 to put ours in the place of")
    copy = shutil.copy(LIBRARY, public_folder / "copy.so")
    os.chmod(copy, 0o4755)
    own = public_folder / "nobodys"
    environment = {"MEMWATCH_DIR": own, "MEMWATCH_LEDGER_DIR": own, "SIMGPU_BOOKS": None}
    mounts = with_mounts(
        f"mount --bind {copy} {place.resolve()}", f"export LD_PRELOAD={place.name}"
    )
    program = setuid_program(public_folder)
    command = [*mounts, *AS_NOBODY, program, public_folder / "libcuda.so.1"]
    result = run_watched(command, environment, mode="none", cwd=own)
    if "effective user 0, preloaded: 1" not in result.stdout:
        pytest.skip("this loader does not preload it")
    assert (result.returncode, result.stderr) == (0, "")
    assert list(own.iterdir()) == []


# --- inert without a GPU -------------------------------------------------------------------------

# Runs a command as a parent to whom all orphans fall, and says at the end how many processes there
# were beside it. The exit status is the command's.
COUNT_PROCESSES = """
import ctypes, os, subprocess, sys
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
status, others = subprocess.call(sys.argv[1:]), 0
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
    others += 1
print("left over:", others)
sys.exit(status)
"""
COUNT_OWN = """set -- /proc/$$/task/* /proc/$$/fd/*
echo $#
ls "$MEMWATCH_LEDGER_DIR" "$MEMWATCH_DIR"
"""
PYTHON_COUNTS_OWN = """
import os, multiprocessing, ssl
print(len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")))
for folder in ("MEMWATCH_LEDGER_DIR", "MEMWATCH_DIR"):
    assert os.listdir(os.environ[folder]) == []
"""
ORDINARY = {
    "bash": ["bash", "-c", f"{COUNT_OWN} (exit 3) | cat; $(true); exec bash -c '{COUNT_OWN} exit 4'"],
    "git": ["git", "init", "--quiet", "."],
    "git, failing": ["git", "-C", "/nowhere", "status"],
    "compiler": [*COMPILER, "-x", "c", "-o", "program", "hello.c"],
    "compiler, failing": [*COMPILER, "-c", "no-such-file.c"],
    "python": ["/usr/bin/env", "python3", "-c", PYTHON_COUNTS_OWN],
}


def run_counting(run_watched, command, mode, folder):
    folder.mkdir()
    (folder / "hello.c").write_text(HELLO)
    return run_watched(["python3", "-c", COUNT_PROCESSES, *command], mode=mode, cwd=folder)


@pytest.mark.skipif(
    SANITIZE == "thread", reason="its runtime cannot be preloaded into other programs"
)
@pytest.mark.parametrize("name", ORDINARY)
def test_a_program_without_gpu_use_has_no_file_thread_or_process_of_ours(
    run_watched, tmp_path, name
):
    alone = run_counting(run_watched, ORDINARY[name], "none", tmp_path / "alone")
    watched = run_counting(run_watched, ORDINARY[name], "preload", tmp_path / "watched")

    def without_folder(result):
        return str(outcome(result)).replace(str(result.folder), "FOLDER")

    assert without_folder(watched) == without_folder(alone)
    assert "left over: 0\n" in watched.stdout
    assert list((watched.folder / "ledgers").iterdir()) == []
    assert list((watched.folder / "reports").iterdir()) == []


def test_what_counts_processes_would_see_the_monitor(run_watched, tmp_path):
    result = run_counting(run_watched, [PROGRAM, "1"], "preload", tmp_path / "watched")
    assert "left over: 1\n" in result.stdout
