# SPDX-License-Identifier: Apache-2.0
"""The companion process: it makes the report however the watched process ends, knows how that was,
and is noticed by nobody."""

import ctypes
import os
import pathlib
import re
import select
import signal
import struct
import subprocess
import sys
import time

import pytest
from conftest import BUILD, LIBRARY, MEMWATCH, clean_environment, load_report, sanitizer_runtimes, wait_for
from watched_programs import GPU, monitors_of, read_line, state

PYTHON = sys.executable
LIVES = f"{GPU}allocate(1 << 20)\nprint('ready', flush=True)\ntime.sleep(60)"


@pytest.fixture
def begin(start_watched):
    """begin(code, env=None) -> Started: has allocated and been found by its monitor"""

    def begin(code=LIVES, env=None, monitor=True):
        started = start_watched([PYTHON, "-c", code], env=env)
        assert read_line(started.process) == "ready"
        if monitor:
            wait_for(lambda: watching(started.folder), "monitor that watches")
        return started

    return begin


def watching(folder):
    """The monitor's pid, once it holds a pidfd."""
    for pid in monitors_of(folder):
        try:
            targets = [os.readlink(fd) for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        if any("inotify" in target for target in targets):
            return pid
    return None


def the_report(started):
    """The final report: there is one, and the ledger is gone."""
    folder = started.folder

    def final():
        if list((folder / "ledgers").glob("*.ledger")):
            return None
        return [load_report(path) for path in (folder / "reports").glob("memwatch.*.json")]

    (report,) = wait_for(final, "final report")
    return report


def end_of(report):
    return {name: value for name, value in report["process"]["exit"].items() if value is not None}


def ended(report, **wanted):
    found = end_of(report)
    assert {name: found.get(name) for name in wanted} == wanted


# --- how it ended ------------------------------------------------------------------------------

ENDINGS = {
    "return": ("pass", dict(kind="code", code=0)),
    "exception": ("raise SystemExit('sorry')", dict(kind="code", code=1)),
    "os._exit": ("os._exit(7)", dict(kind="code", code=7)),
    "SIGSEGV": ("os.kill(os.getpid(), signal.SIGSEGV)", dict(kind="signal", signal=11)),
    "abort": ("os.abort()", dict(kind="signal", signal=6)),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", dict(kind="signal", signal=9)),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", dict(kind="signal", signal=15)),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_report_is_there_soon_after_any_end_and_tells_it(begin, ending):
    code, wanted = ENDINGS[ending]
    started = begin(f"{GPU}allocate(5 << 20)\nprint('ready', flush=True)\ntime.sleep(0.5)\n{code}")
    started.process.wait(30)
    report = the_report(started)
    ended(report, **wanted)
    device = [row for row in report["totals"] if row["space"] == "device"]
    assert [row["live_bytes"] for row in device] == [5 << 20]


def test_kill_9_leaves_a_report_and_no_ledger(begin):
    started = begin()
    started.process.kill()
    started.process.wait()
    ended(the_report(started), kind="signal", signal=9)


def test_a_dead_process_that_nobody_reaps_has_its_report_all_the_same(begin):
    started = begin()
    os.kill(started.process.pid, signal.SIGKILL)
    ended(the_report(started), kind="signal", signal=9)
    assert state(started.process.pid) == "Z", "nobody has reaped it yet"


def test_the_main_thread_may_end_while_others_go_on(begin):
    started = begin(
        f"{GPU}import threading\nallocate(1)\n"
        "libc = ctypes.CDLL(None)\n"
        "threading.Thread(target=lambda: (time.sleep(1.5), os._exit(33))).start()\n"
        "print('ready', flush=True)\nlibc.pthread_exit(None)"
    )
    pid = started.process.pid
    wait_for(lambda: state(pid) == "Z", "end of the main thread")
    time.sleep(0.4)
    assert list((started.folder / "ledgers").glob("*.ledger")), "the process still lives"
    ended(the_report(started), kind="code", code=33)


def test_execution_of_another_program_is_an_end_of_its_own_kind(begin):
    started = begin(
        f"{GPU}allocate(1)\nprint('ready', flush=True)\n"
        "time.sleep(0.7)\nos.execvp('sleep', ['sleep', '30'])"
    )
    report = the_report(started)
    ended(report, kind="exec")
    assert started.process.poll() is None, "the process goes on as another program"


def test_execution_is_noticed_though_a_forked_child_still_maps_the_ledger(begin):
    started = begin(
        f"{GPU}allocate(1)\nprint('ready', flush=True)\ntime.sleep(0.5)\n"
        "if os.fork() == 0: time.sleep(30)\nos.execvp('sleep', ['sleep', '30'])"
    )
    ended(the_report(started), kind="exec")


def test_a_program_that_closes_all_descriptors_is_not_taken_for_another(begin):
    started = begin(
        f"{GPU}allocate(1)\nprint('ready', flush=True)\n"
        "os.closerange(3, 70000)\ntime.sleep(2.5)\nos._exit(12)"
    )
    time.sleep(1.5)
    assert list((started.folder / "ledgers").glob("*.ledger"))
    ended(the_report(started), kind="code", code=12)


def deny_pidfd():
    """In the child: pidfd_open fails as on a kernel that does not have it."""
    pidfd_open, enosys = 434, 38
    deny, allow = 0x00050000 | enosys, 0x7FFF0000
    load, equal, result = 0x20, 0x15, 0x06
    rows = [(load, 0, 0, 0), (equal, 0, 1, pidfd_open), (result, 0, 0, deny), (result, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in rows))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    program = Program(len(rows), ctypes.addressof(code))
    assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0  # PR_SET_SECCOMP, filter


def kernel_tells_ends():
    return tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (6, 15)


@pytest.fixture
def watch_by_hand(begin):
    """watch_by_hand(code=…, ledger=None, slow=None, **Popen's) -> (Started, Popen of its monitor)

    slow: a file; as long as it is there the monitor hangs where it begins to write a report.
    """
    monitors = []

    def watch(*options, code=LIVES, change=None, pidfd=(), slow=None, **keywords):
        started = begin(code, env={"MEMWATCH_MONITOR": "0"}, monitor=False)
        (ledger,) = wait_for(lambda: list((started.folder / "ledgers").glob("*.ledger")), "ledger")
        if change:
            ledger = change(ledger)
        if pidfd:
            options = [*options, "--pidfd", str(pidfd[0])]
            keywords["pass_fds"] = pidfd
        environment = clean_environment()
        preload = list(sanitizer_runtimes())
        if slow:
            slow.touch()
            preload.append(str(BUILD / "tests" / "hazards" / "libslow_report.so"))
            environment["SLOW_REPORT"] = str(slow)
        if preload:
            environment["LD_PRELOAD"] = ":".join(preload)
        monitor = subprocess.Popen(
            [MEMWATCH, "monitor", "--ledger", ledger, "--pid", str(started.process.pid), *options],
            env=environment,
            **keywords,
        )
        monitors.append(monitor)
        return started, monitor

    yield watch
    for monitor in monitors:
        monitor.kill()
        monitor.wait()


def test_on_a_kernel_without_pidfd_the_end_is_noticed_too(watch_by_hand):
    started, monitor = watch_by_hand(preexec_fn=deny_pidfd)
    time.sleep(0.3)
    assert monitor.poll() is None
    os.kill(started.process.pid, signal.SIGKILL)
    assert monitor.wait(5) == 0
    ended(the_report(started), kind="signal", signal=9)


def test_with_a_pidfd_from_before_the_end_is_known_though_it_came_first(watch_by_hand):
    pidfds = []

    def end(ledger):
        pid = int(ledger.name.split(".")[-3])
        pidfds.append(os.pidfd_open(pid))
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfds[0], os.WEXITED)
        return ledger

    started, monitor = watch_by_hand(change=end, pidfd=pidfds)
    assert monitor.wait(5) == 0
    report = the_report(started)
    if not kernel_tells_ends():
        pytest.skip("before Linux 6.15 nobody can know")
    ended(report, kind="signal", signal=9)


