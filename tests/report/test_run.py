# SPDX-License-Identifier: Apache-2.0
"""`memwatch run -- COMMAND` behaves as COMMAND alone would: its output, its input, its exit status,
the signals it gets, the terminal it runs in. Afterwards it names the reports."""

import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from conftest import BUILD, LIBRARY, MEMWATCH, clean_environment, load_report, sanitizer_runtimes, wait_for
from watched_programs import GPU, monitors_of, read_line, state

PYTHON = sys.executable


@pytest.fixture
def surroundings(tmp_path):
    """The environment of a run whose files all lie in tmp_path."""
    environment = clean_environment()
    for variable, name in (("MEMWATCH_DIR", "reports"), ("MEMWATCH_LEDGER_DIR", "ledgers")):
        (tmp_path / name).mkdir()
        environment[variable] = str(tmp_path / name)
    environment["TMPDIR"] = environment["XDG_RUNTIME_DIR"] = str(tmp_path)
    preload = list(sanitizer_runtimes())
    if preload:
        environment["LD_PRELOAD"] = ":".join(preload)
    return environment


@pytest.fixture
def start(surroundings, tmp_path):
    """start(*command, options=(), **Popen's) -> Popen of `memwatch run` before that command"""
    started = []

    def start(*command, options=("--quiet",), env=None, **keywords):
        standard = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        arguments = [str(MEMWATCH), "run", *options, "--", *map(str, command)]
        process = subprocess.Popen(
            arguments,
            env={**surroundings, **(env or {})},
            cwd=tmp_path,
            start_new_session=True,
            **{**standard, **keywords},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


@pytest.fixture
def run(start):
    """run(*command, options=(), input=None) -> CompletedProcess, output as bytes"""

    def run(*command, input=None, timeout=60, **keywords):
        if input is not None:
            keywords["stdin"] = subprocess.PIPE
        process = start(*command, **keywords)
        out, err = process.communicate(input, timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


# --- exit status -------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 42, 125, 255])
def test_the_exit_status_is_the_programs(run, code):
    assert run("sh", "-c", f"exit {code}").returncode == code


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGSEGV", "SIGABRT", "SIGINT", "SIGRTMIN"])
def test_a_program_ended_by_a_signal_ends_run_by_the_same_signal(run, name):
    number = getattr(signal, name)
    assert run("sh", "-c", f"kill -{int(number)} $$").returncode == -number


@pytest.mark.parametrize(
    "command, code, says",
    [
        ("no-such-command-anywhere", 127, "No such file"),
        ("/nowhere/program", 127, "No such file"),
        ("/etc/passwd", 126, "Permission denied"),
        ("/", 126, "Permission denied"),
    ],
)
def test_a_command_that_cannot_run_gives_the_codes_of_env_and_one_line(run, command, code, says):
    done = run(command)
    assert done.returncode == code
    assert command in done.stderr.decode() and says in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--no-such-option", "true"),
        ("--dir",),
        ("--ledger-max", "x", "true"),
        ("--monitor", "2", "true"),
        ("--deepbind", "perhaps", "true"),
        ("--dir", "/proc/nowhere", "true"),
    ],
)
def test_wrong_use_of_run_gives_125_and_one_line(memwatch, arguments):
    done = memwatch("run", *arguments)
    assert done.returncode == 125
    assert done.stderr.startswith("memwatch: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--python-depth", "9999", "a number from 1 to 128"),
        ("--ledger-max", "0", "a whole number of MiB from 1 on"),
        ("--monitor", "yes", "0 or 1"),
        ("--tensors", "none", "gpu, all or off"),
    ],
)
def test_a_wrong_value_is_told_with_those_that_an_option_takes(memwatch, option, value, allowed):
    done = memwatch("run", option, value, "true")
    assert (done.returncode, done.stderr) == (125, f"memwatch: run: {option} takes {allowed}, not '{value}'\n")


def test_a_missing_library_gives_125_and_says_what_to_set(memwatch):
    done = memwatch("run", "true", env={"MEMWATCH_LIBRARY": "/nowhere/libmemwatch.so"})
    assert done.returncode == 125
    assert "MEMWATCH_LIBRARY" in done.stderr and done.stderr.count("\n") == 1


