# SPDX-License-Identifier: Apache-2.0
"""`memwatch explain`: what a number or a message really says, with exact arithmetic, facts apart
from hypotheses, and nothing legitimate called impossible. The classes themselves are tested number
by number in tests/unit/test_counters.c.
"""

import json
import os
import subprocess

import pytest

from conftest import BUILD, MEMWATCH, clean_environment
from knowledge.conftest import NEGATIVES

MPS = (
    "MPS backend out of memory (MPS allocated: 1.49 GiB, other allocations: 67108914.49 GiB, max "
    "allowed: 30.19 GiB). Tried to allocate 9.19 MiB on private pool."
)
RECORD = "apple-mps/implausible-other-allocations"


def unwrapped(text):
    """The words of text that was folded into lines."""
    return " ".join(text.split())


@pytest.fixture
def explain(memwatch):
    """explain(*arguments, code=0) -> what it prints, lines joined"""

    def run(*arguments, code=0, env=None):
        done = memwatch("explain", *arguments, env={"LC_ALL": "C", **(env or {})})
        assert done.returncode == code, done.stdout + done.stderr
        return unwrapped(done.stdout if code in (0, 4) else done.stderr)

    return run


@pytest.fixture
def as_json(memwatch):
    """as_json(*arguments) -> the explanation"""

    def run(*arguments):
        done = memwatch("explain", "--json", "--lang", "en", *arguments)
        assert done.returncode in (0, 4), done.stderr
        return json.loads(done.stdout)

    return run


def piped(data, *arguments):
    """`memwatch explain -` on bytes."""
    return subprocess.run(
        [MEMWATCH, "explain", *arguments, "-"],
        input=data,
        env=clean_environment(),
        capture_output=True,
        timeout=60,
    )


def best(explanation, text):
    """The number that was printed so, and its first class."""
    number = next(n for n in explanation["numbers"] if n["text"] == text)
    return number, number["classes"][0]


# --- the report that started it ------------------------------------------------------------------


def test_the_founding_message_is_explained_to_the_last_digit(explain):
    said = explain(MPS)
    assert RECORD in said
    assert "0x0100000CFEEDFACF" in said
    assert "magic FEEDFACF, then CPU type 0100000C (ARM64)" in said
    assert "67108915.983 GiB − 1.49 GiB = 67108914.493 GiB → prints 67108914.49" in said
    assert "No overflow" in said
    assert said.count("67108914.493 GiB → prints") == 1  # once, where the record is told


def test_its_fact_and_its_hypothesis_are_kept_apart(as_json):
    number, first = best(as_json(MPS), "67108914.49 GiB")
    assert number["verdict"] == "implausible" and number["role"] == "other"
    assert (first["kind"], first["strength"]) == ("magic_as_size", "printed_digits")
    assert first["hex"] == "0x0100000CFEEDFACF" and first["bytes"] == "72057649854544591"
    assert "fork" in first["hypothesis"] and "Not reproduced" in first["hypothesis"]
    assert "fork" not in first["fact"] and "67108914.493 GiB" in first["fact"]
    for other in ("1.49 GiB", "30.19 GiB", "9.19 MiB"):
        assert best(as_json(MPS), other)[0]["verdict"] == "plausible"


def test_its_record_gives_what_helps_what_does_not_and_what_is_false(as_json):
    explanation = as_json(MPS)
    assert [incident["record"] for incident in explanation["incidents"]] == [RECORD]
    (record,) = explanation["records"]
    assert record["id"] == RECORD
    helps = " ".join(action["action"] for action in record["workarounds"])
    assert "spawn" in helps
    both = ["PYTORCH_MPS_HIGH_WATERMARK_RATIO", "PYTORCH_MPS_LOW_WATERMARK_RATIO"]
    (ratios,) = [a for a in record["workarounds"] if sorted(a["env"]) == both]
    assert ratios["warning"]
    assert any("empty_cache" in action["action"] for action in record["dead_ends"])
    false = " ".join(claim["claim"] for claim in record["false_claims"] if claim["verdict"] == "false")
    assert "32-bit" in false and "exabytes" in false
    assert "overflow" not in helps


def test_in_chinese_it_says_the_same(explain):
    said = explain("--lang", "zh", MPS).replace(" ", "")
    assert "67108915.983GiB−1.49GiB=67108914.493GiB→显示为67108914.49" in said
    assert "0x0100000CFEEDFACF" in said and "ARM64" in said
    assert "不是溢出" in said and "spawn" in said
    assert RECORD in said


