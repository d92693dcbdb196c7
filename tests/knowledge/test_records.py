# SPDX-License-Identifier: Apache-2.0
"""What memwatch knows about errors is in order: each bundled record is as the schema says and passes
the lint, in both languages; what is known to be false is there, and is never advice. And the lint
does find what it is for.
"""

import copy
import json
import os
import re
import subprocess

import jsonschema
import pytest

from conftest import BUILD, DEPS, ROOT, clean_environment
from knowledge.conftest import NEGATIVES, RECORDS

FILES = sorted(RECORDS.glob("*.json"))
SCHEMA = json.loads((ROOT / "knowledge" / "schema.json").read_text())


def no_duplicates(pairs):
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), f"a member is there twice: {keys}"
    return dict(pairs)


def record(record_id):
    return json.loads((RECORDS / (record_id.replace("/", "--") + ".json")).read_text())


# --- the bundled records -----------------------------------------------------------------------


def test_every_record_is_as_the_schema_says():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    wrong = []
    for path in FILES:
        document = json.loads(path.read_text(), object_pairs_hook=no_duplicates)
        wrong += [f"{path.name}: {e.json_path}: {e.message}" for e in validator.iter_errors(document)]
        if path.name != document["id"].replace("/", "--") + ".json":
            wrong.append(f"{path.name} holds {document['id']}")
    assert not wrong, "\n".join(wrong)


def test_every_record_passes_the_lint(memwatch):
    done = memwatch("kb", "lint", "--negatives", NEGATIVES, RECORDS)
    assert done.returncode == 0, done.stdout
    assert f"{len(FILES)} records checked: 0 errors" in done.stdout
    assert done.stderr == ""


def test_the_records_in_the_program_are_those_of_the_folder(memwatch):
    listed = json.loads(memwatch("kb", "list", "--json").stdout)
    assert sorted(r["id"] for r in listed) == sorted(json.loads(p.read_text())["id"] for p in FILES)
    for path in FILES:
        document = json.loads(path.read_text())
        shown = json.loads(memwatch("kb", "show", "--json", document["id"]).stdout)
        assert shown == document, path.name


def texts_for_people(document):
    """(where, object, name of the English text) of all that must be there in Chinese as well"""
    yield "", document, "title"
    yield "root_cause", document["root_cause"], "text"
    if "hypothesis" in document["root_cause"]:
        yield "root_cause", document["root_cause"], "hypothesis"
    for i, action in enumerate(document["workarounds"]):
        for name in ("action", "condition", "warning"):
            if name in action:
                yield f"workarounds[{i}]", action, name
    for i, action in enumerate(document.get("dead_ends", [])):
        yield f"dead_ends[{i}]", action, "action"
        yield f"dead_ends[{i}]", action, "why_fails"
    for i, claim in enumerate(document.get("disputed", [])):
        yield f"disputed[{i}]", claim, "claim"
        for k, item in enumerate(claim["evidence"]):
            chinese = claim.get("evidence_zh", [])[k : k + 1]
            yield f"disputed[{i}]", {"": item, "_zh": "".join(chinese)}, ""
        # A source's name is the same in all languages.
        if not re.match(r"\S*[:/]|CUDA 13.0: \w+\.h", claim["checked_against"]):
            yield f"disputed[{i}]", claim, "checked_against"
    for i, version in enumerate(document.get("versions", [])):
        yield f"versions[{i}]", version, "behavior_change"
    for name, field in document.get("fields", {}).items():
        yield f"fields.{name}", field, "sentinel"
    for i, edge in enumerate(document["transition_graph"].get("frequently_confused_with", [])):
        yield f"frequently_confused_with[{i}]", edge, "distinction"


def test_every_text_is_there_in_chinese():
    missing = []
    for path in FILES:
        for where, owner, name in texts_for_people(json.loads(path.read_text())):
            chinese = owner.get(name + "_zh", "")
            # A command or a name of an option alone is the same in all languages.
            if not chinese or (not re.search("[\u201c\u4e00-\u9fff]", chinese) and chinese != owner[name]):
                missing.append(f"{path.name}: {where}.{name}_zh")
    assert not missing, "\n".join(missing)


