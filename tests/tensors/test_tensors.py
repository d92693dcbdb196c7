# SPDX-License-Identifier: Apache-2.0
"""PyTorch's tensor events, by a synthetic libc10 of each generation: what is recorded equals the
allocator's own books, PyTorch's profiler gets what it would have got, and nothing waits for us."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from conftest import BUILD, MEMWATCH, SANITIZE, SIMGPU, clean_environment, load_report
from conftest import needs_plain_build, wait_for

TENSORS = BUILD / "tests" / "tensors"
PROGRAM = TENSORS / "tensors"
GENERATIONS = ["1", "wide", "2", "3"]
WITH_TOTALS = ["2", "3"]
FOUR_DEVICES = {"SIMGPU_DEVICES": 4}

# Where a report has what the allocator's books have, and whether torch has to tell it.
COMPARED = {
    "allocated_bytes": ("allocated", True),
    "allocated_peak_bytes": ("allocated_peak", True),
    "reserved_bytes": ("reserved", True),
    "reserved_peak_bytes": ("reserved_peak", True),
    "tensor_bytes": ("allocated", False),
    "tensors": ("blocks", False),
    "segment_bytes": ("reserved", False),
    "segments": ("segments", False),
    "largest_gap_bytes": ("largest_gap", True),
}


def allocator(kind):
    return TENSORS / kind / "libc10_cuda.so"


def spoken(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def books_of(lines):
    """The allocator's own books, by device, without devices that were never used."""
    return {b["device"]: b for b in lines if "device" in b and (b["allocations"] or b["ooms"])}


def assert_true_to_the_allocator(report, books, kind):
    ours = {d["device"]: d for d in report["torch"]["devices"]}
    assert ours.keys() == books.keys()
    for device, truth in books.items():
        for name, (theirs, told) in COMPARED.items():
            wanted = None if told and kind not in WITH_TOTALS else truth[theirs]
            assert ours[device][name] == wanted, f"device {device}: {name}"
    totals = {t["device"]: t for t in report["totals"] if t["space"] == "tensor"}
    assert totals.keys() == books.keys()
    for device, truth in books.items():
        assert totals[device]["allocations"] == truth["allocations"]
        assert totals[device]["frees"] == truth["frees"]
        assert totals[device]["peak_bytes"] == truth["allocated_peak"]
        assert totals[device]["failed"] == (truth["ooms"] if kind in WITH_TOTALS else 0)
    assert report["ledger"]["check"]["ok"]
    assert report["coverage"]["losses"] == {}
    assert report["coverage"]["tensors"]["state"] == "live"


def run(run_watched, scenario, kind, *more, env=None):
    result = run_watched([PROGRAM, scenario, allocator(kind), *more], env={**FOUR_DEVICES, **(env or {})})
    assert result.returncode == 0, result.stdout + result.stderr
    return result


# --- books -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", GENERATIONS)
def test_every_tensor_is_recorded_and_every_event_passed_on(run_watched, kind):
    result = run(run_watched, "churn", kind)
    assert_true_to_the_allocator(result.report, books_of(spoken(result)), kind)
    assert spoken(result)[-1]["same"]
    assert result.report["torch"]["since"] == {"1": "1.6", "wide": "1.6", "2": "1.10", "3": "2.0"}[kind]
    assert result.report["findings"] == []


@pytest.mark.parametrize("kind", WITH_TOTALS)
def test_eight_threads_that_free_each_others_tensors(run_watched, kind):
    result = run(run_watched, "threads", kind)
    report = result.report
    books = books_of(spoken(result))
    assert_true_to_the_allocator(report, books, kind)
    assert spoken(result)[-1]["same"]
    frees = [a["frees"] for t in report["threads"] for a in t["accounts"] if a["space"] == "tensor"]
    assert len(frees) >= 8 and sum(frees) == sum(b["frees"] for b in books.values())


