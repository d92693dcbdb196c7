# SPDX-License-Identifier: Apache-2.0
"""Every record's real messages are recognised as its own, and what only looks like an error is not.

Each example of a record and each line of negatives.txt is a log of its own; they are all given to
one run of the program. What counts as right: an example gives one incident, of its own record
("first"; that less specific records fit the same words is no fault), and a negative gives none.
"""

import json
import os
import subprocess

import pytest

from conftest import MEMWATCH, clean_environment
from knowledge.conftest import NEGATIVES, RECORDS


def examples():
    """(id, text) of every example, in the records' order."""
    for path in sorted(RECORDS.glob("*.json")):
        record = json.loads(path.read_text())
        for example in record.get("examples") or []:
            yield record["id"], example


def negatives():
    lines = NEGATIVES.read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith("# ")]


def diagnose_all(folder, texts):
    """The incidents of each text, in their order."""
    folder.mkdir()
    paths = []
    for i, text in enumerate(texts):
        paths.append(folder / f"{i:05}.log")
        paths[-1].write_text(text + "\n")
    command = [MEMWATCH, "diagnose", "--json", *paths]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True)
    assert done.returncode in (0, 4), done.stderr
    found = [[] for _ in texts]
    for incident in json.loads(done.stdout)["incidents"]:
        if "message" in incident:
            name = os.path.basename(incident["message"]["source"])
            found[int(name.removesuffix(".log"))].append(incident)
    return found


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """For each example and negative what was found in it."""
    folder = tmp_path_factory.mktemp("corpus")
    positives = list(examples())
    lines = negatives()
    return {
        "examples": list(zip(positives, diagnose_all(folder / "examples", [t for _, t in positives]))),
        "negatives": list(zip(lines, diagnose_all(folder / "negatives", lines))),
    }


def told(misses):
    return "\n".join(f"{text[:300]!r}: {', '.join(ids) or 'nothing'}" for text, ids in misses)


def ids(incidents):
    return [incident["record"] for incident in incidents]


def test_the_corpus_is_large_enough(outcome):
    assert len({record for (record, _), _ in outcome["examples"]}) >= 90
    assert len(outcome["negatives"]) >= 100


def test_every_record_that_matches_text_has_an_example():
    without = [
        path.name
        for path in sorted(RECORDS.glob("*.json"))
        for record in [json.loads(path.read_text())]
        if (record.get("templates") or record.get("regex")) and not record.get("examples")
    ]
    assert not without


def test_every_example_is_its_own_record_s_before_any_other(outcome):
    wrong = [(f"{r}: {text}", ids(found)) for (r, text), found in outcome["examples"] if r not in ids(found)[:1]]
    assert not wrong, told(wrong)


def test_every_example_is_one_incident(outcome):
    wrong = [(f"{r}: {text}", ids(found)) for (r, text), found in outcome["examples"] if len(found) > 1]
    assert not wrong, told(wrong)


def test_nothing_is_found_in_lines_that_only_look_like_errors(outcome):
    wrong = [(text, ids(found)) for text, found in outcome["negatives"] if found]
    assert not wrong, told(wrong)


def test_nothing_is_found_in_all_of_them_together(tmp_path):
    """As one log: no message is made up from parts of several lines."""
    (found,) = diagnose_all(tmp_path / "all", ["\n".join(negatives())])
    assert not found, told([(i["message"]["text"], [i["record"]]) for i in found])


def test_precision_and_recall(outcome, record_property):
    """Precision: of the incidents told, those that are right. Recall: of the examples, those that
    are recognised."""
    right = sum(record in ids(found)[:1] for (record, _), found in outcome["examples"])
    incidents = sum(len(found) for _, found in outcome["examples"] + outcome["negatives"])
    precision, recall = right / max(incidents, 1), right / len(outcome["examples"])
    false = sum(bool(found) for _, found in outcome["negatives"])
    record_property(
        "corpus",
        f"precision {precision:.3f}, recall {recall:.3f} over {len(outcome['examples'])} messages of "
        f"{len({record for (record, _), _ in outcome['examples']})} records; "
        f"{false} of {len(outcome['negatives'])} lines that are no errors matched",
    )
    assert precision >= 0.99
    assert recall >= 0.99


# --- the things that are called MPS ------------------------------------------------------------

APPLE, NVIDIA = "apple-mps", "nvidia-mps"


def mps_records():
    """id -> domain, of the records of Apple's MPS and of NVIDIA's"""
    documents = [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]
    return {d["id"]: d["domain"] for d in documents if d["domain"] in (APPLE, NVIDIA)}


def all_records(incident):
    """Every record that an incident names."""
    others = incident["also"] + incident["followed_by"]
    return [incident["record"]] + [other["record"] for other in others]


def test_apple_s_mps_and_nvidia_s_are_never_confused(outcome):
    domains = mps_records()
    assert {APPLE, NVIDIA} == set(domains.values())
    wrong = []
    for (record, text), incidents in outcome["examples"]:
        other = {APPLE: NVIDIA, NVIDIA: APPLE}.get(domains.get(record))
        named = [r for incident in incidents for r in all_records(incident)]
        # An error of something else is of neither, unless it says so.
        forbidden = [other] if other else [] if "MPS" in text.upper() else [APPLE, NVIDIA]
        wrong += [(text, [r]) for r in named if domains.get(r) in forbidden]
    assert not wrong, told(wrong)


def test_in_one_log_none_takes_another_s_messages_for_its_own(tmp_path):
    """Line by line in turn: Apple's, something else that is called MPS, NVIDIA's."""
    domains = mps_records()
    texts = {APPLE: [], NVIDIA: []}
    for record, text in examples():
        if record in domains:
            texts[domains[record]].append((record, text))
    strangers = [line for line in negatives() if "mps" in line.lower()]
    assert len(texts[APPLE]) >= 10 and len(texts[NVIDIA]) >= 8 and len(strangers) >= 15
    lines, expected = [], set()
    for i in range(max(map(len, texts.values()))):
        for domain in (APPLE, NVIDIA):
            record, text = texts[domain][i % len(texts[domain])]
            expected.add(record)
            lines += [text, strangers[i % len(strangers)]]
    (found,) = diagnose_all(tmp_path / "mixed", ["\n".join(lines)])
    named = [all_records(incident) for incident in found]
    for records in named:
        assert len({domains[r] for r in records if r in domains}) == 1, records
    assert expected <= {r for records in named for r in records}
