# SPDX-License-Identifier: Apache-2.0
"""Judges door_lookups.c: a look-up must give the same function with memwatch as without.

Where that is one that we wrap, our wrapper of exactly that symbol; everywhere else the very same
pointer. Result, status and errno must not differ at all.
"""

import collections
import re
import subprocess

VERSIONS = (
    "2000 3020 4000 5050 6050 7000 8000 9020 10020"
    " 11000 11020 11030 11040 11080 12000 12020 13000"
)


def symbols(path, *options):
    """{offset: names} of the functions in an object."""
    found = collections.defaultdict(set)
    listing = subprocess.check_output(["nm", *options, str(path)], text=True)
    for line in listing.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] in "TtWi":
            found[int(fields[0], 16)].add(fields[2].partition("@")[0])
    return found


def names_to_ask(driver):
    """Every exported name, every base name that stands for some of them, and what nobody has."""
    names = {name for group in symbols(driver, "-D").values() for name in group}
    names = {name for name in names if name.startswith("cu")}
    bases = {re.sub(r"(_v\d+)?(_ptsz|_ptds)?$", "", name) for name in names}
    return sorted(names | bases | {"", "cu", "cuNoSuchFunction", "cudaMalloc"})


def parse(output):
    """{(door, name, version, flags): ((result, status), where)}"""
    found = {}
    for line in output.splitlines():
        door, name, version, flags, result, status, where = line.split()
        found[door, name, version, flags] = (result, status), where
    return found


def place(where):
    name, _, offset = where.rpartition("+")
    return name, int(offset, 16)


def compare(driver, library, without, with_us):
    """without, with_us: what door_lookups printed for the names of names_to_ask."""
    exported, ours = symbols(driver, "-D"), symbols(library)
    watched = {name for group in symbols(library, "-D").values() for name in group}
    watched = {name for name in watched if re.match(r"cu[A-Z]", name)}
    bare, seen = parse(without), parse(with_us)
    assert len(bare) > 1000, "hardly any look-up was made: the test saw nothing"
    assert bare.keys() == seen.keys()
    exchanged = set()
    for question, (status, where) in bare.items():
        their_status, their_where = seen[question]
        assert their_status == status, f"{question}: result or status differs"
        if not where.startswith("libcuda.so.1+"):
            # NULL, or what the program itself had put there.
            assert their_where == where, question
            continue
        functions = exported[place(where)[1]]
        if not functions & watched:
            assert their_where == where, f"{question} is {functions}, and was exchanged"
            continue
        object_name, offset = place(their_where)
        assert object_name == "libmemwatch.so", f"{question} is {functions}, and passes us by"
        wrappers = {name.removesuffix("_routed") for name in ours[offset]}
        assert wrappers & functions, f"{question} is {functions}; we gave {wrappers}"
        exchanged |= functions & watched
    everything = {name for group in exported.values() for name in group}
    assert exchanged == watched & everything, "some functions of the table were never asked for"