def test_the_language_is_the_environments(explain):
    assert "不可能成立" in explain("67108914.49 GiB", env={"LC_ALL": "zh_CN.UTF-8"})
    assert "cannot be true" in explain("67108914.49 GiB", env={"LC_ALL": "de_DE.UTF-8"})


def test_the_number_alone_is_recognised_too(explain):
    said = explain("67108914.49 GiB")
    assert "0x0100000CFEEDFACF" in said
    assert "If 1.49 GiB was subtracted from it" in said  # a guess: nothing beside it says so
    assert f"seen in {RECORD}" in said


# --- numbers -------------------------------------------------------------------------------------


def test_an_ambiguous_number_gets_both_readings(explain, as_json):
    said = explain("17179869184")
    assert "ambiguous" in said
    assert "Read as bytes, 17179869184 is 16.00 GiB. Read as GiB, it is 2^64 bytes" in said
    number, first = best(as_json("17179869184"), "17179869184")
    assert [c["kind"] for c in number["classes"]] == ["plausible", "sentinel"]


@pytest.mark.parametrize(
    "text",
    [
        "17179869184.00 GiB",
        "18446744073709551615",
        "memory limit: 18446744073709551615",
        "Process 17 has 17179869184.00 GiB memory in use.",
        "4294967295 B",
        "9223372036854771712",
    ],
)
def test_a_sentinel_is_no_amount_and_no_leak(as_json, text):
    explanation = as_json(text)
    number = next(n for n in explanation["numbers"] if n["verdict"] != "plausible")
    assert number["verdict"] == "sentinel"
    first = number["classes"][0]
    assert first["kind"] == "sentinel"
    assert first["not"].startswith("Not an amount of memory: nothing leaks")
    assert "leak" not in first["fact"] + (first["hypothesis"] or "")


def test_siblings_in_the_message_give_the_equation(as_json):
    text = "limit 10.00 GiB, used 12.00 GiB, free 17179869182.00 GiB"
    _, first = best(as_json(text), "17179869182.00 GiB")
    assert first["kind"] == "unsigned_underflow" and first["deficit"] == str(2 << 30)
    assert "limit − used = 10.00 GiB − 12.00 GiB = −2.00 GiB" in first["fact"]
    assert "prints 17179869182.00" in first["fact"]


def test_a_size_and_its_bytes_in_parentheses_are_one_amount(as_json, explain):
    text = "no such thing: 127.99TiB (140729850295296) wanted"
    _, first = best(as_json(text), "140729850295296")
    assert first["hex"] == "0x00007FFE38BC7400"
    said = explain("request " + text)
    # Told once, with the digits that say it exactly.
    assert said.count("cannot be true") == 1 and "request 140729850295296: cannot be true" in said


def test_more_than_is_a_bound(as_json):
    _, first = best(as_json("Tried to allocate more than 1EB memory"), "1EB")
    assert first["kind"] == "negative"


def test_the_devices_memory_decides_what_fits(as_json, explain):
    number, _ = best(as_json("25165824 GiB"), "25165824 GiB")
    assert "unit_mixup" not in [c["kind"] for c in number["classes"]]
    _, first = best(as_json("--device-memory", "24 GiB", "25165824 GiB"), "25165824 GiB")
    assert first["kind"] == "unit_mixup"
    # Also of a number in a message that a record describes without knowing the device.
    text = "CUDA out of memory. Tried to allocate 2.00 TiB"
    assert "real, but too large a request" not in explain(text, code=0 if known(as_json, text) else 4)
    said = explain("--device-memory=24GiB", text)
    assert "request 2.00 TiB: real, but too large a request" in said
    assert "85 times what the device has" in said


def test_the_platform_decides_whether_more_may_be_used_than_there_is(as_json, explain):
    """On Windows the driver moves what does not fit to system memory (nvtop#436 is of Linux)."""
    text = ("--device-memory=24GiB", "used 58 GiB")
    assert best(as_json("--platform", "windows", *text), "58 GiB")[0]["verdict"] == "plausible"
    number, first = best(as_json(*text), "58 GiB")
    assert (number["verdict"], first["kind"]) == ("ambiguous", "exceeds_total")
    number, first = best(as_json("--platform", "linux", *text), "58 GiB")
    assert (number["verdict"], first["kind"]) == ("implausible", "exceeds_total")
    assert "'beos'" in explain("--platform", "beos", "1", code=2)