def test_no_rate_is_stated_without_counts():
    """Figures that somebody guessed are kept in `founding` and `disputed`, and nowhere else."""
    for path in FILES:
        document = json.loads(path.read_text())
        for part in ("founding", "disputed"):
            document.pop(part, None)
        assert not re.search(r'"(confidence|\w*_rate)"', json.dumps(document)), path.name


# --- the founding records ----------------------------------------------------------------------

# Under their own ids, with their signatures, expressions, codes and figures.
FOUNDING = {
    "cuda/mps-memory-pressure": {
        "signature": "RuntimeError: MPS backend out of memory (MPS allocated: 2.00 GB, limit: 2.00 GB)",
        "regex": "RuntimeError: MPS backend out of memory",
        "figures": {"confidence": 0.82, "fix_success_rate": 0.85, "evidence_count": 1, "error_code": None},
        "rates": [0.9, 0.5, 0.85],
    },
    "cuda/mps-heap-limit-exceeded": {
        "signature": "CUDA error: MPS heap memory limit exceeded (cudaErrorMpsHeapMemoryLimitExceeded)",
        "regex": "MPS heap memory limit exceeded",
        "figures": {
            "confidence": 0.87,
            "fix_success_rate": 0.8,
            "evidence_count": 1,
            "error_code": "cudaErrorMpsHeapMemoryLimitExceeded",
        },
        "rates": [0.9, 0.8, 0.75, 0.9, 0.75, 0.95],
    },
    "llm/huggingface-model-load-oom-on-cpu": {
        "signature": "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 "
        "has 8.00 GiB total capacity; 7.80 GiB already allocated.",
        "regex": r"torch\.cuda\.OutOfMemoryError.*CUDA out of memory.*Tried to allocate",
        "figures": {
            "confidence": 0.9,
            "fix_success_rate": 0.88,
            "evidence_count": 1,
            "error_code": "CUDA-OOM-001",
        },
        "rates": [0.95, 0.85, 0.75],
    },
}


@pytest.mark.parametrize("record_id", FOUNDING)
def test_the_founding_records_keep_what_identifies_them_and_their_figures(record_id, diagnose):
    document, founding = record(record_id), FOUNDING[record_id]
    assert document["signature"] == founding["signature"]
    assert document["regex"] == founding["regex"]
    figures = document["founding"]["figures"]
    assert {name: figures[name] for name in founding["figures"]} == founding["figures"]
    rates = [claim["stated_rate"] for claim in document["disputed"] if "stated_rate" in claim]
    assert sorted(rates) == sorted(founding["rates"])
    code = founding["figures"]["error_code"]
    assert [c["name"] for c in document.get("codes", []) if c["disputed"]] == ([code] if code else [])
    # And they still match: alone, or beside a record that knows the message better.
    (incident,) = diagnose(founding["signature"])["incidents"]
    assert record_id in [incident["record"], *(also["record"] for also in incident.get("also", []))]


@pytest.mark.parametrize(
    "message, first, founding",
    [
        (FOUNDING["llm/huggingface-model-load-oom-on-cpu"]["signature"], "torch/", "llm/huggingface-model-load-oom-on-cpu"),
        (
            "RuntimeError: MPS backend out of memory (MPS allocated: 17.62 GB, other allocations: 368.34 MB, "
            "max allowed: 18.13 GB). Tried to allocate 256.00 MB on private pool.",
            "apple-mps/out-of-memory",
            "cuda/mps-memory-pressure",
        ),
        (
            "RuntimeError: MPS backend out of memory (MPS allocated: 1.49 GiB, other allocations: "
            "67108914.49 GiB, max allowed: 30.19 GiB). Tried to allocate 9.19 MiB on private pool.",
            "apple-mps/implausible-other-allocations",
            "cuda/mps-memory-pressure",
        ),
    ],
)
def test_a_loose_founding_expression_stands_behind_the_record_that_knows_the_message(
    message, first, founding, diagnose
):
    (incident,) = diagnose(message)["incidents"]
    assert incident["record"].startswith(first)
    assert founding in [also["record"] for also in incident["also"]]