def test_a_library_in_a_folder_with_a_space_is_refused(memwatch, tmp_path):
    folder = tmp_path / "with space"
    folder.mkdir()
    (folder / "libmemwatch.so").write_bytes(LIBRARY.read_bytes())
    done = memwatch("run", "true", env={"MEMWATCH_LIBRARY": folder / "libmemwatch.so"})
    assert done.returncode == 125
    assert "space" in done.stderr


# --- input, output, what the program inherits --------------------------------------------------


def test_output_and_input_pass_byte_by_byte(run):
    data = os.urandom(1 << 20)
    done = run("sh", "-c", "cat; printf 'to\\000stderr' >&2", input=data)
    assert done.stdout == data
    assert done.stderr == b"to\0stderr"


def test_arguments_pass_as_they_are(run):
    words = ["a b", "", "--", "--quiet", "ä\n", "$HOME"]
    done = run(PYTHON, "-c", "import sys; print(sys.argv[1:])", *words, env={"PYTHONUTF8": "1"})
    assert done.stdout.decode().strip() == repr(words)


def test_options_end_at_the_first_word_of_the_command(surroundings):
    done = subprocess.run(
        [MEMWATCH, "run", "-q", "echo", "--quiet", "-h"],
        env=surroundings,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "--quiet -h\n"


def test_the_library_is_put_before_what_was_preloaded_already(run, surroundings):
    first = surroundings.get("LD_PRELOAD", "")  # sanitizers, if any
    before = ":".join(filter(None, [first, "libm.so.6"]))
    # The runtimes of sanitizers stay first; what conftest.py preloads behind them does not.
    runtimes, others = [], []
    for path in filter(None, before.split(":")):
        (runtimes if "san.so" in path else others).append(path)
    after = ":".join([*runtimes, str(LIBRARY), *others])
    done = run("sh", "-c", "echo $LD_PRELOAD", env={"LD_PRELOAD": before})
    assert done.stdout.decode().strip() == after


def test_the_runtime_of_a_sanitizer_stays_first_since_it_insists_on_it(run, surroundings, tmp_path):
    libc = next(line.split()[-1] for line in open("/proc/self/maps") if "libc.so" in line)
    runtime = tmp_path / "libtsan.so.2"
    runtime.symlink_to(libc)
    done = run("sh", "-c", "echo $LD_PRELOAD", env={"LD_PRELOAD": f"{runtime}:libm.so.6"})
    if not surroundings.get("LD_PRELOAD"):
        assert done.stdout.decode().strip() == f"{runtime}:{LIBRARY}:libm.so.6"


def test_a_run_within_a_run_preloads_the_library_once(run):
    done = run(MEMWATCH, "run", "-q", "sh", "-c", "echo $LD_PRELOAD; exit 9")
    assert done.stdout.decode().count("libmemwatch.so") == 1
    assert done.returncode == 9


def test_signal_dispositions_and_mask_are_those_run_was_started_with(start, surroundings):
    def disturb():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])

    command = ["grep", "^Sig[BIC]", "/proc/self/status"]
    alone = subprocess.run(
        command, preexec_fn=disturb, capture_output=True, env=surroundings
    ).stdout
    process = start(*command, preexec_fn=disturb)
    out, _ = process.communicate(timeout=30)
    assert alone and out == alone
    assert process.returncode == 0


def test_the_program_gets_the_descriptors_of_the_caller_and_no_others(surroundings, tmp_path):
    command = "sh -c 'ls /proc/self/fd; echo third >&7' 7>seventh 1<&- 1>listing"

    def descriptors(prefix):
        subprocess.run(
            ["sh", "-c", f"{prefix} {command}"], env=surroundings, cwd=tmp_path, check=True
        )
        return (tmp_path / "listing").read_text(), (tmp_path / "seventh").read_text()

    alone = descriptors("")
    assert "7" in alone[0].split() and alone[1] == "third\n"
    assert descriptors(f"{MEMWATCH} run -q --") == alone


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_standard_descriptors_that_were_closed_stay_closed(surroundings, tmp_path, closed):
    command = f"sh -c 'ls -l /proc/$$/fd >seen 2>/dev/null; exit 3' {closed}"

    def descriptors(prefix):
        done = subprocess.run(["sh", "-c", f"{prefix} {command}"], env=surroundings, cwd=tmp_path)
        assert done.returncode == 3
        return [line.split()[8] for line in (tmp_path / "seen").read_text().splitlines()[1:]]

    assert descriptors(f"{MEMWATCH} run --") == descriptors("")


