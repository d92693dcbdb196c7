# SPDX-License-Identifier: Apache-2.0
"""Writes the part of the simulated driver that follows from NVIDIA's headers alone.

The toolkit declares some 640 driver entry points, most of them in several ABIs. Copying their
signatures by hand would be long and would go stale, so they are read from cuda.h (preprocessed)
and cudaTypedefs.h at build time; nothing generated is committed. Three products:

  api.h       a prototype `sim_NAME` for every name: the compiler then checks each handwritten
              behaviour against the toolkit's own signature
  entries.c   the exported functions, each passing through the one macro ENTRY (entry.h), the table
              of their properties, and the look-up table of cuGetProcAddress
  null.c      the same exported names over tests/bench/nulldriver.c

What a name does is decided by the driver's sources: a definition that starts a line with
`CUresult sim_NAME(` is its behaviour. The markers ALLOCATES and ANYTIME in front of it are
explained in entry.h. A per-thread-default-stream twin (NAME_ptsz, NAME_ptds) runs the behaviour of
NAME. A first-generation ABI whose parameters are only narrower runs the behaviour of its _v2.
Everything else answers "not supported", or succeeds when quiet.def lists it.
"""

import argparse
import collections
import os
import re
import sys

PROTOTYPE = re.compile(r"\bCUresult\s+(cu[A-Z]\w*)\s*\(([^;]*?)\)\s*;")
TYPEDEF = re.compile(r"\*PFN_(cu\w+?)_v(\d+)(_pt[sd][sz])?\)\s*\((.*?)\)\s*;")
BEHAVIOUR = re.compile(r"^((?:ALLOCATES |ANYTIME )*)CUresult\s+sim_(cu\w+)\(", re.M)
NAME = re.compile(r"(cu\w+?)(?:_v(\d+))?(_pt[sd][sz])?$")
ERROR = re.compile(r"^\s*(CUDA_(?:SUCCESS|ERROR_\w+))\s*=\s*(\d+)", re.M)

# Types that a first-generation ABI narrows (CUDA 2.x: 32-bit device pointers and sizes).
WIDENS = {("CUdeviceptr_v1", "CUdeviceptr"), ("unsigned int", "size_t")}

Param = collections.namedtuple("Param", "type name")


def fail(text):
    sys.exit(f"generate.py: {text}")


def parse_params(text):
    """Splits a parameter list into (type, name); every parameter in cuda.h is named."""
    text = " ".join(text.split())
    if text in ("", "void"):
        return []
    params = []
    for part in text.split(","):
        match = re.match(r"(.*?[\s*])(\w+)$", part.strip())
        if not match:
            fail(f"parameter not understood: {part!r}")
        params.append(Param(match[1].strip(), match[2]))
    return params


def read_prototypes(preprocessed, profiler_typedefs):
    prototypes = {m[1]: parse_params(m[2]) for m in PROTOTYPE.finditer(preprocessed)}
    # cudaProfiler.h is not part of every toolkit package; its typedefs are. The enum it would
    # declare is an int in the ABI.
    for m in TYPEDEF.finditer(profiler_typedefs):
        prototypes.setdefault(m[1], parse_params(m[4].replace("CUoutput_mode", "int")))
    return dict(sorted(prototypes.items()))


def split_name(name):
    m = NAME.match(name)
    return m[1], int(m[2] or 1), m[3] or ""


def lookup_rows(prototypes, typedefs):
    """(base, version, per-thread, exported name): which ABI each toolkit version introduced.

    cudaTypedefs.h states the versions of a base name, the exported names its ABIs; both grow
    together, so the i-th version belongs to the i-th ABI.
    """
    versions, symbols = collections.defaultdict(set), collections.defaultdict(list)
    for m in TYPEDEF.finditer(typedefs):
        versions[m[1], bool(m[3])].add(int(m[2]))
    for name in prototypes:
        base, abi, twin = split_name(name)
        symbols[base, bool(twin)].append((abi, name))
    rows = []
    for key, names in symbols.items():
        known = sorted(versions.get(key, ()))
        if len(known) != len(names):
            fail(f"{key[0]}: {len(names)} exported ABIs, but cudaTypedefs.h knows {known}")
        rows += [(key[0], v, key[1], n) for v, (_, n) in zip(known, sorted(names))]
    return sorted(rows, key=lambda r: (r[0].encode(), r[2], r[1]))


def narrows(old, new):
    return len(old) == len(new) and all(
        o.type == n.type or (o.type, n.type) in WIDENS for o, n in zip(old, new))


def behaviour_of(name, prototypes, written):
    """The name whose sim_ function an exported name runs, or None."""
    base, abi, twin = split_name(name)
    plain = name[: -len(twin)] if twin else name
    if plain in written:
        return plain
    newer = plain + "_v2"
    if abi == 1 and newer in written and narrows(prototypes[plain], prototypes[newer]):
        return newer
    return None


def listing(params):
    return ", ".join(f"{p.type} {p.name}" for p in params) or "void"