def test_tensors_are_never_added_to_the_memory_that_they_lie_in(run_watched):
    result = run(run_watched, "churn", "3")
    report = result.report
    totals = {(t["device"], t["space"]): t for t in report["totals"]}
    assert not totals[0, "tensor"]["counted_as_memory"]
    books = books_of(spoken(result))
    memory = sum(t["live_bytes"] for t in report["totals"] if t["counted_as_memory"])
    assert memory == sum(b["reserved"] for b in books.values())
    assert sum(t["live_bytes"] for t in report["threads"]) == memory
    assert all(d["own_bytes"] == books[d["ordinal"]]["reserved"] for d in report["devices"]
               if d["ordinal"] in books)


def test_devices_of_cuda_hip_and_xpu_are_recorded_and_no_others(run_watched):
    report = run(run_watched, "types", "3").report
    assert {t["device"]: t["live_bytes"] for t in report["totals"] if t["space"] == "tensor"} == {
        0: 1024, 1: 2048, 2: 4096}


def test_a_tensors_address_is_shown_as_torch_has_it(run_watched, tmp_path):
    report = run(run_watched, "types", "3").report
    blocks = report["blocks"]["largest"]
    segments = {b["device"]: int(b["key"], 16) for b in blocks if b["space"] == "device"}
    tensors = {b["device"]: int(b["key"], 16) for b in blocks if b["space"] == "tensor"}
    assert {d: segments[d] for d in tensors} == tensors  # each is the first in its segment


# --- what is wanted ----------------------------------------------------------------------------


def test_tensors_of_the_host_are_recorded_if_asked_for(run_watched):
    host = lambda report: [t for t in report["totals"] if (t["device"], t["space"]) == (-1, "tensor")]
    assert host(run(run_watched, "host", "3").report) == []
    result = run(run_watched, "host", "3", env={"MEMWATCH_TENSORS": "all"})
    [total] = host(result.report)
    assert (total["live_bytes"], total["allocations"], total["frees"]) == (10000, 2, 1)
    assert result.report["coverage"]["losses"] == {}
    # So that nobody takes for all of them what PyTorch told.
    assert "only while its profiler" in result.report["coverage"]["tensors"]["text"]


def test_no_tensors_by_option(run_watched):
    result = run(run_watched, "churn", "3", env={"MEMWATCH_TENSORS": "off"})
    report = result.report
    assert [t for t in report["totals"] if t["space"] == "tensor"] == []
    assert report["coverage"]["tensors"] == {"state": "off", "text": "by MEMWATCH_TENSORS"}
    assert spoken(result)[-1]["same"]


def test_events_that_nobody_wants_do_not_wake_the_library(run_watched):
    env = {"MEMWATCH_TENSORS": "off", "LD_LIBRARY_PATH": str(SIMGPU)}
    result = run(run_watched, "loaded", "3", env=env)
    assert result.reports == {} and result.ledgers == []


# --- out of memory -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WITH_TOTALS)
def test_out_of_memory_tells_what_was_asked_and_who_held_what_then(run_watched, memwatch, kind):
    result = run(run_watched, "oom", kind)
    report = result.report
    assert_true_to_the_allocator(report, books_of(spoken(result)), kind)
    [oom] = report["torch"]["out_of_memory"]
    assert oom["asked_bytes"] == 1 << 50
    # The 64 MiB that were freed later, and five times 3 MiB.
    assert oom["tensor_bytes"] == oom["allocated_bytes"] == (64 + 15) << 20
    assert oom["reserved_bytes"] == (64 + 20) << 20
    assert [s["live_bytes"] for s in oom["sites"]] == [64 << 20, 15 << 20]
    held = [report["sites"][s["site"]] for s in oom["sites"]]
    assert all(s["space"] == "tensor" for s in held)
    assert [s["live_bytes"] for s in held] == [0, 15 << 20]
    [finding] = [f for f in report["findings"] if f["type"] == "out_of_memory"]
    assert finding["sites"] == [s["site"] for s in oom["sites"]]
    assert finding["sites_bytes"] == [64 << 20, 15 << 20]
    [path] = (result.folder / "reports").glob("*.json")
    text = memwatch("report", path).stdout
    assert "PyTorch could not get 1.00 PiB on device 0" in text
    assert re.search(r"held then by [^;]*\(64\.00 MiB\); [^;]*\(15\.00 MiB\)", " ".join(text.split()))