# For each claim that does not hold: the record, words that find the claim, the verdict.
NOT_SO = [
    ("cuda/mps-memory-pressure", "limit: 2.00 GB", "false"),
    ("cuda/mps-memory-pressure", "finds the error", "doubtful"),
    ("cuda/mps-memory-pressure", "fixed memory limit", "false"),
    ("cuda/mps-memory-pressure", "OS enforces a hard limit", "doubtful"),
    ("cuda/mps-memory-pressure", "MPS 1.0", "false"),
    ("cuda/mps-memory-pressure", "85 %", "doubtful"),
    ("cuda/mps-memory-pressure", "CUDA error", "false"),
    ("cuda/mps-heap-limit-exceeded", "cudaErrorMpsHeapMemoryLimitExceeded exists", "false"),
    ("cuda/mps-heap-limit-exceeded", "CUDA prints", "false"),
    ("cuda/mps-heap-limit-exceeded", "export CUDA_MPS_HEAP_SIZE=4G", "false"),
    ("cuda/mps-heap-limit-exceeded", "CUDA_MPS_HEAP_SIZE=0", "false"),
    ("cuda/mps-heap-limit-exceeded", "gets an error of MPS", "false"),
    ("cuda/mps-heap-limit-exceeded", "max_memory_allocated", "false"),
    ("cuda/mps-heap-limit-exceeded", "Restarting the client", "doubtful"),
    ("cuda/mps-heap-limit-exceeded", "fragmentation", "doubtful"),
    ("cuda/mps-heap-limit-exceeded", "535.54", "false"),
    ("cuda/mps-heap-limit-exceeded", "topic_3_4_2", "doubtful"),
    ("llm/huggingface-model-load-oom-on-cpu", "already allocated", "false"),
    ("llm/huggingface-model-load-oom-on-cpu", "stands before the message", "false"),
    ("llm/huggingface-model-load-oom-on-cpu", "on the CPU", "false"),
    ("llm/huggingface-model-load-oom-on-cpu", "CUDA-OOM-001", "false"),
    ("llm/huggingface-model-load-oom-on-cpu", "gradient_checkpointing", "false"),
    ("llm/huggingface-model-load-oom-on-cpu", "low_cpu_mem_usage", "false"),
    ("apple-mps/implausible-other-allocations", "32-bit integer overflow", "false"),
    ("apple-mps/implausible-other-allocations", "exabytes", "false"),
    ("apple-mps/implausible-other-allocations", "64 GB", "false"),
    ("apple-mps/implausible-other-allocations", "counter overflowed", "false"),
    ("apple-mps/implausible-other-allocations", "not freed between batches", "false"),
    ("apple-mps/implausible-other-allocations", "no empty_cache", "false"),
    ("apple-mps/implausible-other-allocations", "cannot report its memory", "false"),
    ("apple-mps/implausible-other-allocations", "official recommendation", "doubtful"),
    ("apple-mps/implausible-other-allocations", "costs no performance", "false"),
    ("apple-mps/implausible-other-allocations", "60 to 70 %", "false"),
]

# What a person could do because of such a claim.
FALSE_ADVICE = {
    "cuda/mps-memory-pressure": [],
    "cuda/mps-heap-limit-exceeded": ["CUDA_MPS_HEAP_SIZE", "empty_cache", "echo quit"],
    "llm/huggingface-model-load-oom-on-cpu": ["checkpointing", "low_cpu_mem_usage", "reset_peak"],
    "apple-mps/implausible-other-allocations": ["gc.collect", "empty_cache", "atch", "pgrade"],
}


@pytest.mark.parametrize("record_id, words, verdict", NOT_SO)
def test_each_untrue_claim_has_its_verdict_and_the_evidence(record_id, words, verdict):
    claims = [c for c in record(record_id)["disputed"] if words in c["claim"]]
    assert [c["verdict"] for c in claims] == [verdict]
    assert claims[0]["evidence"] and claims[0]["checked_against"]