def arguments(params):
    return ", ".join(p.name for p in params)


HEAD = "/* Written by generate.py from NVIDIA's headers; not a source file. */\n"


def write_api(prototypes):
    out = [HEAD, "#pragma once\n#include <cuda.h>\n"]
    for name, params in prototypes.items():
        if not split_name(name)[2]:
            out.append(f"CUresult sim_{name}({listing(params)});\n")
    return "".join(out)


def write_entries(prototypes, rows, written, quiet, errors):
    out = [HEAD, '#include "entry.h"\n#include "errors.h"\n#include "lookup.h"\n\n']
    table = []
    for index, (name, params) in enumerate(prototypes.items()):
        impl = behaviour_of(name, prototypes, written)
        base, _, twin = split_name(name)
        flags = ["API_PER_THREAD"] if twin else []
        if impl:
            flags += [f"API_{marker}" for marker in written[impl]]
            out.append(f"ENTRY({name}, {index}, {impl}, ({listing(params)}), "
                       f"({arguments(params)}))\n")
        else:
            answer = "CUDA_SUCCESS" if base in quiet else "CUDA_ERROR_NOT_SUPPORTED"
            types = [Param(p.type, p.name + " __attribute__((unused))") for p in params]
            out.append(f"ENTRY_WITHOUT_BEHAVIOUR({name}, {index}, {answer}, "
                       f"({listing(types)}))\n")
        table.append(f'    {{"{name}", "{base}", {" | ".join(flags) or "0"}}},\n')
    out += ["\nconst struct api apis[] = {\n", *table, "};\n",
            f"const unsigned api_count = {len(table)};\n",
            "\nconst struct lookup_row lookup_rows[] = {\n"]
    for base, version, twin, name in rows:
        out.append(f'    {{"{base}", {version}, {int(twin)}, (void *){name}}},\n')
    out += ["};\n", f"const unsigned lookup_row_count = {len(rows)};\n",
            "\nconst struct error_row error_rows[] = {\n"]
    out += [f'    {{{code}, "{name}"}},\n' for name, code in errors]
    out += ["};\n", f"const unsigned error_row_count = {len(errors)};\n"]
    return "".join(out)


def write_null(prototypes, rows, written):
    out = [HEAD, "#include <cuda.h>\n#include <stddef.h>\n",
           "#define EXPORT __attribute__((visibility(\"default\")))\n",
           "#define IGNORED __attribute__((unused))\n"]
    for name, params in prototypes.items():
        if name in written:
            out.append(f"EXPORT CUresult {name}({listing(params)});\n")
            continue
        types = [Param("IGNORED " + p.type, p.name) for p in params]
        out.append(f"EXPORT CUresult {name}({listing(types)}) {{ return CUDA_SUCCESS; }}\n")
    out.append("struct lookup_row { const char *base; int version; int per_thread; void *entry; };"
               "\nextern const struct lookup_row lookup_rows[];\n"
               "extern const unsigned lookup_row_count;\n"
               "const struct lookup_row lookup_rows[] = {\n")
    for base, version, twin, name in rows:
        out.append(f'    {{"{base}", {version}, {int(twin)}, (void *){name}}},\n')
    out += ["};\n", f"const unsigned lookup_row_count = {len(rows)};\n"]
    return "".join(out)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def read_behaviours(paths):
    """{name: [markers]}; a name in two files is a mistake the linker reports as well."""
    found = {}
    for path in paths:
        for markers, name in BEHAVIOUR.findall(read(path)):
            found[name] = markers.split()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--include", required=True, help="folder of cuda.h and cudaTypedefs.h")
    parser.add_argument("--preprocessed", required=True, help="output of cc -E -P on cuda.h")
    parser.add_argument("--quiet", help="file of names that succeed without doing anything")
    parser.add_argument("--product", required=True, choices=("api", "entries", "null"))
    parser.add_argument("--output", required=True)
    parser.add_argument("sources", nargs="*", help="C files that define behaviours")
    args = parser.parse_args()

    profiler = read(os.path.join(args.include, "cudaProfilerTypedefs.h"))
    typedefs = read(os.path.join(args.include, "cudaTypedefs.h")) + profiler
    preprocessed = read(args.preprocessed)
    prototypes = read_prototypes(preprocessed, profiler)
    rows = lookup_rows(prototypes, typedefs)
    if args.product == "api":
        text = write_api(prototypes)
    elif args.product == "null":
        written = set(re.findall(r"^CUresult (cu\w+)\(", "".join(map(read, args.sources)), re.M))
        text = write_null(prototypes, rows, written)
    else:
        quiet = {line for line in read(args.quiet).split("\n") if line.startswith("cu")}
        unknown = quiet - {split_name(name)[0] for name in prototypes}
        if unknown:
            fail(f"{args.quiet}: no such driver names: {', '.join(sorted(unknown))}")
        errors = ERROR.findall(preprocessed)
        text = write_entries(prototypes, rows, read_behaviours(args.sources), quiet, errors)
    with open(args.output, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