def test_a_reader_of_the_output_sees_its_end_when_the_program_closes_it(start):
    process = start("sh", "-c", "echo last; exec >&- 3>&-; sleep 20")
    begin = time.monotonic()
    assert process.stdout.read() == b"last\n"
    assert time.monotonic() - begin < 5
    assert process.poll() is None


# --- signals -----------------------------------------------------------------------------------

COUNTER = """
import signal, sys, time
got = []
for name in ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH", "ALRM"):
    signal.signal(getattr(signal, "SIG" + name), lambda number, frame: got.append(number))
print("ready", flush=True)
end = time.monotonic() + 20
while not got and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.3)
print(got)
"""


@pytest.mark.parametrize(
    "name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH"]
)
def test_a_signal_sent_to_run_reaches_the_program_once(start, name):
    number = getattr(signal, name)
    process = start(PYTHON, "-c", COUNTER)
    assert read_line(process) == "ready"
    process.send_signal(number)
    assert read_line(process) == str([int(number)])
    assert process.wait(20) == 0


def test_a_program_that_dies_of_the_signal_sent_to_run(start):
    process = start("sh", "-c", "echo ready; exec sleep 30")
    read_line(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM


def test_an_alarm_set_before_run_was_executed_reaches_the_program(surroundings):
    program = (
        f"import os, signal; signal.setitimer(signal.ITIMER_REAL, 0.3); "
        f"os.execv({str(MEMWATCH)!r}, ['memwatch', 'run', '-q', 'sleep', '20'])"
    )
    done = subprocess.run([PYTHON, "-c", program], env=surroundings, timeout=15)
    assert done.returncode == -signal.SIGALRM


def test_under_timeout_the_program_ends_in_time_and_timeout_tells_124(surroundings):
    begin = time.monotonic()
    done = subprocess.run(
        ["timeout", "0.5", MEMWATCH, "run", "-q", "sh", "-c", "echo $$; exec sleep 30"],
        env=surroundings,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 124
    assert time.monotonic() - begin < 10
    assert state(int(done.stdout)) is None


def test_stop_and_continue_reach_the_program_and_run_stops_with_it(surroundings):
    # Within one session, in a process group of its own, as a shell's job is.
    process = subprocess.Popen(
        [MEMWATCH, "run", "-q", "sh", "-c", "echo $$; exec sleep 30"],
        env=surroundings,
        stdout=subprocess.PIPE,
        preexec_fn=os.setpgrp,
    )
    try:
        child = int(read_line(process))
        process.send_signal(signal.SIGTSTP)
        wait_for(lambda: state(child) == "T" and state(process.pid) == "T", "stop of both")
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: state(child) == "S" and state(process.pid) == "S", "continuation of both")
    finally:
        process.kill()
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_without_a_terminal_who_stops_only_the_program_does_not_stop_run(start):
    process = start("sh", "-c", "echo $$; exec sleep 0.5")
    child = int(read_line(process))
    os.kill(child, signal.SIGSTOP)
    wait_for(lambda: state(child) == "T", "stop of the program")
    time.sleep(0.2)
    assert state(process.pid) == "S"
    os.kill(child, signal.SIGCONT)
    assert process.wait(10) == 0


# --- descendants -------------------------------------------------------------------------------


ORPHANS = "(sh -c 'exit 3' & sh -c 'kill -9 $$' &); sleep 0.5; echo ready; sleep 20"


def test_orphans_are_reaped(start):
    process = start("sh", "-c", ORPHANS)
    read_line(process)
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    names = sorted(pathlib.Path(f"/proc/{child}/comm").read_text().strip() for child in children)
    assert names == ["memwatch-stderr", "sh"], "only the program itself, and who copies, are left"
    assert "Z" not in [state(child) for child in children]


def test_run_ends_with_the_program_though_others_live_on(run):
    begin = time.monotonic()
    done = run("sh", "-c", "sleep 5 >/dev/null 2>&1 & exit 4")
    assert done.returncode == 4
    assert time.monotonic() - begin < 3


def test_nothing_is_left_in_the_temporary_folder(run, tmp_path):
    run("true")
    assert not list(tmp_path.glob("memwatch*"))


def test_as_first_process_of_a_container_a_signal_becomes_128_plus_its_number(surroundings):
    unshare = ["unshare", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no permission to make a pid namespace")
    done = subprocess.run(
        [*unshare, MEMWATCH, "run", "-q", "sh", "-c", "kill -9 $$"], env=surroundings, timeout=30
    )
    assert done.returncode == 128 + 9


# --- terminal ----------------------------------------------------------------------------------


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, environment, folder):
        self.terminal, slave = os.openpty()
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**environment, "PS1": "$ ", "MEMWATCH": str(MEMWATCH), "PYTHON": PYTHON},
            preexec_fn=self._take_terminal,
        )
        os.close(slave)
        self.text = ""

    @staticmethod
    def _take_terminal():
        import fcntl
        import termios

        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def type(self, keys):
        os.write(self.terminal, keys.encode())

    def expect(self, pattern, timeout=20):
        """Waits for the pattern in what the terminal shows, and forgets what stood before it."""
        end = time.monotonic() + timeout
        while not (found := re.search(pattern, self.text)):
            ready, _, _ = select.select([self.terminal], [], [], max(0, end - time.monotonic()))
            assert ready, f"{pattern!r} does not appear; there is {self.text!r}"
            self.text += os.read(self.terminal, 4096).decode(errors="replace")
        self.text = self.text[found.end() :]
        return found

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)