def test_another_process_with_the_same_pid_is_not_taken_for_the_owner(watch_by_hand):
    def of_an_earlier_process(ledger):
        pid = ledger.name.split(".")[-3]
        ticks = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[19])
        data = bytearray(ledger.read_bytes())
        at = data.index(struct.pack("=Q", ticks), 0, 4096)
        data[at : at + 8] = struct.pack("=Q", ticks - 1)
        ledger.unlink()
        ledger.write_bytes(data)
        return ledger

    started, monitor = watch_by_hand(change=of_an_earlier_process)
    assert monitor.wait(5) == 0, "the owner of this ledger is gone"
    ended(the_report(started), kind="unknown")
    assert started.process.poll() is None


# --- reports before the end --------------------------------------------------------------------


def test_reports_are_written_before_the_end_as_often_as_asked(watch_by_hand):
    started, monitor = watch_by_hand("--interval", "1")
    (path,) = wait_for(lambda: list((started.folder / "reports").glob("memwatch.*.json")), "report")
    load_report(path)
    first = path.stat().st_ino
    wait_for(lambda: path.stat().st_ino != first, "second report in its place")
    assert list((started.folder / "ledgers").glob("*.ledger"))
    assert monitor.poll() is None


def test_a_job_systems_sigterm_makes_a_report_at_once_and_the_monitor_stays(begin):
    started = begin()
    monitor = watching(started.folder)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        os.kill(monitor, number)
    (path,) = wait_for(lambda: list((started.folder / "reports").glob("memwatch.*.json")), "report")
    load_report(path)
    assert watching(started.folder) == monitor
    started.process.kill()
    ended(the_report(started), kind="signal", signal=9)