# 32 MiB that four tensors made as segments and a fifth holds a part of: of that, 4 MiB in one piece
# are not to be had.
TOO_LITTLE = """
import ctypes, sys
c10 = ctypes.CDLL(sys.argv[1])
c10.c10_alloc.restype = ctypes.c_void_p
c10.c10_free.argtypes = [ctypes.c_void_p]
c10.c10_alloc.argtypes = [ctypes.c_int, ctypes.c_size_t]
def prepare():
    for block in [c10.c10_alloc(0, 8 << 20) for i in range(4)]:
        c10.c10_free(block)
def keep():
    return [c10.c10_alloc(0, 5 << 20) for i in range(4)]
prepare()
keep()
assert c10.c10_alloc(0, 4 << 20) is None
"""
SAID = """
print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.00 MiB. GPU 0 has a total "
      "capacity of 32.00 MiB of which 0 bytes is free.", file=sys.stderr, flush=True)
"""


@needs_plain_build
@pytest.mark.parametrize("said", ["", SAID + "sys.exit(1)"], ids=["silent", "said"])
def test_one_failure_is_one_finding_which_names_who_holds_the_memory(
    run_watched, memwatch, tmp_path, said
):
    """The driver refused a segment, PyTorch a tensor, and it printed so: that happened once. The line
    that merely made the segments is not named."""
    (tmp_path / "short.py").write_text(TOO_LITTLE + said)
    result = run_watched([sys.executable, tmp_path / "short.py", allocator("3")],
                         env={"SIMGPU_MEMORY": "32M"})
    assert result.returncode == (1 if said else 0), result.stderr
    report = result.report
    [finding] = report["findings"]
    assert finding["type"] == "out_of_memory"
    [site] = [report["sites"][i] for i in finding["sites"]]
    assert site["space"] == "tensor" and finding["sites_bytes"] == [20 << 20]
    assert site["frames"][site["where"]]["function"].startswith("keep")
    evidence = {e["what"]: e for e in finding["evidence"]}
    assert len(evidence) == len(finding["evidence"]), "two numbers by one name"
    assert evidence["asked for"]["bytes"] == 4 << 20
    assert evidence["asked for, of the driver"]["bytes"] >= 4 << 20
    assert ("printed" in evidence) == bool(said)
    assert "cudaMalloc" in evidence["failed call"]["text"]
    assert finding["failure"] is not None
    assert finding["knowledge"] and finding["do"] and finding["explanation"]
    [path] = (result.folder / "reports").glob("*.json")
    text = " ".join(memwatch("report", path).stdout.split())
    assert " held by short.py" not in text


@needs_plain_build
def test_an_earlier_failure_has_a_finding_of_its_own(run_watched, tmp_path):
    """Of several refusals the last is told as such; the first, which was printed, by its record."""
    again = "import time; time.sleep(1.2); assert c10.c10_alloc(0, 6 << 20) is None"
    (tmp_path / "short.py").write_text(TOO_LITTLE + SAID + again)
    result = run_watched([sys.executable, tmp_path / "short.py", allocator("3")],
                         env={"SIMGPU_MEMORY": "32M"})
    report = result.report
    findings = {f["type"]: f for f in report["findings"]}
    assert sorted(findings) == ["known_error", "out_of_memory"]
    printed = {type: [e for e in f["evidence"] if e["what"] == "printed"]
               for type, f in findings.items()}
    assert printed["known_error"] and not printed["out_of_memory"]
    for finding in findings.values():
        sites = [report["sites"][i] for i in finding["sites"]]
        assert [s["space"] for s in sites] == ["tensor"], finding["title"]
    whose = {e["what"]: e["text"] for e in findings["known_error"]["evidence"]}["holders"]
    assert "what the driver gave are PyTorch's segments" in whose


