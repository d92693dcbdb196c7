# SPDX-License-Identifier: Apache-2.0
"""Companion libraries made for an installed package: the right names, and behaviour as the table
says. The package here is a small one of our own; with PyTorch they are used by tests/torch."""

import ctypes
import os
import subprocess
import sys

import pytest

import conftest

SIMGPU = conftest.BUILD / "simgpu"
GENERATE = [sys.executable, conftest.ROOT / "tests" / "simgpu" / "companions" / "generate.py",
            "--runtime", SIMGPU / "libcudart_static.a"]

# What a framework's binary imports, by companion; the version is that of the real symbols.
IMPORTS = {
    "libcublas.so.13": ("libcublas.so.13", ["cublasCreate_v2", "cublasDestroy_v2", "cublasSgemm_v2",
                                            "cublasGetVersion_v2", "cublasIsamax_v2"]),
    "libcublasLt.so.13": ("libcublasLt.so.13", ["cublasLtMatmulAlgoGetHeuristic",
                                                "cublasLtMatmulDescCreate"]),
    "libcudnn.so.9": ("libcudnn.so.9", ["cudnnGetVersion", "cudnnGetErrorString",
                                        "cudnnBackendGetAttribute", "cudnnBackendExecute"]),
    "libcusparse.so.12": ("libcusparse.so.12", ["cusparseSpMM_bufferSize", "cusparseSpMatGetSize"]),
    "libnccl.so.2": (None, ["ncclCommInitAll", "ncclCommUserRank", "ncclCommCount", "ncclAllReduce",
                            "ncclMemAlloc", "ncclGetErrorString"]),
    "libnvrtc.so.13": ("libnvrtc.so.13", ["nvrtcCreateProgram", "nvrtcDestroyProgram",
                                          "nvrtcGetLoweredName"]),
    # Needed, but nothing of it is used.
    "libcurand.so.10": (None, []),
}

METADATA = """Metadata-Version: 2.1
Name: framework
Version: 1.0
Requires-Dist: cuda-toolkit[cublas]==13.2.2; platform_system == "Linux"
Requires-Dist: nvidia-cudnn-cu13==9.26.1.51
"""


def compile_library(path, source, *options):
    path.parent.mkdir(exist_ok=True)
    file = path.with_suffix(".c")
    file.write_text(source)
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run([*compiler, "-shared", "-fPIC", file, "-o", path, *options], check=True)


@pytest.fixture(scope="module")
def companions(tmp_path_factory):
    """The folder of the companions of an installed package."""
    folder = tmp_path_factory.mktemp("companions")
    linked = []
    for soname, (version, names) in IMPORTS.items():
        script = folder / f"{soname}.map"
        script.write_text(f"{version} {{ global: *; }};" if version else "{ global: *; };")
        compile_library(folder / "real" / soname, "".join(f"int {n}(void) {{ return 0; }}" for n in names),
                        f"-Wl,-soname,{soname}", f"-Wl,--version-script={script}")
        linked.append(folder / "real" / soname)
    names = [name for _, names in IMPORTS.values() for name in names]
    calls = "".join(f"extern int {n}(void);" for n in names) + f"int (*all[])(void) = {{{','.join(names)}}};"
    compile_library(folder / "site" / "framework.so", calls, "-Wl,--no-as-needed", *linked)
    info = folder / "site" / "framework-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "RECORD").write_text("framework.so,,\n")
    subprocess.run([*GENERATE, "--output", folder / "made", "framework"], check=True,
                   env={**os.environ, "PYTHONPATH": str(folder / "site")})
    return folder / "made"


@pytest.mark.parametrize("soname", IMPORTS)
def test_a_companion_has_the_names_and_versions_that_are_imported(companions, soname):
    version, names = IMPORTS[soname]
    listing = subprocess.check_output(["nm", "-D", "--defined-only", companions / soname], text=True)
    made = {line.split()[2] for line in listing.splitlines() if line.split()[1] == "T"}
    assert made == {f"{name}@@{version}" if version else name for name in names}
    dynamic = subprocess.check_output(["readelf", "-d", companions / soname], text=True)
    assert f"soname: [{soname}]" in dynamic


