# SPDX-License-Identifier: Apache-2.0
"""kill -9 at any instant, at full speed: what lies in the ledger is what the GPU's own books say,
but for the one event that each thread may have been in the midst of."""

import concurrent.futures
import json
import os
import random
import signal
import subprocess
import time

import books
from conftest import BUILD, LIBRARY, MEMWATCH, SANITIZE, clean_environment, sanitizer_runtimes

HAMMER = BUILD / "tests" / "endtoend" / "hammer"
RUNS = 100 if SANITIZE else 1000
THREADS = (1, 2, 4)
LARGEST = 4096  # bytes of hammer's largest block
# Seconds from the start of the program to the kill. Start-up takes some milliseconds, so that some
# die before their first event, some while the ledger is made, and most in the midst of the work.
EARLIEST, LATEST = 0.0, 0.6 if SANITIZE else 0.03
WORKERS = 2


def killed_run(folder, number):
    """Runs hammer and kills it; returns what is wrong with what it left, and its events."""
    random.seed(number)
    threads = THREADS[number % len(THREADS)]
    place = folder / str(number)
    place.mkdir()
    environment = clean_environment()
    environment.update(
        LD_PRELOAD=":".join([*sanitizer_runtimes(), str(LIBRARY)]),
        MEMWATCH_MONITOR="0",
        MEMWATCH_LEDGER_DIR=str(place),
        MEMWATCH_DIR=str(place),
        SIMGPU_BOOKS=str(place / "books"),
    )
    pid = os.posix_spawn(HAMMER, ["hammer", str(threads)], environment)
    time.sleep(random.uniform(EARLIEST, LATEST))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    wrong = [] if os.WIFSIGNALED(status) else [f"hammer ended by itself: status {status}"]
    try:
        true = books.read(place / "books")
    except (OSError, ValueError):
        true = {}
    ledgers = list(place.glob("*.ledger"))
    events = sum(row["allocs"] + row["frees"] for row in true.values())
    if len(ledgers) == 1:
        wrong += judge(ledgers[0], true, threads)
    # With a sanitizer making the ledger may take longer than other threads wait for it.
    elif (events > threads and not SANITIZE) or len(ledgers) > 1:
        wrong.append(f"{len(ledgers)} ledgers after {events} events")
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    return [f"run {number}, {threads} threads: {text}" for text in wrong], events


def judge(ledger, true, threads):
    """What the report of a ledger says wrong."""
    done = subprocess.run(
        [MEMWATCH, "report", "--check", "--format", "json", ledger], capture_output=True, text=True
    )
    if done.returncode != 0:
        return [f"memwatch report --check: exit {done.returncode}: {done.stderr}"]
    totals = {(row["device"], row["space"]): row for row in json.loads(done.stdout)["totals"]}
    events = amount = 0
    for key in totals.keys() | true.keys():
        ours, theirs = totals.get(key), true.get(key)
        if key[1] == "pool_reserved":
            continue
        count = lambda row, name: row[name] if row else 0
        events += abs(count(ours, "allocations") - count(theirs, "allocs"))
        events += abs(count(ours, "frees") - count(theirs, "frees"))
        amount += abs(count(ours, "live_bytes") - count(theirs, "live"))
    wrong = []
    if events > threads:
        wrong.append(f"{events} events differ")
    if amount > threads * LARGEST:
        wrong.append(f"{amount} bytes differ")
    return wrong


def test_after_kill_9_the_ledger_is_right_but_for_one_event_a_thread(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        results = list(pool.map(lambda number: killed_run(tmp_path, number), range(RUNS)))
    wrong = [text for texts, _ in results for text in texts]
    assert not wrong, f"{len(wrong)} of {RUNS} runs:\n" + "\n".join(wrong[:20])
    busy = sum(events > 1000 for _, events in results)
    assert busy > RUNS / 3, f"only {busy} of {RUNS} runs were killed in the midst of their work"