@pytest.mark.parametrize("record_id", FALSE_ADVICE)
def test_what_is_untrue_is_never_given_as_advice(record_id, memwatch):
    document = record(record_id)
    for words in FALSE_ADVICE[record_id]:
        assert not [w["action"] for w in document["workarounds"] if words in w["action"]], words
    shown = memwatch("kb", "show", "--lang", "en", record_id).stdout
    helps = re.search(r"(?ms)^  What helps$(.*?)(?=^  \S|\Z)", shown)
    for words in FALSE_ADVICE[record_id]:
        assert not helps or words not in helps[1]
    untrue = shown.split("Known false claims (no advice)")[1]
    assert f'"{document["disputed"][0]["claim"][:30]}' in untrue


def test_the_analyses_record_keeps_fact_and_hypothesis_apart():
    cause = record("apple-mps/implausible-other-allocations")["root_cause"]
    assert "0x0100000CFEEDFACF" in cause["text"] and "fork" not in cause["text"]
    assert "fork" in cause["hypothesis"] and "nobody has reproduced" in cause["hypothesis"]
    helps = record("apple-mps/implausible-other-allocations")["workarounds"]
    assert "spawn" in helps[0]["action"]
    assert set(helps[1]["env"]) == {
        "PYTORCH_MPS_HIGH_WATERMARK_RATIO",
        "PYTORCH_MPS_LOW_WATERMARK_RATIO",
    }
    assert "system failure" in helps[1]["warning"]


# --- the lists of names ------------------------------------------------------------------------


def listed(api):
    rows = re.findall(r'ERROR_NAME\("([^"]+)", (-?\d+), "([^"]+)"\)', (ROOT / "knowledge/error_names.def").read_text())
    return {(name, int(code)) for a, code, name in rows if a == api}


@pytest.mark.parametrize("release", ["cuda11", "cuda12", "cuda13"])
@pytest.mark.parametrize(
    "api, header, enum",
    [
        ("cuda-driver", "cuda.h", r"typedef enum cudaError_enum \{(.*?)\n\}"),
        ("cuda-runtime", "driver_types.h", r"enum __device_builtin__ cudaError\s*\{(.*?)\n\s*\}"),
    ],
)
def test_the_list_of_error_codes_is_what_the_toolkits_headers_say(release, api, header, enum):
    text = (DEPS / "deps" / release / "include" / header).read_text()
    body = re.sub(r"/\*.*?\*/|//[^\n]*", "", re.search(enum, text, re.S)[1], flags=re.S)
    codes = {(name, int(value, 0)) for name, value in re.findall(r"(\w+)\s*=\s*(0x[0-9a-fA-F]+|\d+)", body)}
    assert len(codes) > 80
    assert codes <= listed(api)


# --- lint finds what it is for -----------------------------------------------------------------

GOOD = {
    "schema": "memwatch-knowledge/1",
    "id": "mine/card-full",
    "title": "The card is full",
    "domain": "mine",
    "category": "out_of_memory",
    "severity": "error",
    "signature": "widget: card is full (12 MiB wanted)",
    "templates": ["widget: card is full ({request:size} wanted)"],
    "codes": [{"api": "cuda-driver", "code": 2, "name": "CUDA_ERROR_OUT_OF_MEMORY"}],
    "root_cause": {"text": "It is.", "tier": "reported", "sources": ["me/widget#1"]},
    "workarounds": [
        {
            "action": "Set CUDA_VISIBLE_DEVICES=1",
            "env": ["CUDA_VISIBLE_DEVICES"],
            "tier": "reported",
            "sources": ["me/widget#1"],
        }
    ],
    "dead_ends": [{"action": "Wait", "why_fails": "It stays full.", "tier": "ai_generated"}],
    "transition_graph": {
        "frequently_confused_with": [
            {"error_id": "cuda/out-of-memory", "distinction": "That one is everybody's."}
        ]
    },
    "examples": ["E0101 widget: card is full (3.5 GiB wanted)"],
    "verification_tier": "reported",
    "sources": ["me/widget#1"],
    "last_updated": "2026-01-02",
}