KEPT = """
import ctypes, sys
c10 = ctypes.CDLL(sys.argv[1])
c10.c10_alloc.restype = ctypes.c_void_p
c10.c10_alloc.argtypes = [ctypes.c_int, ctypes.c_size_t]
c10.c10_free.argtypes = [ctypes.c_void_p]
class Tensor:
    def __init__(self, bytes):
        self.block = c10.c10_alloc(0, bytes)
    def __del__(self, free=c10.c10_free):
        free(self.block)
kept = [Tensor(5 << 20) for i in range(4)]
"""


def test_tensors_have_tables_of_their_own_by_device_and_by_thread(run_watched, memwatch):
    argv = [sys.executable, "-c", KEPT + "import os; os._exit(0)", allocator("3")]
    result = run_watched(argv)
    assert result.returncode == 0, result.stderr
    [segments] = [t["live_bytes"] >> 20 for t in result.report["totals"] if t["space"] == "device"]
    [path] = (result.folder / "reports").glob("*.json")
    for what, name in (("device", "device 0"), ("thread", r"python\S* \(\d+\)")):
        text = memwatch("report", "--group-by", what, path).stdout
        tensors, memory = re.findall(rf"^(?:tensors )?by {what} +live +share .*\n((?:.+\n)+)", text,
                                     re.MULTILINE)[:2]
        assert re.fullmatch(rf"{name} +20\.00 MiB 100\.0% +4 .*\n", tensors), text
        assert re.match(rf"{name} +{segments}\.00 MiB +[\d.]+% ", memory), text


def test_pytorchs_books_are_told_as_they_were_before_pythons_end(run_watched, memwatch):
    result = run_watched([sys.executable, "-c", KEPT, allocator("3")])
    assert result.returncode == 0, result.stderr
    [device] = result.report["torch"]["devices"]
    assert device["allocated_bytes"] == device["tensor_bytes"] == 0
    reserved = device["reserved_bytes"] >> 20
    [path] = (result.folder / "reports").glob("*.json")
    text = memwatch("report", path).stdout
    row = rf"^device 0 +20\.00 MiB +20\.00 MiB +{reserved}\.00 MiB +{reserved - 20}\.00 MiB +-$"
    assert re.search(row, text, re.MULTILINE), text


def test_a_folder_tells_of_each_process_how_much_of_its_memory_was_tensors(run_watched, memwatch):
    result = run_watched([sys.executable, "-c", KEPT, allocator("3")])
    assert result.returncode == 0, result.stderr
    assert result.report  # it is there
    reports = result.folder / "reports"
    text = memwatch("report", reports).stdout
    assert re.search(r"^ +tensors in it +20\.00 MiB +20\.00 MiB$", text, re.MULTILINE), text
    # Of four devices: their peaks were at different times.
    result = run(run_watched, "churn", "3")
    assert result.report
    text = memwatch("report", result.folder / "reports").stdout
    assert len(re.findall(r"^ +tensors in it +\S+ \S+ +<=\S+ \S+$", text, re.MULTILINE)) == 1, text
    assert max(map(len, text.splitlines())) <= 80


OF_ANOTHER = """
import time
time.sleep(1.2)
p = ctypes.c_uint64()
assert ctypes.CDLL("libcuda.so.1").cuMemAlloc_v2(ctypes.byref(p), ctypes.c_size_t(1 << 30)) == 2
print("RuntimeError: CUDA error: out of memory", file=sys.stderr, flush=True)
"""
LARGER = """
print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 9.00 GiB. GPU 0 has a total "
      "capacity of 32.00 MiB of which 0 bytes is free.", file=sys.stderr, flush=True)
"""


@needs_plain_build
@pytest.mark.parametrize("other, told", [(OF_ANOTHER, "CUDA error: out of memory"),
                                         (LARGER, "Tried to allocate 9.00 GiB")],
                         ids=["another library", "another size"])
