# SPDX-License-Identifier: Apache-2.0
"""The table of entry points (interpose/entrypoints.def) is what the toolkits' headers say.

A wrapper with a parameter too few or an integer too narrow would corrupt a call of the watched
program, so every row is compared with NVIDIA's own declaration of that very ABI.
"""

import os
import pathlib
import re
import shutil
import subprocess

import pytest
from conftest import BUILD, DEPS, LIBRARY, ROOT

DEF = ROOT / "interpose" / "entrypoints.def"
TORCH_DEF = ROOT / "interpose" / "torch.def"
TOOLKITS = {13: "cuda13", 12: "cuda12", 11: "cuda11"}
BY_VALUE = {"cuIpcOpenMemHandle", "cudaIpcOpenMemHandle", "cudaMalloc3D", "cudaMalloc3DArray",
            "cudaMallocMipmappedArray"}  # structs of our own by value: layout.c compares them


def include(toolkit):
    return pathlib.Path(os.environ.get(f"CUDA{toolkit}_INC", DEPS / "deps" / TOOLKITS[toolkit] / "include"))


def rows():
    """(layer, symbol, since, parameters) of every row, as the preprocessor sees them."""
    source = ("#define DRIVER(name, since, params, ...) @driver;name;since;params@\n"
              "#define RUNTIME(name, params, ...) @runtime;name;0;params@\n"
              f'#include "{DEF}"\n')
    text = subprocess.run(["cc", "-E", "-P", "-"], input=source, text=True, check=True,
                          capture_output=True).stdout
    return [tuple(part.strip() for part in row.split(";"))
            for row in re.findall(r"@([^@]*)@", text.replace("\n", " "))]


ROWS = rows()


def typedef_name(symbol, since):
    """cuMemAlloc_v2 at 3020 -> PFN_cuMemAlloc_v3020; the _ptsz twins came with CUDA 7."""
    base, twin = re.fullmatch(r"(\w+?)(?:_v\d)?(_ptsz)?", symbol).groups()
    return base, f"PFN_{base}_v{max(int(since), 7000) if twin else since}{twin or ''}"


def compile_only(source, inc, tmp_path, *flags):
    path = tmp_path / "check.c"
    path.write_text(source)
    gcc = shutil.which("gcc")
    if not gcc:
        pytest.skip("gcc is not installed: -Wcast-function-type compares the types")
    return subprocess.run([gcc, "-std=gnu17", "-fsyntax-only", "-Werror", f"-I{ROOT}/interpose",
                           "-isystem", str(inc), *flags, str(path)], capture_output=True, text=True)


def test_every_driver_row_has_the_parameters_of_the_toolkits_declaration(tmp_path):
    inc = include(13)
    lines = ['#include "cuda_abi.h"', "#include <cuda.h>", "#include <cudaTypedefs.h>"]
    for layer, symbol, since, parameters in ROWS:
        base, name = typedef_name(symbol, since)
        if layer == "driver" and base not in BY_VALUE:
            lines.append(f"mwResult (*check_{symbol}) {parameters};")
            lines.append(f"void to_{symbol}(void) {{ ({name})check_{symbol}; }}")
    result = compile_only("\n".join(lines), inc, tmp_path, "-D__CUDA_API_VERSION_INTERNAL",
                          "-Wcast-function-type", "-Wno-unused-value")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("toolkit", TOOLKITS)
def test_every_runtime_row_has_the_parameters_of_the_toolkits_declaration(toolkit, tmp_path):
    inc = include(toolkit)
    header = (inc / "cuda_runtime_api.h").read_text()
    lines = ['#include "cuda_abi.h"', "#include <cuda_runtime_api.h>"]
    for layer, symbol, _, parameters in ROWS:
        if layer != "runtime" or symbol in BY_VALUE:
            continue
        declared = symbol.removesuffix("_ptsz")
        assert re.search(rf"\b{declared}\(", header), f"{declared} is not in cuda_runtime_api.h of {toolkit}"
        lines.append(f"void to_{symbol}(void) {{ (mwResult (*) {parameters}){declared}; }}")
    result = compile_only("\n".join(lines), inc, tmp_path, "-Wcast-function-type", "-Wno-unused-value")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("toolkit", TOOLKITS)
def test_our_declarations_have_the_layout_of_the_toolkits_headers(toolkit, tmp_path):
    source = (ROOT / "tests" / "table" / "layout.c").read_text()
    result = compile_only(source, include(toolkit), tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_library_exports_exactly_the_doors_and_the_wrappers():
    """A name too many could take a symbol away from the watched program; one too few is a blind spot."""
    out = subprocess.check_output(["nm", "-D", "--defined-only", str(LIBRARY)], text=True)
    exported = {line.split()[-1] for line in out.splitlines() if line.split()[-2] != "A"}
    expected = {"dlsym", "dlopen", "dlclose", "write", "writev"}
    for layer, symbol, _, _ in ROWS:
        if layer == "driver":
            expected.add(symbol)
        else:
            expected |= {f"{symbol}@libcudart.so.11.0", f"{symbol}@libcudart.so.12",
                         f"{symbol}@@libcudart.so.13"}
    hooks = re.findall(r"^TORCH\((\w+),", TORCH_DEF.read_text(), re.MULTILINE)
    assert hooks, "torch.def has no rows: the test has lost its eyes"
    assert exported == expected | set(hooks)


def test_every_hook_of_torch_bears_the_mangled_name_of_its_parameters(tmp_path):
    """The compiler mangles the C++ declarations that PyTorch's headers had, one ABI after another."""
    source = tmp_path / "c10.cc"
    usage, refused = "reportMemoryUsageToProfiler", "reportOutOfMemoryToProfiler"
    source.write_text(f"""
        #include <cstddef>
        #include <cstdint>
        namespace c10 {{
        struct Device {{ int8_t type, index; }};
        void {usage}(void *, int64_t, Device) {{}}
        void {usage}(void *, int64_t, int64_t, int64_t, Device) {{}}
        void {usage}(void *, int64_t, size_t, size_t, Device) {{}}
        void {refused}(int64_t, int64_t, int64_t, Device) {{}}
        void {refused}(int64_t, size_t, size_t, Device) {{}}
        }}""")
    compiled = tmp_path / "c10.o"
    subprocess.check_call([os.environ.get("CXX", "c++"), "-c", str(source), "-o", str(compiled)])
    out = subprocess.check_output(["nm", "--defined-only", str(compiled)], text=True)
    mangled = {line.split()[-1] for line in out.splitlines()}
    assert set(re.findall(r"^TORCH\((\w+),", TORCH_DEF.read_text(), re.MULTILINE)) == mangled