@pytest.fixture
def shell(surroundings, tmp_path):
    (tmp_path / "counter.py").write_text(COUNTER)
    shell = Shell(surroundings, tmp_path)
    yield shell
    shell.close()


def test_the_program_is_on_the_terminal_and_reads_it(shell):
    program = 'test -t 0 && read x && echo "got:$x"; exit 6'
    shell.type(f"$MEMWATCH run -q sh -c '{program}'; echo status=$?\n")
    time.sleep(0.3)
    shell.type("hello\n")
    shell.expect("got:hello")
    shell.expect("status=6")


def test_ctrl_c_reaches_the_program_once_and_leaves_the_rest_to_it(shell):
    shell.type("$MEMWATCH run -q $PYTHON counter.py; echo status=$?\n")
    shell.expect("ready")
    shell.type("\x03")
    shell.expect(r"\[2\]")
    shell.expect("status=0")


def test_ctrl_c_ends_a_program_that_does_not_care(shell):
    shell.type("$MEMWATCH run -q sleep 30; echo status=$?\n")
    time.sleep(0.5)
    shell.type("\x03")
    shell.type("echo again=$?\n")
    shell.expect("again=130")


def test_ctrl_z_stops_the_job_and_fg_goes_on(shell):
    shell.type("$MEMWATCH run -q sh -c 'echo begun; read x; echo \"got:$x\"; exit 5'\n")
    shell.expect(r"begun\r")
    shell.type("\x1a")
    shell.expect("Stopped")
    shell.type("jobs; echo shell-has-terminal\n")
    shell.expect("shell-has-terminal\r")
    shell.type("fg\n")
    shell.expect("fg\r")
    time.sleep(0.3)
    shell.type("word\n")
    shell.expect("got:word")
    shell.type("echo status=$?\n")
    shell.expect("status=5")


def test_a_program_that_stops_itself_gives_the_terminal_back(shell):
    shell.type("$MEMWATCH run -q sh -c 'kill -STOP $$; echo woken'\n")
    shell.expect("Stopped")
    shell.type("fg\n")
    shell.expect("woken\r")