def test_a_failure_that_is_not_pytorchs_is_told_by_itself(run_watched, tmp_path, other, told):
    """Near in time is not enough to say that two errors are one."""
    (tmp_path / "short.py").write_text(TOO_LITTLE + other)
    result = run_watched([sys.executable, tmp_path / "short.py", allocator("3")],
                         env={"SIMGPU_MEMORY": "32M"})
    assert result.returncode == 0, result.stderr
    printed = {f["type"]: [e["text"] for e in f["evidence"] if e["what"] == "printed"]
               for f in result.report["findings"]}
    assert printed["out_of_memory"] == []
    assert told in printed["known_error"][0]


def test_fragmentation_is_called_so(run_watched):
    """What is unused would have been enough, but lies in pieces."""
    script = """
import ctypes, sys
c10 = ctypes.CDLL(sys.argv[1])
c10.c10_alloc.restype = ctypes.c_void_p
c10.c10_free.argtypes = [ctypes.c_void_p]
c10.c10_alloc.argtypes = [ctypes.c_int, ctypes.c_size_t]
blocks = [c10.c10_alloc(0, 1 << 20) for i in range(16)]
for block in blocks[::2]:
    c10.c10_free(block)
assert c10.c10_alloc(0, 4 << 20) is None
"""
    result = run_watched([sys.executable, "-c", script, allocator("3")], env={"SIMGPU_MEMORY": "16M"})
    assert result.returncode == 0, result.stderr
    report = result.report
    [finding] = [f for f in report["findings"] if f["type"] == "out_of_memory"]
    assert finding["severity"] == "warning"  # the program lived on
    assert "fragmented" in finding["explanation"]
    [device] = report["torch"]["devices"]
    assert (device["unused_bytes"], device["largest_gap_bytes"]) == (8 << 20, 1 << 20)


def test_what_others_take_from_the_driver_is_no_segment_of_torchs(run_watched):
    script = """
import ctypes, sys
c10 = ctypes.CDLL(sys.argv[1])
c10.c10_alloc.argtypes = [ctypes.c_int, ctypes.c_size_t]
c10.c10_alloc(0, 1 << 20)
cuda = ctypes.CDLL("libcudart.so.13")
block = ctypes.c_void_p()
assert cuda.cudaMalloc(ctypes.byref(block), ctypes.c_size_t(7 << 20)) == 0
"""
    argv = [sys.executable, "-c", script, allocator("3")]
    report = run_watched(argv).report
    assert [t["live_bytes"] for t in report["totals"] if t["space"] == "device"] == [9 << 20]
    [device] = report["torch"]["devices"]
    assert (device["segment_bytes"], device["largest_gap_bytes"]) == (2 << 20, 1 << 20)
    # Who took it is told by native stacks; without them it is not guessed at.
    report = run_watched(argv, env={"MEMWATCH_STACKS": "python"}).report
    [device] = report["torch"]["devices"]
    assert (device["segment_bytes"], device["largest_gap_bytes"]) == (None, None)
    assert (device["tensor_bytes"], device["reserved_bytes"]) == (1 << 20, 2 << 20)


# --- books that do not agree -------------------------------------------------------------------


@pytest.mark.parametrize("kind", WITH_TOTALS)
def test_a_total_that_is_not_the_sum_of_its_events_is_a_finding(run_watched, kind):
    report = run(run_watched, "corrupt", kind).report
    [device] = report["torch"]["devices"]
    assert device["drift_bytes"] == -(1 << 20)
    [finding] = [f for f in report["findings"] if f["type"] == "framework_drift"]
    numbers = {e["source"]: e["bytes"] for e in finding["evidence"]}
    assert numbers == {"framework": device["allocated_bytes"], "ledger": device["tensor_bytes"]}


@pytest.mark.parametrize("kind", GENERATIONS)
def test_the_end_of_a_tensor_that_nobody_saw_begin_is_a_loss(run_watched, kind):
    report = run(run_watched, "stray", kind).report
    assert report["coverage"]["losses"]["unknown_tensors"]["count"] == 1


