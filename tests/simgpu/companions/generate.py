# SPDX-License-Identifier: Apache-2.0
"""Builds simulated companion libraries for an installed Python package.

usage: generate.py --output FOLDER [--cc COMPILER] --runtime LIBCUDART_STATIC PACKAGE

A framework built for CUDA does not load without cuBLAS, cuDNN, NCCL and their like, gigabytes that
could not run on a simulated driver anyway (they carry a runtime of NVIDIA's own, which wants the
real driver; those here carry the simulated one, where they need it). So for each companion that the
package's binaries name as needed, this makes a small library of the same soname and symbol versions
with exactly the functions that they import. What a function does is a row of behaviours.def, or a
definition in LIBRARY.c in this folder. A companion that has no section in behaviours.def is left to
the machine. To be run by the Python that has the package.
"""

import argparse
import collections
import concurrent.futures
import fnmatch
import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
SECTION = re.compile(r"\[(\w+)\]\s+(\w+)\s+refuses\s+(\S+)\s+version\s+(\S+)$")
REQUIREMENT = re.compile(r"([\w-]+)(?:\[.*?\])?\s*\(?==([\d.]+)")
ACTION = re.compile(r"(\w+)@(\d+)(?:=(.+))?$")
DEFINED = re.compile(r"^COMPANION\(\w+, (\w+),", re.M)

Library = collections.namedtuple("Library", "stem prefix refuses package rows")


def fail(text):
    sys.exit(f"companions/generate.py: {text}")


def read_behaviours(path):
    """The libraries of the table, by stem."""
    libraries = {}
    current = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        if line.startswith("["):
            match = SECTION.match(line)
            if not match:
                fail(f"{path}:{number}: not the start of a library: {line}")
            current = Library(*match.groups(), rows=[])
            libraries[current.stem] = current
        else:
            pattern, *actions = line.split()
            if current is None or not actions:
                fail(f"{path}:{number}: not a row: {line}")
            current.rows.append((pattern, actions))
    return libraries


