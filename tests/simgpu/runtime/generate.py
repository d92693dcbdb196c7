# SPDX-License-Identifier: Apache-2.0
"""Writes the part of the simulated runtime that follows from NVIDIA's headers alone.

The runtime exists once per CUDA release, and the releases differ in hundreds of signatures. So what
is only a matter of signatures is read from the release's own headers at build time, and nothing
generated is committed. One product per call:

  rows.h         every driver function the runtime calls, found in its sources: `DRIVER(NAME_vNNNN)`
                 and `STREAM(NAME_vNNNN)` name one function and the CUDA version that introduced its
                 ABI, as the types of cudaTypedefs.h do
  forwards.c     the functions of forward.def: their parameters go to a driver function as they are
  error_names.h  the enumerators of cudaError_t
  unsupported.c  the exported names that nothing else defines; they answer cudaErrorNotSupported
"""

import argparse
import collections
import pathlib
import re
import sys

HEAD = "/* Written by generate.py from NVIDIA's headers; not a source file. */\n"

ATTRIBUTE = re.compile(r"__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)")
PROTOTYPE = re.compile(r"extern\s+[\w\s*]+?\b(cuda[A-Z]\w*)\s*\(([^;]*?)\)\s*;")
TYPEDEF = re.compile(r"\*PFN_(cu\w+?)_v(\d+)(_pt[sd][sz])?\)\s*\((.*?)\)\s*;")
TWIN = re.compile(r"#\s*define\s+(cuda\w+)\s+__CUDART_API_(PT[SD][SZ])\((cuda\w+)\)")
RENAMED = re.compile(r"#\s*define\s+(cuda[A-Z]\w*)\s+\1_v\d+\b")
INTEROP = re.compile(r"\bCUDARTAPI\s+(cuda(?!WGL)[A-Z]\w*)\s*\(")  # WGL: on Windows only
ERROR = re.compile(r"^\s*(cuda(?:Success|Error\w+))\s*=\s*(\d+)", re.M)
USE = re.compile(r"\b(DRIVER|STREAM)\((cu\w+)_v(\d+)\)")
FORWARD = re.compile(r"(cuda\w+)\s+(cu[A-Z]\w+)(?:\s+(\d*)-(\d*))?$")

# Interfaces with other libraries, whose headers need those libraries' headers to compile.
INTEROP_HEADERS = ("cuda_gl_interop.h", "cuda_egl_interop.h", "cuda_vdpau_interop.h")

# Exported since a release, but neither declared nor renamed by its headers.
UNDECLARED = {"__cudaGetProcAddress": 13000, "cudaStreamUpdateCaptureDependencies_ptsz": 11000}

# Structures that pass by value: these cannot be cast, only their bytes read as the other type.
BY_VALUE = re.compile(r"(CUmemLocation|CUipcMemHandle|CUipcEventHandle)(_v\d+)?$")

# The first CUDA release with per-thread default streams.
PER_THREAD_SINCE = 7000

Param = collections.namedtuple("Param", "type name")
Abi = collections.namedtuple("Abi", "version params twins")


def fail(text):
    sys.exit(f"runtime/generate.py: {text}")


def read_params(text):
    text = " ".join(text.split())
    if text in ("", "void"):
        return []
    found = [re.match(r"(.*?[\s*])(\w+)$", part.strip()) for part in text.split(",")]
    if None in found:
        fail(f"parameters not understood: {text!r}")
    return [Param(" ".join(m[1].split()), m[2]) for m in found]


def takes(abi, params):
    """Whether parameters can be passed on to a driver function one by one."""
    structures = [(given.type, wanted.type) for given, wanted in zip(params, abi.params)
                  if BY_VALUE.match(wanted.type)]
    return len(params) == len(abi.params) and all(given != "int" for given, _ in structures)


class Toolkit:
    """What one release's headers say."""

    def __init__(self, include, preprocessed):
        def header(name):
            return (include / name).read_text(encoding="utf-8", errors="replace")

        text = ATTRIBUTE.sub("", preprocessed.read_text())
        api = header("cuda_runtime_api.h")
        self.release = int(re.search(r"#define\s+CUDART_VERSION\s+(\d+)", api)[1])
        self.prototypes = {m[1]: read_params(m[2]) for m in PROTOTYPE.finditer(text)}
        self.errors = ERROR.findall(text)
        # NAME or NAME_vN -> the name that a program with per-thread default streams calls.
        self.twins = {m[3]: f"{m[3]}_{m[2].lower()}" for m in TWIN.finditer(api)}
        # NAME where the header makes it NAME_vN: kept for programs built with older headers.
        old_names = set(RENAMED.findall(api))
        for m in TWIN.finditer(api):
            old_names |= {m[1], f"{m[1]}_{m[2].lower()}"}
        interop = {n for h in INTEROP_HEADERS for n in INTEROP.findall(header(h))}
        undeclared = {name for name, since in UNDECLARED.items() if since <= self.release}
        self.names = {*self.prototypes, *self.twins.values(), *old_names, *interop, *undeclared}

        self.driver = collections.defaultdict(list)
        twins = collections.defaultdict(set)
        typedefs = TYPEDEF.findall(header("cudaTypedefs.h"))
        for base, version, twin, _ in typedefs:
            if twin:
                twins[base].add(int(version))
        for base, version, twin, params in typedefs:
            if not twin:
                abi = Abi(int(version), read_params(params), sorted(twins[base]))
                self.driver[base].append(abi)

    def abi_for(self, name, base):
        """The newest ABI of a driver function with as many parameters as a runtime function."""
        if name not in self.prototypes:
            fail(f"forward.def: release {self.release} has no {name}")
        params = self.prototypes[name]
        fitting = [abi for abi in self.driver[base] if takes(abi, params)]
        if not fitting:
            fail(f"forward.def: in release {self.release} no ABI of {base} has the parameters of "
                 f"{name}")
        return max(fitting)


