# SPDX-License-Identifier: Apache-2.0
"""`memwatch run` reads its program's standard error along, and neither the program nor who reads
its output notices: bytes, order, terminals, readers that go away, programs that live on."""

import fcntl
import os
import pathlib
import resource
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

import pytest
from conftest import MEMWATCH, load_report, wait_for
from test_run import run, shell, start, surroundings  # noqa: F401 (fixtures)
from watched_programs import GPU, read_line, state

PYTHON = sys.executable


def copiers_of(folder):
    """The processes that copy, of runs whose files lie in a folder."""
    found = []
    for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text() != "memwatch-stderr\n":
                continue
            files = [os.readlink(fd) for fd in (comm.parent / "fd").iterdir()]
        except OSError:
            continue
        if any(file.startswith(str(folder)) for file in files):
            found.append(int(comm.parent.name))
    return found


# --- what passes -------------------------------------------------------------------------------


def test_bytes_pass_unchanged_however_many(run):
    code = "import os, sys; sys.stderr.buffer.write(bytes(range(256)) * 40960)"
    done = run(PYTHON, "-c", code)
    assert done.stderr == bytes(range(256)) * 40960


def test_a_slow_reader_gets_everything(start):
    process = start(PYTHON, "-c", "import sys; sys.stderr.write('x' * (1 << 20)); sys.exit(7)")
    time.sleep(0.5)
    got = b""
    while piece := os.read(process.stderr.fileno(), 10000):
        got += piece
    assert got == b"x" * (1 << 20)
    assert process.wait(10) == 7


def test_a_prompt_is_there_before_it_is_answered(start):
    code = "import sys; sys.stderr.write('name? '); sys.stderr.flush(); print(input())"
    process = start(PYTHON, "-c", code, stdin=subprocess.PIPE)
    assert os.read(process.stderr.fileno(), 100) == b"name? "
    process.stdin.write(b"me\n")
    process.stdin.flush()
    assert read_line(process) == "me"


ALTERNATING = "i=0; while [ $i -lt 300 ]; do echo $i; echo $i >&2; i=$((i+1)); done"


@pytest.mark.parametrize("kind", ["file", "appended file", "pipe"])
def test_output_and_errors_in_one_file_keep_their_order(surroundings, tmp_path, kind):
    redirection = {
        "file": ">log 2>&1",
        "appended file": ">>log 2>>log",
        "pipe": "2>&1 | cat >log",
    }[kind]
    command = f"{MEMWATCH} run -q -- sh -c '{ALTERNATING}' {redirection}"
    subprocess.run(["sh", "-c", command], env=surroundings, cwd=tmp_path, check=True)
    wanted = "".join(f"{i}\n{i}\n" for i in range(300))
    assert (tmp_path / "log").read_text() == wanted


def test_the_lines_of_run_come_after_the_program_s(run):
    done = run("sh", "-c", "i=0; while [ $i -lt 2000 ]; do echo $i >&2; i=$((i+1)); done", options=[])
    lines = done.stderr.decode().splitlines()
    assert lines[:2000] == [str(i) for i in range(2000)]
    assert len(lines) == 2001 and lines[2000].startswith("memwatch: ")


def test_the_program_has_a_descriptor_that_is_neither_terminal_nor_readable(run):
    done = run(PYTHON, "-c", "import os; print(os.isatty(2), os.readlink('/proc/self/fd/2')[:5])")
    assert done.stdout == b"False pipe:\n"