@pytest.mark.parametrize("kind", WITH_TOTALS)
def test_unless_tensors_were_there_before_recording_began(run_watched, memwatch, kind):
    result = run(run_watched, "late", kind)
    report = result.report
    [device] = report["torch"]["devices"]
    assert device["allocated_before_bytes"] == 1 << 20
    assert device["allocated_bytes"] == device["tensor_bytes"] + (1 << 20)
    assert device["drift_bytes"] is None and report["findings"] == []
    assert report["coverage"]["losses"] == {}
    [path] = (result.folder / "reports").glob("*.json")
    assert "1.00 MiB of it before recording began" in memwatch("report", path).stdout


# --- ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", GENERATIONS)
def test_after_kill_9_the_books_are_whole(run_watched, kind):
    result = run_watched([PROGRAM, "killed", allocator(kind)], env=FOUR_DEVICES)
    assert result.returncode == -signal.SIGKILL
    assert_true_to_the_allocator(result.report, books_of(spoken(result)), kind)


def test_after_kill_9_amid_the_events_of_eight_threads_the_ledger_agrees_with_itself(run_watched):
    for _ in range(5):
        result = run_watched([PROGRAM, "killed_threads", allocator("3")], env=FOUR_DEVICES)
        assert result.returncode == -signal.SIGKILL
        report = result.report
        assert report["ledger"]["check"]["ok"], report["ledger"]["check"]
        # At most the events that were under way are missing: one of each thread.
        under_way = report["ledger"]["in_flight"]
        for device in report["torch"]["devices"]:
            assert abs(device["drift_bytes"]) <= under_way * 100352


def test_a_forked_child_records_its_own_and_its_parents_tensors_are_no_loss(run_watched):
    result = run(run_watched, "fork", "3")
    lines = spoken(result)
    child = next(line["child"] for line in lines if "child" in line)
    wait_for(lambda: len(result.reports) == 2 and not result.ledgers, "both reports")
    theirs, ours = result.reports[child], result.report
    total = lambda report: [(t["allocations"], t["frees"], t["live_bytes"])
                            for t in report["totals"] if t["space"] == "tensor"]
    assert total(theirs) == [(1, 0, 1 << 19)]
    assert theirs["torch"]["devices"][0]["allocated_before_bytes"] > 0
    assert theirs["torch"]["devices"][0]["drift_bytes"] is None
    assert theirs["coverage"]["losses"] == {}
    assert total(ours) == [(2, 1, 1 << 20)]
    assert ours["coverage"]["losses"] == {}
    assert all(line["same"] for line in lines if "same" in line)


# --- which function is passed on to --------------------------------------------------------------


@needs_plain_build
def test_a_libc10_that_is_unloaded_and_loaded_again_is_found_again(run_watched):
    result = run(run_watched, "reload", "3")
    profiles = [line for line in spoken(result) if "same" in line]
    assert len(profiles) == 4 and all(p["same"] and p["gave"] for p in profiles)


def test_of_two_copies_of_libc10_none_gets_the_others_events(run_watched):
    result = run(run_watched, "two", "3", allocator("copy"))
    profiles = [line for line in spoken(result) if "same" in line]
    assert [p["got"] for p in profiles] == [0, 0]
    report = result.report
    assert [d["tensor_bytes"] for d in report["torch"]["devices"]] == [
        books_of(spoken(result))[d]["allocated"] for d in (0, 1)]
    assert "two of this library" in report["coverage"]["tensors"]["text"]


@pytest.mark.parametrize("other", ["copy", "copy2"])
def test_two_pytorches_on_one_device_are_no_drift(run_watched, other):
    """Each tells its own total; neither is the sum of both."""
    script = """
import ctypes, sys
for c10 in [ctypes.CDLL(path) for path in sys.argv[1:]]:
    c10.c10_alloc.argtypes = [ctypes.c_int, ctypes.c_size_t]
    for i in range(3):
        c10.c10_alloc(0, 3 << 20)
"""
    result = run_watched([sys.executable, "-c", script, allocator("3"), allocator(other)])
    assert result.returncode == 0, result.stderr
    [device] = result.report["torch"]["devices"]
    assert (device["tensor_bytes"], device["drift_bytes"]) == (18 << 20, None)
    assert [f for f in result.report["findings"] if f["type"] == "framework_drift"] == []