def test_in_the_background_reading_the_terminal_stops_the_job(shell):
    shell.type("$MEMWATCH run -q sh -c 'read x; echo \"got:$x\"' &\n")
    shell.expect(r"\[1\]")
    time.sleep(0.5)
    shell.type("\n")
    shell.expect("Stopped")
    shell.type("fg\n")
    shell.expect("fg\r")
    time.sleep(0.3)
    shell.type("word\n")
    shell.expect("got:word")


# --- reports -----------------------------------------------------------------------------------


def reports_named(stderr):
    """The reports that the lines on standard error name, each loaded."""
    paths = re.findall(r"^memwatch: (/\S+\.json): ", stderr.decode(), re.M)
    return [load_report(path) for path in paths]


ENDINGS = {
    "a return from main": ("pass", {"kind": "code", "code": 0}),
    "an exit code": ("sys.exit(3)", {"kind": "code", "code": 3}),
    "_exit": ("os._exit(4)", {"kind": "code", "code": 4}),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", {"kind": "signal", "signal": 9}),
    "SIGSEGV": ("os.kill(os.getpid(), signal.SIGSEGV)", {"kind": "signal", "signal": 11}),
    "abort": ("os.abort()", {"kind": "signal", "signal": 6}),
}


def matches(found, wanted):
    return all(found.get(name) == value for name, value in wanted.items())