# --- what does not -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, env",
    [
        (["-q", "--no-stderr"], {}),
        (["-q", "--keep-stderr", "0"], {}),
        (["-q"], {"MEMWATCH_STDERR": "0"}),
    ],
)
def test_if_it_shall_not_be_read_the_program_gets_the_descriptor_itself(
    surroundings, tmp_path, options, env
):
    with open(tmp_path / "log", "w") as log:
        done = subprocess.run(
            [MEMWATCH, "run", *options, "readlink", "/proc/self/fd/2"],
            env={**surroundings, **env},
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert done.stdout.decode().strip() == str(tmp_path / "log")


def test_a_socket_that_is_both_output_and_errors_is_passed_on_and_that_is_said(surroundings):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [MEMWATCH, "run", "readlink", "/proc/self/fd/2"]
        subprocess.run(command, env=surroundings, stdout=theirs, stderr=theirs, check=True)
        theirs.shutdown(socket.SHUT_WR)
        lines = ours.makefile().read().splitlines()
    assert lines[0].startswith("socket:")
    assert lines[1] == (
        "memwatch: run: standard error was not read along: it is one socket with standard output"
    )


def test_nothing_is_left_when_run_has_ended(run, tmp_path):
    run("sh", "-c", "echo x >&2")
    assert not list(tmp_path.glob("memwatch*"))
    wait_for(lambda: not copiers_of(tmp_path), "end of the copying process")


# --- ends --------------------------------------------------------------------------------------


def test_when_the_reader_is_gone_the_program_gets_its_sigpipe(start):
    process = start("sh", "-c", "while :; do echo x >&2; done")
    assert os.read(process.stderr.fileno(), 1) == b"x"
    process.stderr.close()
    assert process.wait(10) == -signal.SIGPIPE


def test_of_lost_output_the_program_learns(surroundings, tmp_path):
    """Standard output and standard error are one file, which must not grow beyond 1 MiB."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    with open(tmp_path / "log", "w") as log:
        command = [MEMWATCH, "run", "-q", "yes"]
        done = subprocess.run(
            command, env=surroundings, stdout=log, stderr=log, preexec_fn=limit, timeout=30
        )
    assert done.returncode != 0
    assert (tmp_path / "log").stat().st_size == 1 << 20


LATER = "(sleep 0.7; echo late >&2; echo $? >after) & exit 3"


def test_who_outlives_the_program_goes_on_printing_and_run_does_not_wait(start, tmp_path):
    process = start("sh", "-c", LATER)
    assert process.wait(10) == 3
    assert not (tmp_path / "after").exists()
    assert process.stderr.read() == b"late\n", "the end comes with the last who could print"
    assert (tmp_path / "after").read_text() == "0\n"
    wait_for(lambda: not copiers_of(tmp_path), "end of the copying process")


def test_when_run_is_killed_the_program_goes_on_printing(start, tmp_path):
    process = start("sh", "-c", "echo $$; sleep 0.7; echo late >&2; echo $? >after; sleep 0.2")
    read_line(process)
    process.kill()
    assert process.stderr.read() == b"late\n"
    assert (tmp_path / "after").read_text() == "0\n"


@pytest.mark.parametrize("quiet", [["-q"], []], ids=["quiet", "summary"])
def test_when_the_copying_process_is_killed_another_one_goes_on(start, tmp_path, quiet):
    code = (f"{GPU}allocate(1)\nos.write(2, b'one\\n')\nprint(flush=True)\ninput()\n"
            "os.write(2, b'two\\n')\ninput()\nos.system('echo three >&2')")
    process = start(PYTHON, "-c", code, options=quiet, stdin=subprocess.PIPE)
    read_line(process)
    assert process.stderr.readline() == b"one\n"
    for text in (b"two\n", b"three\n"):
        (copier,) = wait_for(lambda: copiers_of(tmp_path), "copying process")
        os.kill(copier, signal.SIGKILL)
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stderr.readline() == text
    assert process.wait(20) == 0
    (path,) = (tmp_path / "reports").glob("*.json")
    texts = "".join(message["text"] for message in load_report(path)["messages"])
    assert texts == "one\ntwo\nthree\n"
    assert not list(tmp_path.glob("memwatch-*"))
    wait_for(lambda: not copiers_of(tmp_path), "end of the copying process")


def left(folder):
    return sorted(path.name.split(".")[0] for path in folder.glob("memwatch-*"))


ALL_FILES = ["memwatch-orders", "memwatch-run", "memwatch-stderr"]


def killed_with_its_program(start, tmp_path):
    """A run that was killed, and its program ended later."""
    killed = start("sh", "-c", "read x", stdin=subprocess.PIPE)
    wait_for(lambda: copiers_of(tmp_path), "copying process")
    killed.kill()
    killed.stdin.write(b"\n")
    killed.stdin.flush()
    wait_for(lambda: not copiers_of(tmp_path), "end of the copying process")


def aged(folder, seconds):
    for path in folder.glob("memwatch-*"):
        os.utime(path, times=(time.time() - seconds,) * 2)


def test_what_a_killed_run_leaves_the_next_one_removes_but_not_the_files_of_the_living(run, start, tmp_path):
    killed_with_its_program(start, tmp_path)
    assert left(tmp_path) == ALL_FILES
    run("true")
    assert left(tmp_path) == ALL_FILES, "a monitor may still need them"
    aged(tmp_path, 100)
    run("true")
    assert left(tmp_path) == []
    living = start("sh", "-c", "read x", stdin=subprocess.PIPE)
    wait_for(lambda: copiers_of(tmp_path), "copying process")
    aged(tmp_path, 100)
    run("true")
    assert left(tmp_path) == ALL_FILES
    living.kill()  # the program goes on, and its copying process holds the files
    run("true")
    assert left(tmp_path) == ALL_FILES


def test_a_sweep_removes_what_killed_runs_left_and_nothing_else(start, tmp_path, memwatch):
    killed_with_its_program(start, tmp_path)
    (tmp_path / "memwatch-run.notes-of-mine").write_text("")
    (tmp_path / "memwatch-run.folder").mkdir()
    aged(tmp_path, 100)
    assert left(tmp_path)[:3] == ["memwatch-orders", "memwatch-run", "memwatch-run"]
    done = memwatch("report", "--sweep", tmp_path)
    assert done.returncode == 0
    assert done.stderr == f"memwatch: {tmp_path}: removed what 1 killed runs left\n"
    assert left(tmp_path) == ["memwatch-run", "memwatch-run"]
    assert memwatch("report", "--sweep", tmp_path).returncode == 4


def test_a_chatty_stranger_does_not_keep_run_from_ending(start):
    process = start("sh", "-c", "yes >&2 & echo $!; exit 5")
    stranger = int(read_line(process))
    end = time.monotonic() + 8
    try:
        while process.poll() is None and time.monotonic() < end:
            os.read(process.stderr.fileno(), 65536)
        assert process.poll() == 5
    finally:
        os.kill(stranger, signal.SIGKILL)


def test_signals_of_the_process_group_do_not_stop_the_copying(start, tmp_path):
    code = "import signal, sys, time; signal.signal(signal.SIGINT, lambda *a: sys.stderr.write('int\\n'))"
    process = start(PYTHON, "-c", f"{code}\nprint('ready', flush=True)\ntime.sleep(1)")
    assert read_line(process) == "ready"
    os.killpg(process.pid, signal.SIGINT)
    # `run` is in the group, too, and passes its signal on.
    assert process.stderr.read() in (b"int\n", b"int\nint\n")
    assert process.wait(10) == 0


def test_the_copying_process_holds_nothing_but_what_it_copies(start, tmp_path):
    process = start("sh", "-c", "echo ready; sleep 20")
    read_line(process)
    (copier,) = wait_for(lambda: copiers_of(tmp_path), "copying process")
    files = [os.readlink(fd) for fd in pathlib.Path(f"/proc/{copier}/fd").iterdir()]
    assert len(files) == 5
    assert sum(pathlib.Path(file).name.startswith("memwatch-") for file in files) == 3
    assert sum(file.startswith("pipe:") for file in files) == 2
    assert os.readlink(f"/proc/{copier}/cwd") == "/"
    assert pathlib.Path(f"/proc/{copier}/stat").read_text().split()[5] == str(copier), "its session"


def test_the_report_waits_for_what_has_not_been_copied_yet(start, tmp_path):
    code = f"{GPU}allocate(1)\nprint(os.getpid(), flush=True)\ninput()\nos.system('echo last words >&2')"
    process = start(PYTHON, "-c", code, stdin=subprocess.PIPE)
    program = read_line(process)
    (copier,) = wait_for(lambda: copiers_of(tmp_path), "copying process")
    os.kill(copier, signal.SIGSTOP)
    try:
        process.stdin.write(b"\n")
        process.stdin.flush()
        wait_for(lambda: state(program) is None, "end of the program")
        time.sleep(0.3)
    finally:
        os.kill(copier, signal.SIGCONT)
    assert process.wait(20) == 0
    (path,) = (tmp_path / "reports").glob("*.json")
    assert [message["text"] for message in load_report(path)["messages"]] == ["last words\n"]


# --- terminals ---------------------------------------------------------------------------------

SIZE = "import os; print('size', os.isatty(2), *os.get_terminal_size(2), file=open('/dev/tty', 'w'))"


def resize(shell, columns, rows):
    fcntl.ioctl(shell.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@pytest.mark.parametrize("where", ["--all-stderr", "-q >out", "--no-stderr"])
def test_on_a_terminal_it_stays_a_terminal_of_the_same_size(shell, tmp_path, where):
    (tmp_path / "size.py").write_text(SIZE)
    resize(shell, 97, 31)
    options, _, redirection = where.partition(" ")
    shell.type(f"$MEMWATCH run -q {options} $PYTHON size.py {redirection}; echo status=$?\n")
    assert shell.expect(r"size (\w+) (\d+) (\d+)\r").groups() == ("True", "97", "31")
    shell.expect("status=0")


def test_where_output_goes_to_the_same_terminal_nothing_is_read_and_order_stays(shell, tmp_path):
    shell.type(f"$MEMWATCH run -q sh -c '{ALTERNATING}'; readlink /proc/self/fd/2\n")
    shell.expect("".join(f"{i}\r\n{i}\r\n" for i in range(300)))
    shell.type("$MEMWATCH run -q readlink /proc/self/fd/2; readlink /proc/self/fd/2\n")
    same = shell.expect(r"(/dev/pts/\d+)\r\n(/dev/pts/\d+)\r\n")
    assert same[1] == same[2]


def test_what_is_printed_to_a_terminal_arrives_as_without_run(shell, tmp_path):
    """Line ends are translated once, colours are not touched."""
    (tmp_path / "print.sh").write_text("printf 'a\\nb\\r\\tc\\033[31m\\n' >&2\n")
    shell.type("$MEMWATCH run -q --all-stderr sh print.sh; echo end\n")
    shell.expect("a\r\nb\r\tc\x1b\\[31m\r\nend\r\n")


RESIZED = """
import os, signal, time
tty = open('/dev/tty', 'w')
seen = []
signal.signal(signal.SIGWINCH, lambda *a: seen.append(tuple(os.get_terminal_size(2))))
print('ready', file=tty, flush=True)
end = time.monotonic() + 20
while (70, 20) not in seen and time.monotonic() < end:
    time.sleep(0.01)
print('seen', seen[-1:], file=tty, flush=True)
"""


def test_a_new_size_of_the_terminal_reaches_the_program(shell, tmp_path):
    (tmp_path / "resized.py").write_text(RESIZED)
    shell.type("$MEMWATCH run -q --all-stderr $PYTHON resized.py\n")
    shell.expect("ready\r")
    resize(shell, 70, 20)
    shell.expect(r"seen \[\(70, 20\)\]")


def test_ctrl_c_and_ctrl_z_are_the_terminal_s(shell):
    shell.type("$MEMWATCH run -q --all-stderr sh -c 'echo begun >&2; read x; echo \"got:$x\" >&2'\n")
    shell.expect(r"begun\r")
    shell.type("\x1a")
    shell.expect("Stopped")
    shell.type("fg\n")
    shell.expect("fg\r")
    time.sleep(0.3)
    shell.type("word\n")
    shell.expect("got:word")
    shell.type("$MEMWATCH run -q --all-stderr sleep 30; echo status=$?\n")
    time.sleep(0.5)
    shell.type("\x03")
    shell.type("echo again=$?\n")
    shell.expect("again=130")