@conftest.needs_plain_build  # the runtime in the libraries would ask for the sanitizer's
def test_behaviours_are_those_of_the_table(companions):
    def library(soname):
        return ctypes.CDLL(str(companions / soname))

    pointer, number, size = ctypes.c_void_p, ctypes.c_int(-1), ctypes.c_size_t(77)
    cublas = library("libcublas.so.13")
    handles = [pointer(), pointer()]
    assert [cublas.cublasCreate_v2(ctypes.byref(h)) for h in handles] == [0, 0]
    assert handles[0].value and handles[1].value and handles[0].value != handles[1].value
    assert cublas.cublasGetVersion_v2(handles[0], ctypes.byref(number)) == 0 and number.value == 130202
    assert cublas.cublasSgemm_v2(handles[0]) == 0
    assert cublas.cublasIsamax_v2(handles[0]) == 15, "the host would read what nobody computed"
    assert [cublas.cublasDestroy_v2(h) for h in handles] == [0, 0]

    heuristics = library("libcublasLt.so.13").cublasLtMatmulAlgoGetHeuristic
    result = (ctypes.c_ubyte * 96)(*[255] * 96)
    nothing = [None] * 7
    assert heuristics(*nothing, 1, result, ctypes.byref(number)) == 0
    assert bytes(result) == bytes(96) and number.value == 1

    cudnn = library("libcudnn.so.9")
    cudnn.cudnnGetVersion.restype = ctypes.c_size_t
    cudnn.cudnnGetErrorString.restype = ctypes.c_char_p
    assert cudnn.cudnnGetVersion() == 92601
    assert b"simulated" in cudnn.cudnnGetErrorString(1)
    count, workspace, plan_workspace = ctypes.c_int64(), ctypes.c_int64(), 402
    get = cudnn.cudnnBackendGetAttribute
    get.argtypes = [pointer, ctypes.c_int, ctypes.c_int, ctypes.c_int64, pointer, pointer]
    assert get(None, plan_workspace, 3, 1, ctypes.byref(count), ctypes.byref(workspace)) == 0
    assert (count.value, workspace.value) == (1, 1 << 20)
    assert cudnn.cudnnBackendExecute(None, None, None) == 0

    cusparse = library("libcusparse.so.12")
    nothing = [None] * 10
    assert cusparse.cusparseSpMM_bufferSize(*nothing, ctypes.byref(size)) == 0
    assert size.value == 1 << 16
    assert cusparse.cusparseSpMatGetSize(None, None, None, None) == 10

    nccl = library("libnccl.so.2")
    nccl.ncclGetErrorString.restype = ctypes.c_char_p
    communicators = (pointer * 3)()
    assert nccl.ncclCommInitAll(communicators, 3, None) == 0 and len(set(communicators)) == 3
    for rank, communicator in enumerate(map(pointer, communicators)):
        assert nccl.ncclCommUserRank(communicator, ctypes.byref(number)) == 0 and number.value == rank
        assert nccl.ncclCommCount(communicator, ctypes.byref(number)) == 0 and number.value == 3
    assert nccl.ncclAllReduce() == 0 and nccl.ncclMemAlloc(None, 1) == 5
    assert nccl.ncclGetErrorString(5) == b"ncclMemAlloc is not simulated"

    nvrtc = library("libnvrtc.so.13")
    program, lowered = pointer(), ctypes.c_char_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), b"", None, 0, None, None) == 0
    assert nvrtc.nvrtcGetLoweredName(program, b"kernel<int>", ctypes.byref(lowered)) == 0
    assert lowered.value == b"kernel<int>"
    assert nvrtc.nvrtcDestroyProgram(ctypes.byref(program)) == 0 and program.value is None


TAKING = """
import ctypes, sys
sys.path.insert(0, sys.argv[1])
import books

def live():
    return books.read(sys.argv[2])[0, "device"]["live"] >> 20

cublas = ctypes.CDLL(sys.argv[3])
handles = [ctypes.c_void_p(), ctypes.c_void_p()]
answers = [cublas.cublasCreate_v2(ctypes.byref(handle)) for handle in handles]
seen = [live()]
for handle in handles:
    answers.append(cublas.cublasDestroy_v2(handle))
    seen.append(live())
nccl = ctypes.CDLL(sys.argv[4])
both = (ctypes.c_void_p * 2)()
answers.append(nccl.ncclCommInitAll(both, 2, None))
seen += [books.read(sys.argv[2])[device, "device"]["live"] >> 20 for device in (0, 1)]
print(answers, seen)
"""


@conftest.needs_plain_build
def test_a_handle_takes_memory_of_the_device_by_a_runtime_inside_the_library(companions, tmp_path):
    cublas = companions / "libcublas.so.13"
    needs = subprocess.check_output(["readelf", "-d", cublas], text=True)
    assert "libcuda" not in needs, "its runtime is to be its own"
    done = subprocess.run(
        [sys.executable, "-c", TAKING, conftest.ROOT / "tests" / "simgpu", tmp_path / "books", cublas,
         companions / "libnccl.so.2"],
        env={**os.environ, "LD_LIBRARY_PATH": str(SIMGPU), "SIMGPU_BOOKS": str(tmp_path / "books")},
        capture_output=True, text=True)
    assert done.stdout == "[0, 0, 0, 0, 0] [8, 4, 0, 4, 4]\n", done.stderr


def test_a_package_without_companions_is_a_mistake(companions, tmp_path):
    done = subprocess.run([*GENERATE, "--output", tmp_path / "made", "pytest"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "pytest needs no library of behaviours.def" in done.stderr
    missing = subprocess.run([*GENERATE, "--output", tmp_path / "made", "no-such-package"],
                             capture_output=True, text=True)
    assert missing.returncode == 1 and "no-such-package is not installed" in missing.stderr