def test_a_number_is_held_against_the_device_that_was_named(as_json, explain):
    assert "30 GiB is more than the device has (24.00 GiB)" in explain("--device-memory", "24 GiB", "30 GiB")
    assert "more than the device has" in explain("--device-memory", "24 GiB", "GPU used 30 GiB")
    for allowed in (
        ("--device-memory", "24 GiB", "24.5 GiB"),
        ("--device-memory", "24 GiB", "Tried to allocate 30 GiB"),
        ("--device-memory", "24 GiB", "--platform", "windows", "30 GiB"),
        ("30 GiB",),
        ("127543908212736 bytes",),
    ):
        assert {n["verdict"] for n in as_json(*allowed)["numbers"]} == {"plausible"}, allowed


def test_standard_input_that_cannot_be_read_ends_with_3():
    folder = os.open("/", os.O_RDONLY)
    try:
        done = subprocess.run([MEMWATCH, "explain", "-"], stdin=folder, env=clean_environment(), capture_output=True)
    finally:
        os.close(folder)
    assert done.returncode == 3 and done.stderr.startswith(b"memwatch: explain: standard input: ")


def test_what_a_text_is_comes_before_what_it_is_not(memwatch):
    said = memwatch("explain", "--lang", "en", "other allocations: 67108914.49 GiB").stdout
    assert "67108914.49 GiB: cannot be true" in said.splitlines()[0]
    assert said.endswith("\nAs a message it is no known error.\n")


# The reports that the classes were made from, as people would give them: the words around a number
# tell what it counts. The same numbers with all that is known of them: tests/unit/test_counters.c.
REPORTED = [
    (MPS, "67108914.49 GiB", "magic_as_size"),
    ("Including non-PyTorch memory, this process has 17179869184.00 GiB memory in use.", "17179869184.00 GiB", "sentinel"),
    ("Tried to allocate 17179869183.95 GiB (GPU 0; 10.92 GiB total capacity)", "17179869183.95 GiB", "unsigned_underflow"),
    ("GPU memory: 17179869184.000Gi used", "17179869184.000Gi", "sentinel"),
    ("free: 18 EB", "18 EB", "unsigned_underflow"),
    ("used: -76898304 B", "-76898304 B", "negative"),
    ("GPU memory used: 112 %", "112 %", "exceeds_total"),
    ("Tried to allocate more than 1EB memory.", "1EB", "negative"),
    ("Tried to allocate -1024 bytes", "-1024 bytes", "negative"),
    ("Tried to allocate 18446744073709551105 bytes", "18446744073709551105 bytes", "wrapped_to_zero"),
    ("CUDA out of memory. Tried to allocate 131060.03 GiB", "131060.03 GiB", "pointer_as_size"),
    ("CUDA out of memory. Tried to allocate 131062.02 GiB", "131062.02 GiB", "pointer_as_size"),
    ("Tried to allocate 133792483 MiB", "133792483 MiB", "pointer_as_size"),
    ("failed to allocate 127.99TiB (140729850295296 bytes) from device", "140729850295296 bytes", "pointer_as_size"),
    ("workspace request 140632G", "140632G", "pointer_as_size"),
    ("Tried to allocate 67371012.07 GiB", "67371012.07 GiB", "flag_bytes"),
    ("Tried to allocate 1050587.26 GiB", "1050587.26 GiB", "unexplained"),
    ("Failed to allocate memory for requested buffer of size 4585490524328388608", "4585490524328388608", "floats_as_integer"),
    ("memory limit: 18446744073709551615", "18446744073709551615", "sentinel"),
    ("limit 4294967295 B", "4294967295 B", "sentinel"),
    ("Tried to allocate -1610612736 bytes", "-1610612736 bytes", "negative"),
    ("GPU memory used: 4820 %", "4820 %", "exceeds_total"),
    ("PCIe RX: 65536 MB/s", "65536 MB/s", "wrap"),
]


@pytest.mark.parametrize("text, number, kind", REPORTED, ids=[n for _, n, _ in REPORTED])
def test_each_reported_number_gets_its_class_from_the_words_around_it(as_json, text, number, kind):
    found, first = best(as_json(text), number)
    assert first["kind"] == kind
    assert found["verdict"] != "plausible"


def known(as_json, text):
    return bool(as_json(text)["incidents"])


def test_several_arguments_are_one_text(explain):
    assert explain("67108914.49", "GiB") == explain("67108914.49 GiB")


def test_a_negative_number_is_no_option(as_json, explain):
    assert as_json("-76898304 B")["numbers"][0]["classes"][0]["kind"] == "negative"
    assert "below zero" in explain("--lang", "en", "-76898304", "B")