def changed(path, value):
    """GOOD with one member replaced, added or (None) taken away."""
    document = copy.deepcopy(GOOD)
    owner = document
    *way, last = path
    for step in way:
        owner = owner[step]
    if value is None:
        del owner[last]
    else:
        owner[last] = value
    return document


BAD = {
    "a template that is none": (["templates", 0], "widget {x} full", "needs a type"),
    "a signature that does not match": (["signature"], "another", "does not match its own signature"),
    "an example that does not match": (["examples", 0], "another", "examples[0] does not match"),
    "no example": (["examples"], None, "no example of a real message"),
    "no literal to find it by": (["templates", 0], "a {request:size} b {}", "no text of 5 characters"),
    "a template that matches everyday text": (["templates"], ["widget: card is full", "memory usage"], "of the negatives"),
    "a code that does not exist": (["codes", 0, "name"], "CUDA_ERROR_MADE_UP", "there is no error CUDA_ERROR_MADE_UP"),
    "a code with another's number": (["codes", 0, "code"], 3, "there is no error CUDA_ERROR_OUT_OF_MEMORY"),
    "a real code called disputed": (["codes", 0, "disputed"], True, "cannot be disputed"),
    "a variable that does not exist": (["workarounds", 0, "env"], ["CUDA_MPS_HEAP_SIZE"], "no environment variable"),
    "an assignment of one": (["workarounds", 0, "action"], "export CUDA_MPS_HEAP_SIZE=4G", "no known environment variable"),
    "an assignment of one in a warning": (["workarounds", 0, "warning"], "not with FOO_BAR=1", "no known environment variable"),
    "an assignment of one in the cause": (["root_cause", "text"], "Somebody set FOO_BAR=1", "no known environment variable"),
    "a source without a name": (["root_cause", "sources"], [" "], "has no source"),
    "one source counted twice": (
        ["root_cause"],
        {"text": "It is.", "tier": "corroborated", "sources": ["me/widget#1", "me/widget#1"]},
        "has one source only",
    ),
    "advice of blanks": (["workarounds", 0, "action"], " \t", "says nothing to do"),
    "a reason of blanks": (["dead_ends", 0, "why_fails"], " ", "does not say why it fails"),
    "a tier without a source": (["workarounds", 0, "sources"], [], "has no source"),
    "an identification without a source": (["verification_tier"], "corroborated", "has one source only"),
    "a source read nowhere": (["root_cause", "tier"], "source_verified", "no source is a program's"),
    "advice that says nothing": (["workarounds", 0, "action"], "", "says nothing to do"),
    "a dead end without a reason": (["dead_ends", 0, "why_fails"], "", "does not say why it fails"),
    "a rate of nothing": (["workarounds", 0, "success_rate"], 0.9, "has a rate, but not of how many"),
    "more successes than attempts": (["workarounds", 0, "k"], 3, "helped more often than it was tried"),
    "a confidence from nowhere": (["confidence"], 0.9, "rate without counts"),
    "an id that leads nowhere": (["transition_graph", "leads_to"], [{"error_id": "no/such"}], 'no record "no/such"'),
    "an edge to itself": (["transition_graph", "leads_to"], [{"error_id": "mine/card-full"}], "the record itself"),
    "a confusion without a difference": (
        ["transition_graph", "frequently_confused_with", 0, "distinction"],
        "",
        "does not say how to tell them apart",
    ),
    "disputed, nobody knows why": (["verification_tier"], "disputed", "does not say why"),
    "a claim without evidence": (["disputed"], [{"claim": "so", "verdict": "false"}], "has no evidence"),
    "evidence that Chinese readers do not get": (
        ["disputed"],
        [{"claim": "so", "verdict": "false", "evidence": ["one", "two"], "evidence_zh": ["一"],
          "checked_on": "2026-01-02", "checked_against": "it"}],
        "has other evidence in Chinese",
    ),
    "advice that is disputed": (["workarounds", 0, "tier"], "disputed", 'belongs into "disputed"'),
    "a misspelt member": (["workaround"], [], '"workaround" is not part of the format'),
    "an imported expression that is sure of itself": (["regex"], "widget: card is full", None),
    "an expression with lookahead": (["regex"], "widget(?=: card)", "groups are understood"),
    "an expression that never ends": (["regex"], "(widget+)+: card", "without end"),
}