@pytest.mark.parametrize("monitor", ["1", "0"], ids=["monitor", "no-monitor"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_one_line_names_the_report_and_the_report_tells_the_end(run, tmp_path, ending, monitor):
    code, wanted = ENDINGS[ending]
    done = run(PYTHON, "-c", f"{GPU}allocate(3 << 20)\n{code}", options=["--monitor", monitor])
    (report,) = reports_named(done.stderr)
    assert matches(report["process"]["exit"], wanted)
    assert b"3.00 MiB held in 1 block\n" in done.stderr
    assert not list((tmp_path / "ledgers").iterdir()), "the ledger is gone once the report is there"


def test_an_event_is_not_recorded_only_if_it_is_missing(run):
    """One whose site found no room is there; one whose block did is not."""
    code = "".join(f"\nallocate({size} << 20)" for size in (1, 2, 3))
    done = run(PYTHON, "-c", f"{GPU}{code}", options=[], env={"MEMWATCH_SITES": "1"})
    (report,) = reports_named(done.stderr)
    assert report["coverage"]["losses"]["sites"]["count"] > 0, "no site was without room"
    assert b"6.00 MiB held in 3 blocks\n" in done.stderr

    blocks = BUILD / "tests" / "endtoend" / "faults"
    done = run(blocks, 200000, options=[], env={"MEMWATCH_LEDGER_MAX": "4"})
    (report,) = reports_named(done.stderr)
    lost = {name: loss["count"] for name, loss in report["coverage"]["losses"].items()}
    missing = lost["records"] + lost["unknown_frees"]
    assert f", {missing} events not recorded\n" in done.stderr.decode(), lost


def test_quiet_prints_no_line(run, tmp_path):
    done = run(PYTHON, "-c", f"{GPU}allocate(1)")
    assert done.stderr == b""
    assert len(list((tmp_path / "reports").glob("*.json"))) == 1


def test_a_program_that_is_not_recorded_by_option_is_not_said_to_use_no_gpu(run, tmp_path):
    done = run(PYTHON, "-c", f"{GPU}allocate(1)", options=["--enable", "0"])
    assert b"nothing was recorded: MEMWATCH_ENABLE=0" in done.stderr
    assert b"doctor" not in done.stderr and done.stderr.count(b"\n") == 1
    assert not list((tmp_path / "reports").iterdir())


def test_a_program_without_gpu_use_leaves_no_report_and_a_hint(run, tmp_path):
    done = run("true", options=[])
    assert b"doctor" in done.stderr and done.stderr.count(b"\n") == 1
    assert not list((tmp_path / "reports").iterdir())


def test_dir_is_made_and_takes_the_reports_though_the_program_changes_its_folder(run, tmp_path):
    done = run(
        PYTHON,
        "-c",
        f"import os; os.chdir('/')\n{GPU}allocate(1)",
        options=["--dir", "new"],
        env={"MEMWATCH_DIR": "/nowhere"},
    )
    (path,) = (tmp_path / "new").glob("memwatch.*.json")
    assert str(path).encode() in done.stderr


FAMILY = f"""{GPU}
import subprocess
allocate(1)
if len(sys.argv) > 1:
    time.sleep(0.3)
    os._exit(int(sys.argv[1]))
children = [subprocess.Popen([sys.executable, __file__, str(10 + i)]) for i in range(4)]
for child in children:
    child.wait()
"""


def test_reports_of_descendants_are_named_too(run, tmp_path):
    (tmp_path / "family.py").write_text(FAMILY)
    done = run(PYTHON, "family.py", options=[])
    reports = reports_named(done.stderr)
    assert len(reports) == 5
    assert sorted(report["process"]["exit"].get("code") for report in reports) == [
        0,
        10,
        11,
        12,
        13,
    ]


def test_an_orphan_whose_parent_is_gone_has_its_exit_code_in_the_report(run, tmp_path):
    (tmp_path / "orphan.py").write_text(f"{GPU}allocate(1)\ntime.sleep(0.3)\nos._exit(21)")
    done = run("sh", "-c", f"({PYTHON} orphan.py &); sleep 1", options=["--monitor", "0"])
    (report,) = reports_named(done.stderr)
    assert matches(report["process"]["exit"], {"kind": "code", "code": 21})


def test_a_program_that_lives_on_keeps_its_monitor_and_gets_its_report(run, tmp_path):
    # The shell waits until the daemon has allocated and its monitor has begun.
    (tmp_path / "daemon.py").write_text(
        f"{GPU}allocate(1)\ntime.sleep(0.5)\nprint(flush=True)\ntime.sleep(1.5)"
    )
    shell = f"exec 3< <(exec {PYTHON} daemon.py 2>/dev/null); read -u 3 x"
    done = run("bash", "-c", shell, options=[])
    assert b"lives on" in done.stderr
    wait_for(lambda: not list((tmp_path / "ledgers").iterdir()), "end of the daemon's ledger")
    assert len(list((tmp_path / "reports").glob("*.json"))) == 1


def test_a_monitor_that_does_not_say_that_it_watches_is_not_waited_for(run, tmp_path):
    (tmp_path / "other").write_text("#!/bin/sh\nexec sleep 3 2>/dev/null\n")
    (tmp_path / "other").chmod(0o755)
    begin = time.monotonic()
    done = run(
        PYTHON,
        "-c",
        f"{GPU}allocate(1)\nos._exit(0)",
        options=[],
        env={"MEMWATCH_PROGRAM": str(tmp_path / "other")},
    )
    assert time.monotonic() - begin < 3
    assert len(reports_named(done.stderr)) == 1


def test_a_signal_ends_the_wait_for_a_monitor_that_hangs(start, tmp_path):
    code = f"{GPU}allocate(1)\nprint(flush=True)\ntime.sleep(1)\nos._exit(0)"
    process = start(PYTHON, "-c", code)
    read_line(process)
    (monitor,) = wait_for(lambda: monitors_of(tmp_path), "monitor")
    wait_for(lambda: list(tmp_path.glob("memwatch-run.*"))[0].stat().st_size, "note of the monitor")
    os.kill(monitor, signal.SIGSTOP)
    try:
        process.stdout.read()
        time.sleep(0.5)
        assert process.poll() is None, "run waits for the monitor"
        process.terminate()
        assert process.wait(2) == 0
    finally:
        os.kill(monitor, signal.SIGCONT)


def test_help_names_every_option_of_the_table_and_the_exit_codes(memwatch):
    done = memwatch("run", "--help")
    table = (pathlib.Path(__file__).resolve().parents[2] / "interpose" / "options.def").read_text()
    for variable in re.findall(r'"(MEMWATCH_\w+)"', table):
        assert variable in done.stdout
    assert all(code in done.stdout for code in ("125", "126", "127"))
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.returncode == 0
