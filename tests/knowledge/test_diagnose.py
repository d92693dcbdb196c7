# SPDX-License-Identifier: Apache-2.0
"""`memwatch diagnose`: what it says of a log, in which words, in which order, and with which exit
code; and that no log can hurt it.
"""

import json
import os
import re
import signal
import subprocess
import threading
import time
import unicodedata

import pytest

from conftest import BUILD, MEMWATCH, clean_environment, wait_for
from knowledge.conftest import RECORDS

OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
    "capacity of 23.69 GiB of which 1.20 GiB is free. Including non-PyTorch memory, this process "
    "has 22.00 GiB memory in use. Of the allocated memory 20.10 GiB is allocated by PyTorch, and "
    "1.00 GiB is reserved by PyTorch but unallocated."
)
OOM_RECORD = "torch/cuda-oom-capacity"
MACH_O = (
    "RuntimeError: MPS backend out of memory (MPS allocated: 1.49 GiB, other allocations: "
    "67108914.49 GiB, max allowed: 30.19 GiB). Tried to allocate 9.19 MiB on private pool."
)


@pytest.fixture
def log(tmp_path):
    """log(text, name="train.log") -> its path"""

    def write(text, name="train.log"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def record(folder, **members):
    """A record of a user's own, in a folder for --kb."""
    folder.mkdir(exist_ok=True)
    whole = {
        "schema": "memwatch-knowledge/1",
        "id": "own/error",
        "title": "Our own error",
        "domain": "host",
        "category": "misuse",
        "severity": "error",
        "verification_tier": "reported",
        "last_updated": "2025-06-01",
        **members,
    }
    (folder / (whole["id"].replace("/", "--") + ".json")).write_text(json.dumps(whole))
    return folder


def columns(line):
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


# --- exit codes --------------------------------------------------------------------------------


def test_a_known_error_ends_with_0_and_none_with_4(memwatch, log):
    assert memwatch("diagnose", log(OOM)).returncode == 0
    for nothing in ("", "all is well\n"):
        done = memwatch("diagnose", log(nothing))
        assert (done.returncode, done.stdout) == (4, "Nothing known.\n")


@pytest.mark.parametrize(
    "arguments",
    [["--lang", "fr"], ["--nonsense"], ["--follow", "a", "b"]],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_one_line(memwatch, arguments):
    done = memwatch("diagnose", *arguments)
    assert done.returncode == 2
    assert re.fullmatch(r"memwatch: .*\n", done.stderr)


@pytest.mark.parametrize("arguments", [["no such file"], ["."], ["--json", "no such file"], ["--follow", "no such file"]], ids=" ".join)
def test_of_a_file_that_cannot_be_read_only_that_is_said(memwatch, arguments):
    done = memwatch("diagnose", *arguments)
    assert (done.returncode, done.stdout) == (3, "")
    assert re.fullmatch(r"memwatch: cannot read .*\n", done.stderr)


def test_a_wrong_language_is_told_with_those_that_there_are(memwatch):
    for command in (["diagnose"], ["explain", "1"], ["kb", "list"]):
        done = memwatch(*command[:1], "--lang", "fr", *command[1:])
        assert done.returncode == 2
        assert done.stderr == f"memwatch: {command[0]}: --lang takes en or zh, not 'fr'\n"


def test_an_unreadable_file_does_not_hide_what_is_in_the_others(memwatch, log):
    done = memwatch("diagnose", "--json", "no such file", log(OOM))
    assert done.returncode == 3
    assert [i["record"] for i in json.loads(done.stdout)["incidents"]] == [OOM_RECORD]


def test_one_of_a_kind_is_told_in_the_singular(memwatch, log):
    """Of every record's message: what is counted as one has no plural."""
    said = ""
    for path in sorted(RECORDS.glob("*.json")):
        for example in json.loads(path.read_text()).get("examples", [])[:1]:
            said += " ".join(memwatch("diagnose", "--lang", "en", log(example)).stdout.split()) + "\n"
    for one in (", 1 more piece of advice", ", 1 error not to be confused with it"):
        assert one in said
    assert not re.search(r"\b1 (more )?(pieces|errors not|known false claims|more times)", said)


def test_help_tells_the_options(memwatch):
    done = memwatch("diagnose", "--help")
    assert done.returncode == 0
    for option in ("--json", "--full", "--lang", "--follow", "--kb"):
        assert option in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_standard_input_is_read_without_a_file_and_for_a_dash():
    for arguments in ([], ["-"]):
        done = subprocess.run(
            [MEMWATCH, "diagnose", "--json", *arguments],
            env=clean_environment(),
            input=OOM.encode(),
            capture_output=True,
        )
        assert done.returncode == 0
        (incident,) = json.loads(done.stdout)["incidents"]
        assert incident["message"]["source"] == "-"


# --- what is said ------------------------------------------------------------------------------


def test_the_order_is_observed_matched_known_advice(memwatch, log):
    path = log("step 1\n" + OOM + "\n")
    text = memwatch("diagnose", "--full", path.name, cwd=path.parent).stdout
    told = ["observed", "train.log:2:", "numbers", "request 2.00 GiB", "matched", OOM_RECORD,
            "known", "cause", "What helps", "What does not help", "Not to be confused with"]
    places = [text.find(word) for word in told]
    assert -1 not in places, told[places.index(-1)]
    assert places == sorted(places)


def test_it_is_short_and_says_where_the_rest_is(memwatch, log):
    path = log("step 1\n" + MACH_O + "\n")
    short = memwatch("diagnose", path.name, cwd=path.parent).stdout
    told = ["observed", "train.log:2:", "0x0100000CFEEDFACF", "Mach-O", "hypothesis", "matched",
            "  known ", "  cause ", "What helps", "spawn", "WARNING: No limit is left", "What does not help",
            "more "]
    places = [short.find(word) for word in told]
    assert -1 not in places, told[places.index(-1)]
    assert places == sorted(places)
    assert "No overflow" in short and len(short.splitlines()) <= 60
    whole = memwatch("diagnose", "--full", path.name, cwd=path.parent).stdout
    for details in ("sources:", "Known false claims (no advice)", "Not to be confused with"):
        assert details not in short and details in whole
    # What is left out is counted, and the command that shows it does.
    more = " ".join(short[short.index("more ") :].split())
    count = whole.split("Known false claims")[1].split("Not to be")[0].count("\n    - ")
    assert f"{count} known false claims" in more
    command = re.search(r"memwatch (kb show \S+):", more)[1].split()
    shown = memwatch(*command).stdout
    assert "Known false claims (no advice)" in shown and "sources:" in shown


def test_a_cause_is_cut_between_its_sentences(memwatch, log, tmp_path):
    text = "Version 2.9 of it, e.g. The Flux, is too old. " + "It is long. " * 40 + "The end."
    folder = record(tmp_path / "kb", **{**CLAIMS, "root_cause": {"text": text, "tier": "ai_generated"}})
    short = memwatch("diagnose", "--kb", folder, log("Flux capacitor 3 exhausted")).stdout
    cause = " ".join(short.split("  cause")[1].split("What helps")[0].split())
    assert cause.startswith("Version 2.9 of it, e.g. The Flux, is too old. It is long. ")
    assert cause.endswith("It is long. … [unverified]") and len(cause) < 340
    assert "memwatch kb show --kb" in short and "own--error.json own/error" in " ".join(short.split())


def test_of_many_pieces_of_advice_the_first_are_shown(memwatch, log, tmp_path):
    claims = {**CLAIMS, "workarounds": [{"action": f"Do {i}", "tier": "ai_generated"} for i in range(9)]}
    folder = record(tmp_path / "kb", **claims)
    short = memwatch("diagnose", "--kb", folder, log("Flux capacitor 3 exhausted")).stdout
    assert "- Do 3" in short and "- Do 4" not in short
    assert "5 more pieces of advice" in " ".join(short.split())


@pytest.mark.parametrize("language", ["en", "zh"])
def test_text_fits_a_terminal_and_shows_no_control_characters(memwatch, log, language):
    # Escape sequences, C1 controls, marks that turn the direction, and what is no UTF-8.
    hostile = f"\x1b[31m\x07{OOM}\x1b]0;title\x07 \u009b2J\u0085\u202e\u2066 ".encode() + b"\xff\x9b\n"
    done = memwatch("diagnose", "--lang", language, log(hostile))
    assert done.returncode == 0
    assert "2J" in done.stdout
    for line in done.stdout.splitlines():
        assert columns(line) <= 80, line
        assert line == line.rstrip(), line
        assert not any(unicodedata.category(c) in ("Cc", "Cf") for c in line), line


def test_an_impossible_number_is_explained_with_fact_and_hypothesis_apart(diagnose):
    (incident,) = diagnose(MACH_O)["incidents"]
    assert incident["record"] == "apple-mps/implausible-other-allocations"
    fields = {field["name"]: field for field in incident["fields"]}
    assert fields["allocated"]["bytes"] == round(1.49 * 2**30)
    best = fields["other"]["classes"][0]
    # What it takes to know: the number beside it in the message.
    assert "67108914.49 GiB + 1.49 GiB" in best["fact"]
    assert "0x0100000CFEEDFACF" in best["fact"]
    assert "fork" in best["hypothesis"]
    assert fields["other"]["verdict"] != "plausible"
    assert "classes" not in fields["request"]


def test_chinese_texts_are_shown_for_a_chinese_locale(memwatch, log):
    path = log(OOM)
    by_option = memwatch("diagnose", "--lang", "zh", path)
    by_locale = memwatch("diagnose", path, env={"LC_ALL": "zh_CN.UTF-8"})
    assert by_option.stdout == by_locale.stdout
    assert "有效的办法" in by_option.stdout
    assert "What helps" not in by_option.stdout
    assert "What helps" in memwatch("diagnose", path, env={"LC_ALL": "C"}).stdout


def test_json_has_a_record_s_claims_once(diagnose):
    document = diagnose((OOM + "\n" + "x\n" * 100) * 3)
    assert len(document["incidents"]) == 3
    (known,) = document["records"]
    assert known["id"] == OOM_RECORD
    for claim in known["workarounds"] + known["dead_ends"] + [known["root_cause"]]:
        assert claim["tier"] != "disputed"
        assert claim["sources"] or claim["tier"] == "ai_generated"
    assert document["schema"] == "memwatch-diagnosis/1"
    assert document["texts"][0]["lines"] == 303


def test_text_tells_a_record_s_claims_once(memwatch, log):
    text = memwatch("diagnose", log((OOM + "\n" + "x\n" * 100) * 7)).stdout
    assert text.count("What helps") == 1
    assert text.count("observed") == 5
    assert "and 2 more times" in text


def test_a_wild_access_is_no_consequence_of_a_shortage_before_it(diagnose):
    """That the program ignored the failed allocation is one guess among many: each keeps its own
    severity and advice."""
    log = "RuntimeError: CUDA error: out of memory\nRuntimeError: CUDA error: an illegal memory access was encountered\n"
    found = {i["record"]: (i["severity"], i["followed_by"]) for i in diagnose(log)["incidents"]}
    assert found == {"cuda/out-of-memory": ("error", []), "cuda/illegal-address": ("fatal", [])}


def test_ranks_that_fail_alike_are_one_incident(diagnose):
    log = "".join(f"[rank{rank}]: {OOM}\n" for rank in (0, 1, 2, 5))
    (incident,) = diagnose(log)["incidents"]
    assert incident["count"] == 4
    assert incident["ranks"] == [0, 1, 2, 5]


def test_ranks_are_told_in_short(memwatch, log):
    text = memwatch("diagnose", log("".join(f"[rank{r}]: {OOM}\n" for r in (0, 1, 2, 5)))).stdout
    assert "4 messages, up to line 4; ranks 0–2, 5" in text


def test_each_file_is_a_text_of_its_own(memwatch, log):
    one, two = log(OOM, "rank0.log"), log("\n" + OOM, "rank1.log")
    document = json.loads(memwatch("diagnose", "--json", one, two).stdout)
    places = [(i["message"]["source"], i["message"]["line"]) for i in document["incidents"]]
    assert places == [(str(one), 1), (str(two), 2)]


# --- advice ------------------------------------------------------------------------------------

CLAIMS = {
    "templates": ["Flux capacitor {count:int} exhausted"],
    "examples": ["Flux capacitor 3 exhausted"],
    "root_cause": {"text": "Too little flux.", "tier": "source_verified", "sources": ["a/b:c.c"]},
    "workarounds": [
        {"action": "Add flux", "condition": "when dry", "warning": "it burns",
         "tier": "corroborated", "sources": ["a/b#1", "a/b#2"]},
        {"action": "Pray to the capacitor", "tier": "disputed"},
        {"action": "Wait", "tier": "ai_generated", "sources": ["hearsay"]},
    ],
    "dead_ends": [{"action": "Shake it", "why_fails": "flux does not shake", "tier": "reported",
                   "sources": ["a/b#3"]}],
    "disputed": [{"claim": "Flux wraps at 32 bits", "verdict": "false", "evidence": ["it is a fluid"],
                  "checked_on": "2025-06-01", "checked_against": "a barrel"}],
    "transition_graph": {
        "frequently_confused_with": [{"error_id": "torch/cuda-oom-capacity",
                                      "distinction": "that one has no flux"}]},
}


def test_a_risk_is_told_in_the_same_breath_as_the_action(memwatch, log, tmp_path):
    folder = record(tmp_path / "kb", **CLAIMS)
    text = memwatch("diagnose", "--kb", folder, log("Flux capacitor 3 exhausted")).stdout
    assert "- Add flux (case: when dry) WARNING: it burns [reported by several]" in text


def test_what_is_known_to_be_false_is_shown_as_such_and_never_as_advice(memwatch, log, tmp_path):
    folder = record(tmp_path / "kb", **CLAIMS)
    path = log("Flux capacitor 3 exhausted")
    text = memwatch("diagnose", "--full", "--kb", folder, path).stdout
    advice, false = text.split("Known false claims (no advice)")
    assert "Pray" not in advice and "32 bits" not in advice
    assert '"Pray to the capacitor": false' in false
    assert '"Flux wraps at 32 bits": false. it is a fluid' in false
    short = memwatch("diagnose", "--kb", folder, path).stdout
    assert "Pray" not in short and "32 bits" not in short
    (known,) = json.loads(memwatch("diagnose", "--json", "--kb", folder, path).stdout)["records"]
    assert [a["action"] for a in known["workarounds"]] == ["Add flux", "Wait"]
    assert {c["claim"] for c in known["false_claims"]} == {
        "Pray to the capacitor", "Flux wraps at 32 bits"}


def test_what_nobody_has_checked_says_so(memwatch, log, tmp_path):
    folder = record(tmp_path / "kb", **CLAIMS)
    text = memwatch("diagnose", "--kb", folder, log("Flux capacitor 3 exhausted")).stdout
    assert "- Wait [unverified]" in text


def test_what_it_is_confused_with_comes_with_the_difference(memwatch, log, tmp_path):
    folder = record(tmp_path / "kb", **CLAIMS)
    text = memwatch("diagnose", "--full", "--kb", folder, log("Flux capacitor 3 exhausted")).stdout
    confused = text.split("Not to be confused with")[1]
    assert "torch/cuda-oom-capacity (PyTorch" in confused
    assert "that one has no flux" in " ".join(confused.split())


def test_rates_that_nobody_counted_are_not_shown(memwatch, log):
    """The founding records state success rates; there are no counts behind them."""
    for language in ("en", "zh"):
        text = memwatch("diagnose", "--full", "--lang", language, log(MACH_O)).stdout
        assert not re.search(r"success|rate of|0\.85|成功率", text)


def test_a_recovery_lowers_the_severity(diagnose, tmp_path):
    folder = record(tmp_path / "kb", **CLAIMS, recovered_by=["refilled the flux"])
    (failed,) = diagnose("Flux capacitor 3 exhausted\n", "--kb", folder)["incidents"]
    text = "Flux capacitor 3 exhausted\nrefilled the flux\n"
    (recovered,) = diagnose(text, "--kb", folder)["incidents"]
    assert (failed["severity"], recovered["severity"]) == ("error", "warning")
    assert recovered["recovered"] == {"line": 2, "text": "refilled the flux"}


# --- logs as they are --------------------------------------------------------------------------


def test_a_message_is_found_however_a_tool_has_dressed_it(diagnose):
    for dressed in (
        OOM.replace("\n", "\r\n") + "\r\n",
        f"\x1b[31m{OOM}\x1b[0m",
        f"trainer-1  | 2025-06-15T12:00:00.123Z [rank3]: {OOM}",
        f"Jun 15 12:00:00 node7 python3[4242]: {OOM}",
        f" 45%|####      | 45/100\r 46%|####      | 46/100\r{OOM}\r",
        json.dumps({"log": f"Traceback (most recent call last):\n{OOM}\n", "stream": "stderr"}),
        OOM.encode("utf-16"),
        b"\0\0\xff\xfe\x80" + OOM.encode() + b"\0\0",
        "x" * 100_000 + " " + OOM + " " + "x" * 100_000,
    ):
        incidents = diagnose(dressed)["incidents"]
        assert [i["record"] for i in incidents] == [OOM_RECORD], dressed[:80]


@pytest.mark.parametrize("width", [60, 80, 100, 132])
@pytest.mark.parametrize("how", ["terminal", "words"])
def test_a_message_that_was_wrapped_is_found_with_its_numbers(diagnose, width, how):
    import textwrap

    if how == "words":
        lines = textwrap.wrap(OOM, width, break_long_words=False, break_on_hyphens=False)
    else:
        lines = [OOM[i : i + width].rstrip() for i in range(0, len(OOM), width)]
    (incident,) = diagnose("step 1\n" + "\n".join(lines) + "\nstep 2\n")["incidents"]
    assert incident["record"] == OOM_RECORD
    assert incident["message"]["line"] == 2
    numbers = {f["name"]: f["text"] for f in incident["fields"]}
    assert (numbers["request"], numbers["total"]) == ("2.00 GiB", "23.69 GiB")


def test_line_numbers_are_those_of_an_editor(diagnose):
    text = "a\r\nb\rc\rd\n\n\0\n" + OOM
    (incident,) = diagnose(text)["incidents"]
    assert incident["message"]["line"] == 5


def test_source_that_a_traceback_shows_is_no_error(memwatch, log):
    text = (
        "Traceback (most recent call last):\n"
        '  File "a.py", line 3, in load\n'
        '    raise RuntimeError("CUDA error: out of memory")\n'
        "KeyError: 3\n"
    )
    assert memwatch("diagnose", log(text)).returncode == 4


# --- hostile -----------------------------------------------------------------------------------


def test_an_expression_that_explodes_is_given_up_and_the_rest_goes_on(memwatch, log, tmp_path):
    folder = tmp_path / "kb"
    folder.mkdir()
    # The founding format, which has expressions of its own.
    (folder / "bomb.json").write_text(json.dumps({"id": "own/bomb", "regex": "boom (a|aa)+(b|bb)+[cd]"}))
    bomb = "boom " + "a" * 500 + "b" * 500 + "\n"
    done = memwatch("diagnose", "--json", "--kb", folder, log(bomb * 2000 + OOM))
    document = json.loads(done.stdout)
    assert [i["record"] for i in document["incidents"]] == [OOM_RECORD]
    assert document["statistics"]["not_evaluated"] == 3
    assert document["statistics"]["patterns_disabled"][0]["record"] == "own/bomb"
    assert "own/bomb" in done.stderr


def test_broken_records_are_told_and_the_rest_is_used(memwatch, log, tmp_path):
    folder = record(tmp_path / "kb", **CLAIMS)
    (folder / "broken.json").write_text("{")
    done = memwatch("diagnose", "--kb", folder, log("Flux capacitor 3 exhausted"))
    assert done.returncode == 0
    assert "broken.json" in done.stderr


def test_noise_is_read_to_its_end(memwatch, log):
    import random

    noise = random.Random(20250615).randbytes(1 << 20)
    assert memwatch("diagnose", log(noise)).returncode == 4
    assert memwatch("diagnose", log(b"\x1b]" * 100_000)).returncode == 4
    assert memwatch("diagnose", log(b"CUDA out of memory. Tried to " * 50_000)).returncode in (0, 4)


def test_logs_of_damaged_errors_are_survived_whatever_the_pieces_they_come_in():
    """tests/fuzz/fuzz_match.c, built with sanitizers, on a fixed number of logs."""
    environment = {**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1"}
    environment.pop("LD_PRELOAD", None)
    fuzz = BUILD / "tests" / "fuzz" / "fuzz_match"
    done = subprocess.run([fuzz, "600"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    assert re.match(r"600 inputs read, \d{4,} matches\n", done.stdout)


# --- following ---------------------------------------------------------------------------------


class Following:
    """`memwatch diagnose --follow` in the background, and what it has printed so far."""

    def __init__(self, *arguments, stdin=subprocess.DEVNULL, cwd=None):
        self.process = subprocess.Popen(
            [MEMWATCH, "diagnose", "--follow", *map(str, arguments)],
            env=clean_environment(),
            cwd=cwd,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.printed = b""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while chunk := os.read(self.process.stdout.fileno(), 65536):
            self.printed += chunk

    def waits_for(self, text, count=1):
        wait_for(lambda: self.printed.count(text.encode()) >= count, repr(text))

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        code = self.process.wait(timeout=10)
        self.reader.join(timeout=10)
        self.process.stdout.close()
        self.process.stderr.close()
        return code


def append(path, text):
    with open(path, "a") as file:
        file.write(text)


def test_following_tells_each_error_when_it_comes_until_interrupted(log):
    path = log("step 1\n")
    following = Following(path.name, cwd=path.parent)
    time.sleep(0.3)
    append(path, OOM[:50])
    append(path, OOM[50:] + "\n")
    following.waits_for("train.log:2:")
    following.waits_for("What helps")
    append(path, "x\n" * 100 + MACH_O + "\n")
    following.waits_for("train.log:103:")
    assert following.end() == 0
    assert following.printed.count(OOM_RECORD.encode()) >= 1


def test_following_without_an_error_ends_with_4(log):
    following = Following(log("step 1\n"))
    time.sleep(0.5)
    assert following.end(signal.SIGTERM) == 4


def test_following_json_prints_an_object_a_line(log):
    path = log("")
    following = Following("--json", path)
    for i in range(3):
        append(path, OOM + "\n" + "x\n" * 100)
        following.waits_for("\n", i + 1)
    assert following.end() == 0
    incidents = [json.loads(line) for line in following.printed.splitlines()]
    assert [i["message"]["line"] for i in incidents] == [1, 102, 203]
    assert ["knowledge" in i for i in incidents] == [True, False, False]


def test_a_followed_file_may_be_cut_and_replaced(log, tmp_path):
    path = log("step\n" * 1000)
    following = Following("--json", path)
    time.sleep(0.3)
    path.write_text("")
    time.sleep(0.5)
    append(path, "\n" + OOM + "\n")
    following.waits_for('"line":2,')
    (tmp_path / "new.log").write_text("\n\n\n" + OOM + "\n")
    os.rename(tmp_path / "new.log", path)
    following.waits_for('"line":4,')
    assert following.end() == 0


def test_a_pipe_is_followed_to_its_end():
    following = Following("-", stdin=subprocess.PIPE)
    following.process.stdin.write(OOM.encode() + b"\n")
    following.process.stdin.flush()
    following.waits_for(OOM_RECORD)  # while the pipe is open
    following.process.stdin.close()
    assert following.process.wait(timeout=10) == 0
    following.reader.join(timeout=10)