def write(folder, name, document):
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document, indent=1))
    return path


def lint(memwatch, *paths):
    done = memwatch("kb", "lint", "--json", "--negatives", NEGATIVES, *paths)
    result = json.loads(done.stdout)
    assert done.returncode == (1 if result["errors"] else 0)
    return result


def test_a_good_record_passes_the_lint(memwatch, tmp_path):
    result = lint(memwatch, write(tmp_path, "good.json", GOOD))
    assert result["findings"] == [] and result["records"] == 1


@pytest.mark.parametrize("what", BAD)
def test_the_lint_finds(what, memwatch, tmp_path):
    path, value, expected = BAD[what]
    result = lint(memwatch, write(tmp_path, "bad.json", changed(path, value)))
    if expected is None:  # an imported expression is fine up to the tier that GOOD has
        assert result["findings"] == []
        return
    errors = [f for f in result["findings"] if f["level"] == "error"]
    assert any(expected in f["text"] for f in errors), result["findings"]
    assert all(f["id"] == "mine/card-full" and f["file"].endswith("bad.json") for f in errors)


def test_the_lint_names_the_line(memwatch, tmp_path):
    path = write(tmp_path, "bad.json", changed(["codes", 0, "name"], "CUDA_ERROR_MADE_UP"))
    done = memwatch("kb", "lint", path)
    line = [i for i, text in enumerate(path.read_text().splitlines(), 1) if '"codes"' in text][0]
    assert f"{path}:{line}: error: there is no error CUDA_ERROR_MADE_UP" in done.stdout
    assert "1 record checked: 1 error, " in done.stdout


def test_the_lint_would_have_caught_the_founding_record_of_an_error_that_does_not_exist(memwatch, tmp_path):
    """As it was published: its format is read, and its faults are found."""
    document = {
        "id": "cuda/made-up",
        "signature": "CUDA error: widget heap limit exceeded (cudaErrorWidgetHeap)",
        "signature_zh": "CUDA 错误",
        "regex": "widget heap limit exceeded",
        "domain": "cuda",
        "category": "resource_error",
        "subcategory": None,
        "root_cause": "The heap is full.",
        "root_cause_zh": "堆已满。",
        "versions": [{"version": "CUDA 11.8", "introduced": None, "behavior_change": None}],
        "os_specific": {},
        "dead_ends": [{"action": "", "why_fails": "No.", "fail_rate": 0.9, "condition": "", "sources": []}],
        "workarounds": [
            {
                "action": "`export CUDA_MPS_HEAP_SIZE=4G`",
                "success_rate": 0.9,
                "how": "`export CUDA_MPS_HEAP_SIZE=4G`",
                "condition": "",
                "sources": [],
            }
        ],
        "workarounds_zh": ["增大堆"],
        "transition_graph": {"leads_to": ["cuda/nothing"], "preceded_by": [], "frequently_confused_with": []},
        "error_code": "cudaErrorWidgetHeap",
        "verification_tier": "ai_generated",
        "confidence": 0.87,
        "fix_success_rate": 0.8,
        "resolvable": "true",
        "last_updated": "2025-04-10",
        "evidence_count": 1,
    }
    result = lint(memwatch, write(tmp_path, "made-up.json", document))
    assert result["records"] == 1
    found = "\n".join(f["text"] for f in result["findings"])
    for expected in (
        "there is no error cudaErrorWidgetHeap",
        "sets CUDA_MPS_HEAP_SIZE, which is no known environment variable",
        "no example of a real message",
        'workarounds[0] has a rate, but not of how many ("n", "k")',
        "dead_ends[0] says nothing to do",
        '"confidence" is a rate without counts',
        'there is no record "cuda/nothing"',
    ):
        assert expected in found
    assert "signature" not in found  # that it matches


# --- users' records ----------------------------------------------------------------------------