def test_two_generations_in_one_process_get_each_its_own_events(run_watched):
    result = run(run_watched, "two", "3", allocator("copy2"))
    profiles = [line for line in spoken(result) if "same" in line]
    assert all(p["same"] and p["gave"] for p in profiles)


def test_an_allocator_with_all_of_libc10_in_it_is_watched_too(run_watched):
    result = run(run_watched, "churn", "static")
    report = result.report
    assert {d["device"]: d["drift_bytes"] for d in report["torch"]["devices"]} == {0: 0, 2: 0}
    assert spoken(result)[-1]["same"]


DEEP = """
import ctypes, os, sys
c10 = ctypes.CDLL(sys.argv[1], mode=os.RTLD_NOW | os.RTLD_DEEPBIND)
c10.c10_alloc.argtypes = [ctypes.c_int, ctypes.c_size_t]
c10.c10_alloc(0, 1 << 20)
cuda = ctypes.CDLL("libcuda.so.1")
context, block = ctypes.c_void_p(), ctypes.c_uint64()
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
assert cuda.cuMemAlloc_v2(ctypes.byref(block), ctypes.c_size_t(1 << 20)) == 0
"""


@needs_plain_build
def test_a_deep_bound_torch_is_told_as_the_reason_that_there_are_no_tensors(run_watched):
    argv = [sys.executable, "-c", DEEP, allocator("3")]
    state, text = reason(run_watched, argv=argv)
    assert state == "unavailable" and "RTLD_DEEPBIND" in text
    state, text = reason(run_watched, {"MEMWATCH_DEEPBIND": "clear"}, argv)
    assert state == "live"


# --- what a hook may not do ----------------------------------------------------------------------


def test_no_event_waits_for_the_list_of_loaded_libraries(run_watched):
    """The allocator's mutex is held, and another thread holds the list until the events are done."""
    result = run(run_watched, "list", "3")
    assert spoken(result)[-1]["same"]
    assert_true_to_the_allocator(result.report, books_of(spoken(result)), "3")


@needs_plain_build
def test_no_event_makes_a_system_call(run_watched):
    # Without native stacks, which a tensor of Python's has none of: a walk asks the kernel about pages.
    env = {**FOUR_DEVICES, "MEMWATCH_STACKS": "python"}
    result = run_watched([PROGRAM, "syscalls", allocator("3")], env=env)
    lines = spoken(result)
    if lines and "skip" in lines[0]:
        pytest.skip(lines[0]["skip"])
    assert result.returncode == 0 and lines == [{"done": True}]
    assert sum(t["frees"] for t in result.report["totals"] if t["space"] == "tensor") == 99900


def test_errno_is_as_it_was(run_watched):
    assert spoken(run(run_watched, "errno", "3"))[0] == {"wrong": 0}


def test_books_equal_those_without_the_library(run_watched):
    with_it = run(run_watched, "threads", "3")
    without = run_watched([PROGRAM, "churn", allocator("3")], env=FOUR_DEVICES, mode="none")
    same = run(run_watched, "churn", "3")
    assert without.stdout == same.stdout and with_it.returncode == 0


# --- why there are none --------------------------------------------------------------------------


def reason(run_watched, env=None, argv=None):
    result = run_watched(argv or [PROGRAM, "loaded", allocator("3")], env={**FOUR_DEVICES, **(env or {})})
    assert result.returncode == 0, result.stderr
    tensors = result.report["coverage"]["tensors"]
    return tensors["state"], tensors["text"]


SILENT = """
import ctypes, sys
ctypes.CDLL(sys.argv[1])
cuda = ctypes.CDLL("libcudart.so.13")
block = ctypes.c_void_p()
assert cuda.cudaMalloc(ctypes.byref(block), ctypes.c_size_t(1 << 20)) == 0
"""