def test_a_report_from_before_the_end_that_comes_late_does_not_replace_the_final_one(
    watch_by_hand, memwatch, tmp_path
):
    hang = tmp_path / "hang"
    started, monitor = watch_by_hand(slow=hang)
    wait_for(lambda: watching(started.folder), "monitor that watches")
    monitor.terminate()
    wait_for((tmp_path / "hang.waits").exists, "report that is being written")
    pid = started.process.pid
    os.kill(pid, signal.SIGKILL)
    (ledger,) = (started.folder / "ledgers").glob("*.ledger")
    assert memwatch("monitor", "--ledger", ledger, "--pid", str(pid)).returncode == 0
    final = the_report(started)
    hang.unlink()
    assert monitor.wait(5) == 0
    assert the_report(started) == final
    ended(final, kind="signal", signal=9)
    assert [path.suffix for path in (started.folder / "reports").iterdir()] == [".json"]


def test_now_makes_the_report_of_a_living_process_without_waiting(watch_by_hand):
    started, monitor = watch_by_hand("--now")
    assert monitor.wait(5) == 0
    the_report(started)
    assert started.process.poll() is None


# --- going unnoticed ---------------------------------------------------------------------------


def test_the_monitor_holds_nothing_of_the_process(begin):
    started = begin()
    monitor = watching(started.folder)
    descriptors = {os.readlink(fd) for fd in pathlib.Path(f"/proc/{monitor}/fd").iterdir()}
    assert not [target for target in descriptors if re.search("pipe|tty|pts|socket", target)]
    (ledger,) = (started.folder / "ledgers").glob("*.ledger")
    files = {target for target in descriptors if target.startswith("/")}
    assert files == {"/dev/null", str(ledger)}
    assert os.readlink(f"/proc/{monitor}/cwd") == "/"
    assert os.getsid(monitor) != os.getsid(started.process.pid)
    assert os.getpgid(monitor) != os.getpgid(started.process.pid)
    environment = pathlib.Path(f"/proc/{monitor}/environ").read_bytes()
    assert b"LD_PRELOAD=" not in environment
    maps = pathlib.Path(f"/proc/{monitor}/maps").read_text()
    assert str(LIBRARY) not in maps


def test_the_monitor_closes_what_it_was_started_with(watch_by_hand):
    read_end, write_end = os.pipe()
    started, monitor = watch_by_hand(pass_fds=[write_end], stdout=write_end, stderr=write_end)
    os.close(write_end)
    ready, _, _ = select.select([read_end], [], [], 10)
    assert ready and os.read(read_end, 1) == b"", "nobody holds the other end, nothing was written"
    os.close(read_end)
    assert monitor.poll() is None