def read_forwards(path, toolkit):
    """(runtime name, driver name, needs a context) of each line that is for this release."""
    rows, needs_context = [], None
    major = toolkit.release // 1000
    for number, line in enumerate(path.read_text().split("\n"), 1):
        line = line.split("#")[0].strip()
        if line in ("[driver]", "[context]"):
            needs_context = line == "[context]"
        elif line:
            match = FORWARD.match(line)
            if not match or needs_context is None:
                fail(f"{path}:{number}: not understood: {line}")
            if int(match[3] or 0) <= major <= int(match[4] or 99):
                rows.append((match[1], match[2], needs_context))
    return rows


def pass_on(given, wanted):
    """How a runtime parameter becomes the driver's, and what must hold for it."""
    if BY_VALUE.match(wanted.type):
        return (f"*(const {wanted.type} *)&{given.name}",
                f"_Static_assert(sizeof({given.type}) == sizeof({wanted.type}), \"layout\");\n")
    check = ""
    if given.type.endswith("*") and wanted.type.endswith("*"):
        pointees = [t.type[:-1].strip() for t in (given, wanted)]
        if not any(re.match(r"(const )?(void|char)$", p) for p in pointees):
            check = (f"_Static_assert(sizeof({pointees[0]}) == sizeof({pointees[1]}), "
                     "\"layout\");\n")
    return f"({wanted.type}){given.name}", check


def write_forwards(toolkit, forwards):
    out = [HEAD, '#include "runtime.h"\n']
    for name, base, needs_context in forwards:
        abi, params = toolkit.abi_for(name, base), toolkit.prototypes[name]
        passed = [pass_on(*pair) for pair in zip(params, abi.params)]
        listing = ", ".join(f"{p.type} {p.name}" for p in params) or "void"
        arguments = ", ".join(argument for argument, _ in passed)
        guard = "IN_CONTEXT" if needs_context else "WITH_DRIVER"
        member = f"{base}_v{abi.version}"
        exported = [(name, 0)]
        if name in toolkit.twins:
            exported.append((toolkit.twins[name], 1))
        out += ["\n", *(check for _, check in passed)]
        for symbol, per_thread in exported:
            function = (f"cudart_driver.stream[{per_thread}].{member}" if abi.twins
                        else f"cudart_driver.{member}")
            out.append(f"cudaError_t ({symbol})({listing}) {{\n"
                       f"    return {guard}({function}({arguments}));\n}}\n")
    return "".join(out)


def write_rows(toolkit, forwards, sources):
    used = {(base, toolkit.abi_for(name, base).version): None for name, base, _ in forwards}
    for path in sources:
        for kind, base, version in USE.findall(path.read_text()):
            used[base, int(version)] = kind
    out = [HEAD]
    for (base, version), kind in sorted(used.items()):
        abi = next((a for a in toolkit.driver[base] if a.version == version), None)
        if abi is None:
            continue  # a call under #if, for a newer or older release
        if kind and (kind == "STREAM") != bool(abi.twins):
            fail(f"{base}_v{version} is called by {kind}(), but "
                 f"{'has' if abi.twins else 'has no'} twins for per-thread default streams")
        if abi.twins:
            oldest = max(version, PER_THREAD_SINCE)
            twin = min((v for v in abi.twins if v >= oldest), default=max(abi.twins))
            out.append(f"STREAM_ROW({base}, {version}, {twin})\n")
        else:
            out.append(f"DRIVER_ROW({base}, {version})\n")
    return "".join(out)


def write_error_names(toolkit):
    rows = [f'    {{{code}, "{name}"}},\n' for name, code in toolkit.errors]
    return "".join([HEAD, *rows])


def write_unsupported(toolkit, symbols):
    """symbols: the output of nm over the objects whose names are taken."""
    taken = {line.split()[2] for line in symbols.read_text().split("\n") if line.count(" ") == 2}
    # The headers' own types would ask for each signature; a caller needs only the answer, and the
    # C calling conventions let a function ignore its arguments.
    out = [HEAD, "int cudart_not_supported(void);\n"]
    out += [f"int {name}(void) {{ return cudart_not_supported(); }}\n"
            for name in sorted(toolkit.names - taken)]
    return "".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--include", required=True, type=pathlib.Path, help="the release's headers")
    parser.add_argument("--preprocessed", required=True, type=pathlib.Path,
                        help="output of cc -E -P on cuda_runtime_api.h")
    parser.add_argument("--forward", type=pathlib.Path, help="forward.def")
    parser.add_argument("--symbols", type=pathlib.Path, help="output of nm over the other objects")
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("sources", nargs="*", type=pathlib.Path,
                        help="C files that call the driver")
    args = parser.parse_args()

    toolkit = Toolkit(args.include, args.preprocessed)
    product = args.output.name
    if product == "error_names.h":
        text = write_error_names(toolkit)
    elif product == "unsupported.c":
        text = write_unsupported(toolkit, args.symbols)
    elif product == "forwards.c":
        text = write_forwards(toolkit, read_forwards(args.forward, toolkit))
    elif product == "rows.h":
        text = write_rows(toolkit, read_forwards(args.forward, toolkit), args.sources)
    else:
        fail(f"no such product: {product}")
    args.output.write_text(text)


if __name__ == "__main__":
    main()