# --- nothing legitimate is flagged ---------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        # Windows: the driver moves what does not fit to system memory (YingqianWang/iPASSR#9).
        "Tried to allocate 20.00 MiB (GPU 0; 8.00 GiB total capacity; 17.20 GiB already allocated; "
        "0 bytes free; 17.58 GiB reserved in total by PyTorch)",
        "MemTotal: 68719476736 kB, 60 TiB used",
        "pool reserved 1099511627776 bytes, limit 1.00 TiB",
        "step 4294967296, 15000000000000 tokens seen, 499000 resources",
        "loss 0.693 at 10:31:07 on 2025-03-24, torch 2.9.1+cu128, sm_90, exit code -9",
        "4.00 GiB free of 4096 MiB",
        "seed = 13835058055282163712, requested tactic 0xa5a46bfbd719d757 at 0x7f1a40000000",
    ],
)
def test_large_for_a_good_reason_is_plausible(as_json, explain, text):
    for number in as_json(text)["numbers"]:
        assert number["verdict"] in ("plausible", "ambiguous"), number
    assert "cannot be true" not in explain(text, code=0 if known(as_json, text) else 4)


def test_lines_that_only_look_like_errors_have_no_impossible_number(as_json):
    lines = NEGATIVES.read_text().splitlines()
    lines = [line for line in lines if line.strip() and not line.startswith("# ")]
    assert len(lines) > 100
    for line in lines:
        done = piped(line.encode(), "--json")
        assert done.returncode in (0, 4), done.stderr
        for number in json.loads(done.stdout)["numbers"]:
            assert number["verdict"] != "implausible", (line, number)


# --- what is known, what is not, what is wrong -----------------------------------------------------


def test_what_is_plausible_or_unknown_exits_with_4(explain):
    assert "24 GiB: plausible" in explain("24 GiB", code=4)
    assert "No known error." in explain("all is well", code=4)
    for text in ("all 3 GiB are well", "3 GiB are well", "all 3 GiB"):
        assert "Its numbers are plausible." in explain(text, code=4)


def test_wrong_usage_exits_with_2_and_a_reason(explain):
    assert "a number or a message is needed" in explain(code=2)
    assert "empty" in explain("", code=2)
    assert "empty" in explain(" \t\n", code=2)
    assert "'--frob'" in explain("--frob", "1", code=2)
    assert "'fr'" in explain("--lang", "fr", "1", code=2)
    for size in ("", "many", "-1 GiB", "0", "24 GiB or so", "5 %", "1000000 EiB"):
        assert f"'{size}'" in explain(f"--device-memory={size}", "1", code=2)
    done = piped(b"1 " * 600_000)
    assert done.returncode == 2 and b"memwatch diagnose" in done.stderr


def test_users_records_are_named_too(explain, tmp_path):
    (tmp_path / "mine.json").write_text(
        json.dumps(
            {
                "schema": "memwatch-knowledge/1",
                "id": "mine/frobnicator",
                "title": "The frobnicator is full",
                "domain": "mine",
                "category": "limit",
                "severity": "error",
                "signature": "frobnicator overflowed: 5 MiB left",
                "templates": ["frobnicator overflowed: {free:size} left"],
                "root_cause": {"text": "It is small.", "tier": "ai_generated", "sources": []},
                "workarounds": [],
                "dead_ends": [],
                "examples": ["frobnicator overflowed: 5 MiB left"],
                "verification_tier": "ai_generated",
                "last_updated": "2026-01-01",
                "tags": [],
            }
        )
    )
    explain("frobnicator overflowed: 7 MiB left", code=4)
    assert "mine/frobnicator" in explain("--kb", tmp_path, "frobnicator overflowed: 7 MiB left")


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 1000,
        bytes(range(256)) * 40,
        b"1" * 100_000,
        b"1e" * 100_000,
        b"17179869184.00 GiB \x1b[31m\xff\xfe " * 5000,
        b"-" * 100_000 + b"5 GiB",
        b"1.49 GiB, " * 10_000,
        b"(" * 50_000 + b"7 GiB" + b")" * 50_000,
    ],
)
def test_any_bytes_are_survived_and_no_terminal_obeys_them(data):
    for arguments in ([], ["--json"], ["--lang", "zh"]):
        done = piped(data, *arguments)
        assert done.returncode in (0, 4), done.stderr
        text = done.stdout.decode()  # valid UTF-8
        assert "\x1b" not in text and "\x00" not in text
        if arguments == ["--json"]:
            json.loads(text)


def test_the_parser_and_the_classifier_hold_their_promises_on_mutated_messages():
    """tests/fuzz/fuzz_number.c, built with sanitizers, on a fixed number of inputs."""
    fuzz = BUILD / "tests" / "fuzz" / "fuzz_number"
    environment = {**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1"}
    environment.pop("LD_PRELOAD", None)
    done = subprocess.run([fuzz, "40000"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == "40000 inputs read\n"