def test_the_process_has_no_child_that_it_did_not_start(begin):
    started = begin(
        f"{GPU}allocate(1)\n"
        "try: os.waitpid(-1, 0)\nexcept ChildProcessError: print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    pid = started.process.pid
    assert pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""


def test_output_ends_with_the_process_though_the_monitor_still_works(begin):
    started = begin()
    monitor = watching(started.folder)
    os.kill(monitor, signal.SIGSTOP)
    try:
        wait_for(lambda: state(monitor) == "T", "stop of the monitor")
        started.process.kill()
        begin_wait = time.monotonic()
        started.process.communicate(timeout=10)
        assert time.monotonic() - begin_wait < 1
        assert state(monitor) == "T"
    finally:
        os.kill(monitor, signal.SIGCONT)


def test_a_pipeline_ends_at_once(start_watched, tmp_path):
    (tmp_path / "program.py").write_text(f"{GPU}allocate(1)\nprint('done')")
    command = ["sh", "-c", f"{PYTHON} {tmp_path}/program.py | cat"]
    begin_run = time.monotonic()
    bare = start_watched(command, mode="none").finish()
    between = time.monotonic()
    result = start_watched(command).finish()
    assert result.stdout == bare.stdout == "done\n"
    assert time.monotonic() - between < (between - begin_run) + 1
    assert result.stderr == bare.stderr


def test_the_monitor_is_gone_within_a_second_of_the_end(begin):
    started = begin()
    started.process.kill()
    started.process.wait()
    time.sleep(1)
    assert monitors_of(started.folder) == []


def test_each_sigterm_to_the_monitor_makes_a_report_also_when_it_was_just_waking(begin):
    started = begin()
    (ledger,) = (started.folder / "ledgers").glob("*.ledger")
    monitor = watching(started.folder)
    for i in range(100):
        os.chmod(ledger, 0o600)  # wakes it
        end = time.monotonic() + i * 5e-6
        while time.monotonic() < end:
            pass
        os.kill(monitor, signal.SIGTERM)
        (report,) = wait_for(
            lambda: list((started.folder / "reports").glob("*.json")), f"report after SIGTERM {i}"
        )
        report.unlink()
    started.process.kill()


@pytest.mark.parametrize("before", [0, 1.5])
def test_a_ledger_that_somebody_took_away_is_in_the_report_all_the_same(begin, before):
    started = begin()
    (ledger,) = (started.folder / "ledgers").glob("*.ledger")
    ledger.unlink()
    time.sleep(before)
    os.kill(watching(started.folder), signal.SIGTERM)
    interim = wait_for(lambda: list((started.folder / "reports").glob("*.json")), "report so far")
    assert end_of(load_report(interim[0])) == {"kind": "running"}
    started.process.kill()
    started.process.wait()
    wait_for(lambda: not monitors_of(started.folder), "end of the monitor", timeout=3)
    report = the_report(started)
    ended(report, kind="signal", signal=9)
    assert [row["live_bytes"] for row in report["totals"] if row["space"] == "device"] == [1 << 20]


def test_where_the_folder_for_reports_cannot_be_used_another_is_taken(begin, tmp_path):
    # Below a file there can be no folder, and in /proc no file: /tmp is left.
    (tmp_path / "file").write_text("")
    started = begin(
        f"{GPU}os.chdir('/proc')\nallocate(1)\nprint('ready', flush=True)\ntime.sleep(0.5)",
        env={
            "MEMWATCH_DIR": tmp_path / "file" / "folder",
            "HOME": tmp_path / "file",
            "XDG_STATE_HOME": None,
        },
    )
    out, err = started.process.communicate(timeout=30)
    assert (started.process.returncode, out) == (0, "")
    assert err.startswith("memwatch: MEMWATCH_DIR=") and err.count("\n") == 1
    (path,) = wait_for(
        lambda: list(pathlib.Path("/tmp").glob(f"memwatch.*.{started.process.pid}.*.json")),
        "report",
    )
    load_report(path)
    path.unlink()


# --- command line ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--ledger", "/nowhere"),
        ("--pid", "1"),
        ("--ledger", "/nowhere", "--pid", "x"),
        ("--ledger", "/nowhere", "--pid", "1", "--interval", "-1"),
        ("--no-such-option",),
    ],
)
def test_wrong_use_gives_2_and_one_line(memwatch, arguments):
    done = memwatch("monitor", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("memwatch: ") and done.stderr.count("\n") == 1


def test_a_file_that_is_no_ledger_gives_3_and_one_line(memwatch, tmp_path):
    (tmp_path / "foreign").write_bytes(b"x" * 100000)
    for path in (tmp_path / "foreign", tmp_path / "missing", tmp_path):
        done = memwatch("monitor", "--ledger", path, "--pid", "1")
        assert done.returncode == 3
        assert str(path) in done.stderr and done.stderr.count("\n") == 1


def test_a_ledger_of_another_process_is_refused(begin, memwatch):
    started = begin()
    (ledger,) = (started.folder / "ledgers").glob("*.ledger")
    done = memwatch("monitor", "--ledger", ledger, "--pid", "1")
    assert done.returncode == 3
    assert ledger.exists()


def test_help_fits_a_terminal(memwatch):
    done = memwatch("monitor", "--help")
    assert done.returncode == 0 and "--interval" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