def test_records_of_a_user_s_folder_are_listed_shown_and_matched(memwatch, tmp_path, diagnose):
    write(tmp_path, "mine.json", GOOD)
    assert "mine/card-full" not in memwatch("kb", "list").stdout
    for arguments, environment in ((["--kb", tmp_path], {}), ([], {"MEMWATCH_KB": f"/none:{tmp_path}"})):
        done = memwatch("kb", "list", "--domain", "mine", *arguments, env=environment)
        assert done.returncode == 0 and done.stdout.split()[0] == "mine/card-full"
    shown = memwatch("kb", "show", "--kb", tmp_path, "mine/card-full").stdout
    assert "The card is full" in shown and "Set CUDA_VISIBLE_DEVICES=1" in shown
    (incident,) = diagnose("widget: card is full (9 MiB wanted)", "--kb", tmp_path)["incidents"]
    assert incident["record"] == "mine/card-full"


def test_what_cannot_be_read_is_told_and_the_rest_still_loads(memwatch, tmp_path):
    good = write(tmp_path, "a.json", GOOD)
    write(tmp_path, "broken.json", '{\n "id": "x/broken",\n "title": oops\n}')
    write(tmp_path, "deep.json", "[" * 100_000)
    write(tmp_path, "huge.json", json.dumps({"id": "x/huge", "title": "x" * (2 << 20)}))
    write(tmp_path, "twice.json", GOOD)
    write(tmp_path, "later.json", {**GOOD, "schema": "memwatch-knowledge/2", "id": "x/later"})
    (tmp_path / "latin.json").write_bytes(b'{"id": "x/latin",\n"title": "\xe4"}')
    (tmp_path / "nul.json").write_bytes(b'{"id": "x/nul\0"}')
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    write(tmp_path, "z.json", {**GOOD, "id": "mine/last"})
    done = memwatch("kb", "list", "--domain", "mine", "--kb", tmp_path, timeout=20)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["mine/card-full", "mine/last"]
    told = dict(re.findall(r"memwatch: \S*/(\w+)\.json(:.*)", done.stderr))
    assert told.keys() == {"broken", "deep", "huge", "twice", "later", "latin", "nul", "pipe", "loop"}
    assert told["broken"] == ":3: is not valid JSON here: oops?}"
    assert told["deep"].startswith(":1: is nested deeper")
    assert told["huge"].startswith(": is larger than")
    assert told["twice"] == f":3: mine/card-full is there already, from {good}: this one is left out"
    assert "memwatch-knowledge/2" in told["later"]
    assert told["latin"].startswith(":2: is not UTF-8")
    assert "NUL" in told["nul"] and "no regular file" in told["pipe"] and "symbolic" in told["loop"]


# --- kb list, show, search ---------------------------------------------------------------------


def test_search_finds_by_id_title_message_code_and_chinese(memwatch):
    def found(*words):
        return [r["id"] for r in json.loads(memwatch("kb", "search", "--json", *words).stdout)]

    assert found("watermark")[0].startswith("apple-mps/")
    assert "cuda/illegal-address" in found("cudaErrorIllegalAddress")
    assert found("67108914.49")[0] == "apple-mps/implausible-other-allocations"
    assert "cuda/mps-heap-limit-exceeded" in found("堆限制")
    assert "nccl/cuda-oom" in found("nccl", "MEMORY")  # all words, in any case
    assert found("nccl", "watermark") == []


def test_search_takes_a_message_for_what_it_is(memwatch):
    def found(*words):
        return [r["id"] for r in json.loads(memwatch("kb", "search", "--json", *words).stdout)]

    for path in FILES[::7]:
        document = json.loads(path.read_text())
        for example in document.get("examples", [])[:1]:
            assert found(example)[0] == document["id"]
    # Numbers are another's, words come one by one.
    assert found(*"CUDA out of memory. Tried to allocate 7.77 GiB".split())[0] == "torch/cuda-oom-capacity"