@pytest.mark.parametrize("env,words", [
    ({"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}, "cudaMallocAsync"),
    ({"PYTORCH_ALLOC_CONF": "backend:cudaMallocAsync"}, "cudaMallocAsync"),
    ({"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}, "does not cache"),
    ({}, "another allocator"),
])
def test_why_a_torch_that_is_there_tells_of_no_tensors(run_watched, env, words):
    argv = [sys.executable, "-c", SILENT, allocator("3")]
    state, text = reason(run_watched, env, argv)
    assert state == "unavailable" and words in text


def test_where_there_is_no_torch_there_are_no_tensors(run_watched):
    argv = [BUILD / "examples" / "driver_api", "leak"]
    assert reason(run_watched, argv=argv) == ("none", "no PyTorch in this process")


# --- Python --------------------------------------------------------------------------------------

TRAIN = """
import ctypes, json, os, subprocess, sys
c10 = ctypes.CDLL(sys.argv[1])
c10.c10_alloc.restype = ctypes.c_void_p
c10.c10_alloc.argtypes = [ctypes.c_int, ctypes.c_size_t]
c10.c10_free.argtypes = [ctypes.c_void_p]
kept = []

class Books(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("allocated", "allocated_peak", "reserved",
        "reserved_peak", "blocks", "segments", "largest_gap", "allocations", "frees", "ooms")]

def keep_activations():
    kept.append(c10.c10_alloc(0, 3 << 20))                       # line 14

def forward():
    keep_activations()
    return [c10.c10_alloc(0, 1 << 16) for i in range(20)]

def step():
    for block in forward():
        c10.c10_free(block)

def check():
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    report = json.loads(subprocess.check_output(
        [os.environ["MEMWATCH"], "report", "--format", "json", str(os.getpid())], env=environment))
    [device] = report["torch"]["devices"]
    books = Books()
    c10.c10_books(0, ctypes.byref(books))
    for ours, theirs in (("allocated_bytes", books.allocated), ("tensor_bytes", books.allocated),
                         ("segment_bytes", books.reserved), ("reserved_bytes", books.reserved),
                         ("largest_gap_bytes", books.largest_gap)):
        assert device[ours] == theirs, (ours, device[ours], theirs)

for i in range(5):
    step()
    check()
os.kill(os.getpid(), 9)
"""


@needs_plain_build
def test_at_every_step_the_live_ledger_is_exact_and_after_kill_9_it_names_the_line(run_watched, memwatch, tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    result = run_watched([sys.executable, tmp_path / "train.py", allocator("3")], env={"MEMWATCH": MEMWATCH})
    assert result.returncode == -signal.SIGKILL, result.stderr
    report = result.report
    site = next(s for s in report["sites"] if s["space"] == "tensor")
    frame = site["frames"][site["where"]]
    assert (os.path.basename(frame["file"]), frame["line"], frame["function"]) == ("train.py", 14, "keep_activations")
    assert site["live_bytes"] == 5 * 3 << 20
    assert all(f["kind"] == "python" for f in site["frames"])
    [path] = (result.folder / "reports").glob("*.json")
    text = memwatch("report", path).stdout
    tables = re.findall(r"^(tensors by site|by site).*\n(.*)$", text, re.MULTILINE)
    assert [name for name, _ in tables] == ["tensors by site", "by site"]
    assert tables[0][1].startswith("train.py:14 in keep_activat")
    # Each table has shares of its own: of the tensors, and of the memory that they lie in.
    shares = [float(re.search(r"([\d.]+)%", row)[1]) for _, row in tables]
    assert shares == [100.0, 90.9]


@needs_plain_build
def test_native_frames_of_tensors_are_taken_if_asked_for_or_where_there_is_no_python(run_watched, tmp_path):
    (tmp_path / "one.py").write_text(TRAIN.replace("    check()\n", ""))
    argv = [sys.executable, tmp_path / "one.py", allocator("3")]
    kinds = lambda report: {f["kind"] for s in report["sites"] if s["space"] == "tensor" for f in s["frames"]}
    asked = run_watched(argv, env={"MEMWATCH_TENSOR_STACKS": "python,native"}).report
    assert kinds(asked) == {"python", "native"}
    assert kinds(run(run_watched, "churn", "3").report) == {"native"}