def output_of(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def needed(binary):
    return re.findall(r"\(NEEDED\).*\[(.+)\]", output_of("readelf", "-dW", binary))


def imported(binary):
    """(name, version or "") of each undefined dynamic symbol."""
    for line in output_of("nm", "-D", "--undefined-only", binary).splitlines():
        name, _, version = line.split()[-1].partition("@")
        yield name, version.lstrip("@")


def library_of(name, libraries):
    """The library with the longest prefix of a name."""
    fitting = [x for x in libraries if re.match(x.prefix + "[A-Z_]?", name)]
    return max(fitting, key=lambda x: len(x.prefix), default=None)


def version_of(package, requirements):
    """(major, minor, patch) of the package: what is required, else the toolkit's, else zeros."""
    for wanted in (package, "cuda-toolkit", "nvidia-cuda-runtime"):
        for name, version in requirements:
            if re.fullmatch(re.escape(wanted) + r"(-cu\d+)?", name):
                return [int(x) for x in (version.split(".") + ["0", "0"])[:3]]
    return [0, 0, 0]


def statements(actions):
    """(statements, the answer) of a row's actions in C; an answer of None is the refusal."""
    body, answer = [], "0"
    for action in actions:
        match = ACTION.match(action)
        if action == "refuse":
            answer = None
        elif action == "text":
            answer = "companion_text()"
        elif action.startswith("value="):
            answer = action[len("value="):]
        elif match:
            more = f", {match[3]}" if match[3] else ""
            body.append(f"companion_{match[1]}(a{match[2]}{more});")
        else:
            fail(f"behaviours.def: unknown action {action}")
    return body, answer


def write_source(library, names):
    out = [f"// Written by generate.py for {library.stem}; not a source file.\n",
           '#include "companion.h"\n']
    for name in names:
        row = next((actions for pattern, actions in library.rows
                    if fnmatch.fnmatchcase(name, pattern)), [])
        body, answer = statements(row)
        if answer is None:
            body.append(f'companion_refuse("{name}");')
            answer = library.refuses
        body.append(f"return {answer};")
        text = " ".join(body)
        count = max(map(int, re.findall(r"\ba(\d+)\b", text)), default=0)
        parameters = ", ".join(f"long a{i}" for i in range(1, count + 1)) or "void"
        out.append(f"long {name}({parameters}) {{ {text} }}\n")
    return "".join(out)


def write_exports(symbols):
    """A version script. Names that are imported both with a version and without stay without."""
    by_version = collections.defaultdict(list)
    for name, version in symbols:
        by_version[version].append(name)
    unversioned = by_version.pop("", [])
    if not by_version:
        exported = f"global: {'; '.join(sorted(unversioned))};" if unversioned else ""
        return f"{{ {exported} local: *; }};\n"
    nodes = [f"{version} {{ global: {'; '.join(sorted(names))};{{}} }};\n"
             for version, names in sorted(by_version.items())]
    return "".join(nodes).replace("{}", "" if unversioned else " local: *;", 1).replace("{}", "")


def build(library, soname, symbols, requirements, cuda, args):
    by_hand = HERE / f"{library.stem[3:]}.c"
    defined = set(DEFINED.findall(by_hand.read_text())) if by_hand.exists() else set()
    source = args.output / f"{soname}.c"
    source.write_text(write_source(library, sorted({n for n, _ in symbols} - defined)))
    command = [*args.cc.split(), "-std=gnu17", "-O2", "-g", "-Wall", "-Wextra", "-Werror",
               "-Wno-unused-parameter", "-Wno-unused-function", "-shared", "-fPIC", "-fvisibility=default",
               "-I", str(HERE), f"-DCUDA_VERSION={cuda}", f"-Wl,-soname,{soname}",
               "-o", str(args.output / soname), str(source)]
    command += [f"-DVERSION_{part}={value}" for part, value in
                zip(("MAJOR", "MINOR", "PATCH"), version_of(library.package, requirements))]
    command += [str(by_hand)] if defined else []
    written = source.read_text() + (by_hand.read_text() if defined else "")
    if re.search(r"companion_(take|give)\(", written):
        command += [str(args.runtime), "-Wl,--exclude-libs,ALL", "-pthread", "-ldl"]
    script = args.output / f"{soname}.map"
    script.write_text(write_exports(symbols))
    command.append(f"-Wl,--version-script={script}")
    if subprocess.run(command).returncode != 0:
        fail(f"{soname} could not be compiled")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--runtime", required=True, type=pathlib.Path)
    parser.add_argument("package", metavar="PACKAGE")
    args = parser.parse_args()
    try:
        package = importlib.metadata.distribution(args.package)
    except importlib.metadata.PackageNotFoundError:
        fail(f"{args.package} is not installed in {sys.prefix}")
    binaries = [package.locate_file(f) for f in package.files if f.name.endswith(".so")]
    requirements = [match.groups() for match in map(REQUIREMENT.match, package.requires or []) if match]
    args.output.mkdir(parents=True, exist_ok=True)

    table = read_behaviours(HERE / "behaviours.def")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        sonames = {name for names in pool.map(needed, binaries) for name in names}
        symbols = {pair for pairs in pool.map(lambda b: list(imported(b)), binaries)
                   for pair in pairs}
        companions = {soname: table[soname.split(".so")[0]] for soname in sorted(sonames)
                      if soname.split(".so")[0] in table}
        if not companions:
            fail(f"{args.package} needs no library of behaviours.def")
        major, minor, _ = version_of("cuda-toolkit", requirements)
        wanted = collections.defaultdict(set)
        for name, version in symbols:
            library = library_of(name, companions.values())
            if library:
                wanted[library.stem].add((name, version))
        jobs = [pool.submit(build, library, soname, wanted[library.stem], requirements,
                            major * 1000 + minor * 10, args)
                for soname, library in companions.items()]
        for job in jobs:
            job.result()


if __name__ == "__main__":
    main()