def test_search_prefers_words_to_parts_of_words(memwatch, tmp_path):
    write(tmp_path, "a.json", {**GOOD, "id": "mine/room", "title": "There is xroomx"})
    write(tmp_path, "b.json", {**GOOD, "id": "mine/zz", "title": "The oomx killer", "signature": "oomx"})
    listed = json.loads(memwatch("kb", "search", "--json", "--kb", tmp_path, "oomx").stdout)
    assert [r["id"] for r in listed] == ["mine/zz", "mine/room"]


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["out of memory"], ["cuda/out-of-memory"]),
        (["CUDA out of memory"], ["cuda/out-of-memory"]),
        (["cuda", "oom"], ["cuda/out-of-memory", "torch/cuda-oom-capacity"]),
        (["cuda oom"], ["cuda/out-of-memory", "torch/cuda-oom-capacity"]),
        (["cuda-oom"], ["cuda/out-of-memory", "torch/cuda-oom-capacity"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_search_has_the_plain_record_before_all_others(memwatch, words, first):
    rows = [line.split()[:3] for line in memwatch("kb", "search", *words).stdout.splitlines()]
    assert [row[0] for row in rows[: len(first)]] == first
    tiers = [row[2] for row in rows[:5]]
    assert "disputed" not in tiers


def test_search_lists_the_best_and_says_how_many_more_there_are(memwatch):
    *rows, last = memwatch("kb", "search", "memory").stdout.splitlines()
    everything = json.loads(memwatch("kb", "search", "--json", "memory").stdout)
    assert [row.split()[0] for row in rows] == [r["id"] for r in everything[:15]]
    assert last.startswith(f"and {len(everything) - 15} more")


def test_asking_for_what_is_not_there_is_told_by_the_exit_code(memwatch):
    for arguments in (["show", "no/such"], ["search", "xyzzy-plugh"], ["list", "--domain", "none"]):
        done = memwatch("kb", *arguments)
        assert done.returncode == 4 and done.stdout == "" and done.stderr.startswith("memwatch: kb ")
    for arguments in ([], ["shout"], ["list", "--nonsense"], ["show"], ["search"], ["list", "--lang", "xx"]):
        assert memwatch("kb", *arguments).returncode == 2
    assert memwatch("kb", "--help").returncode == 0


def test_a_file_of_negatives_that_cannot_be_read_ends_with_3(memwatch):
    done = memwatch("kb", "lint", "--negatives", "no such file")
    assert done.returncode == 3 and done.stderr.startswith("memwatch: kb lint: cannot read no such file: ")


def test_a_part_of_an_id_is_enough_if_there_is_only_one(memwatch):
    assert "apple-mps/implausible-other-allocations" in memwatch("kb", "show", "implausible").stdout
    done = memwatch("kb", "show", "cuda")
    assert done.returncode == 4 and "ids have 'cuda' in them" in done.stderr
    first, *listed = memwatch("kb", "show", "cuda-oom").stderr.splitlines()
    assert f"{len(listed)} ids have 'cuda-oom' in them" in first
    assert {"  torch/cuda-oom-capacity", "  nccl/cuda-oom"} <= set(listed)


def test_show_tells_what_changed_from_version_to_version(memwatch):
    for language, text in (("en", "expandable_segments hint"), ("zh", "提示 expandable_segments")):
        shown = memwatch("kb", "show", "--lang", language, "torch/cuda-oom-capacity").stdout
        assert re.search(rf"    - PyTorch 2\.2.*{text}", shown)


def test_show_speaks_chinese(memwatch):
    shown = memwatch("kb", "show", "--lang", "zh", "apple-mps/out-of-memory").stdout
    assert record("apple-mps/out-of-memory")["title_zh"] in shown
    assert "有效的办法" in shown


# --- hostile input -----------------------------------------------------------------------------


def test_no_input_breaks_the_loader_the_templates_or_the_lint():
    """tests/fuzz/fuzz_record.c, built with sanitizers, on a fixed number of inputs."""
    fuzz = BUILD / "tests" / "fuzz" / "fuzz_record"
    done = subprocess.run([fuzz, "6000"], env=clean_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    read = re.fullmatch(r"6000 inputs read: (\d+) records, (\d+) matches\n", done.stdout)
    assert int(read[1]) > 500 and int(read[2]) > 1000  # the inputs still reach what they are for
