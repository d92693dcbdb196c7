# SPDX-License-Identifier: Apache-2.0
"""However a program comes by its GPU functions, memwatch sees each call once, and the program
behaves as it does without memwatch."""

import os
import re
import shutil
import subprocess

import pytest

import look_ups
from conftest import BUILD, DEPS, LIBRARY, MEMWATCH, ROOT, SANITIZE, SIMGPU
from conftest import clean_environment, compare_with_books, sanitizer_runtimes

HAZARDS = BUILD / "tests" / "hazards"
PLUGIN = HAZARDS / "door_plugin"
KINDS = ["linked", "dlsym", "resolver", "constructor"]

needs_plain_build = pytest.mark.skipif(
    SANITIZE != "", reason="the sanitizers' own dlopen does not allow this"
)


def plugin(kind):
    return HAZARDS / f"libdoor_{kind}.so"


def preload(*libraries):
    return {"LD_PRELOAD": ":".join(map(str, [*sanitizer_runtimes(), *libraries]))}


def device_totals(report):
    rows = [row for row in report["totals"] if row["space"] == "device"]
    return sum(row["allocations"] for row in rows), sum(row["frees"] for row in rows)


# --- plug-ins ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["local", "global"])
@pytest.mark.parametrize("kind", KINDS)
def test_plugins_are_seen_whatever_way_they_find_their_functions(run_watched, kind, mode):
    result = run_watched([PLUGIN, mode, plugin(kind)])
    assert result.returncode == 0, result.stdout + result.stderr
    report = result.report
    compare_with_books(report, result.books)
    assert device_totals(report) == (3, 1)
    assert report["coverage"]["driver"]["path"].endswith("libcuda.so.1")
    assert report["coverage"]["complete"]


def test_several_plugins_of_all_kinds_in_one_process(run_watched):
    arguments = [word for kind in KINDS for word in ("local", plugin(kind))]
    result = run_watched([PLUGIN, *arguments])
    assert result.returncode == 0, result.stdout + result.stderr
    compare_with_books(result.report, result.books)


@pytest.mark.parametrize("kind", ["linked", "dlsym", "resolver"])
def test_a_driver_that_is_unloaded_and_loaded_elsewhere_is_found_again(run_watched, kind):
    result = run_watched([PLUGIN, "reload", plugin(kind)])
    assert result.returncode == 0, result.stdout + result.stderr
    assert device_totals(result.report) == (9, 3)


@needs_plain_build
def test_a_deep_bound_plugin_is_reported_as_a_blind_spot(run_watched):
    result = run_watched([PLUGIN, "local", plugin("linked"), "deep", plugin("dlsym")])
    assert result.returncode == 0, result.stdout + result.stderr
    coverage = result.report["coverage"]
    assert coverage["deepbind"] == {"count": 1, "first": str(plugin("dlsym"))}
    assert not coverage["complete"]


@needs_plain_build
def test_a_deep_bound_plugin_is_seen_if_the_user_asks_for_it(run_watched):
    arguments = ["deep", plugin("dlsym"), "deep", plugin("linked")]
    result = run_watched([PLUGIN, *arguments], env={"MEMWATCH_DEEPBIND": "clear"})
    assert result.returncode == 0, result.stdout + result.stderr
    compare_with_books(result.report, result.books)
    assert device_totals(result.report) == (6, 2)


@needs_plain_build
def test_a_plugin_in_a_namespace_of_its_own_works_unseen(run_watched):
    result = run_watched([PLUGIN, "namespace", plugin("dlsym")])
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.reports == {}


@needs_plain_build
def test_dlopen_follows_the_callers_own_runpath(run_watched, tmp_path):
    (tmp_path / "beside").mkdir()
    outer = shutil.copy(plugin("runpath"), tmp_path)
    shutil.copy(plugin("dlsym"), tmp_path / "beside" / "libdoor_part.so")
    result = run_watched([PLUGIN, "local", outer])
    assert result.returncode == 0, result.stdout + result.stderr
    compare_with_books(result.report, result.books)


# --- others who preload ------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["before us", "behind us"])
@pytest.mark.parametrize("kind", ["linked", "dlsym", "resolver"])
def test_another_tools_wrappers_keep_their_place(run_watched, kind, order):
    tools = [plugin("foreign"), LIBRARY]
    argv = [PLUGIN, "local", plugin(kind)]
    bare = run_watched(argv, env=preload(plugin("foreign")), mode="none")
    result = run_watched(argv, env=preload(*(tools if order == "before us" else reversed(tools))))
    assert "the other tool saw" in bare.stdout
    assert (result.stdout, result.returncode) == (bare.stdout, 0)
    compare_with_books(result.report, result.books)


@pytest.mark.skipif(SANITIZE == "thread", reason="its runtime calls the wrapper before it is set up")
def test_a_wrapper_behind_us_finds_the_function_behind_itself(run_watched):
    """RTLD_NEXT means: behind the caller. We must not come to be the caller."""
    argv = [HAZARDS / "door_absent"]
    bare = run_watched(argv, env=preload(plugin("next")), mode="none")
    result = run_watched(argv, env=preload(LIBRARY, plugin("next")))
    assert f"page size and one: {os.sysconf('SC_PAGESIZE') + 1}" in bare.stdout
    assert (result.stdout, result.returncode) == (bare.stdout, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_two_copies_of_us_are_one(run_watched, tmp_path, kind):
    copy = shutil.copy(LIBRARY, tmp_path / "copy.so")
    result = run_watched([PLUGIN, "local", plugin(kind)], env=preload(LIBRARY, copy))
    assert result.returncode == 0, result.stdout + result.stderr
    compare_with_books(result.report, result.books)
    assert len(list((result.folder / "reports").glob("*.json"))) == 1


# --- look-ups ----------------------------------------------------------------------------------


def test_a_program_without_cuda_is_told_so(run_watched):
    argv = [HAZARDS / "door_absent"]
    bare, result = run_watched(argv, mode="none"), run_watched(argv)
    assert "there" in bare.stdout
    assert (result.stdout, result.returncode) == (bare.stdout, 0)
    assert result.reports == {}


def test_every_look_up_gives_the_function_that_it_gives_without_us():
    """All names, all ABIs: versions of CUDA 2 to 13, three kinds of streams, four ways to ask."""
    driver = SIMGPU / "libcuda.so.1"
    argv = [HAZARDS / "door_lookups", driver, *look_ups.VERSIONS.split()]
    asked = "\n".join(look_ups.names_to_ask(driver)) + "\n"

    def ask(**variables):
        environment = {**clean_environment(), "MEMWATCH_MONITOR": "0", **variables}
        done = subprocess.run(argv, env=environment, input=asked, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    look_ups.compare(driver, LIBRARY, ask(**preload()), ask(**preload(LIBRARY)))


def test_a_function_that_sounds_like_memory_and_is_not_watched_is_reported(run_watched):
    result = run_watched([PLUGIN, "local", plugin("unknown"), "local", plugin("linked")])
    assert result.returncode == 0, result.stdout + result.stderr
    coverage = result.report["coverage"]
    expected = {"name": "cuMemAllocOfTomorrow", "door": "dlsym", "count": 2}
    assert coverage["unwatched_lookups"] == [expected]
    assert not coverage["complete"]


def test_functions_asked_for_before_any_constructor_ran_are_watched(run_watched):
    result = run_watched([HAZARDS / "door_early"])
    assert result.returncode == 0, result.stderr
    compare_with_books(result.report, result.books)


@pytest.mark.parametrize("others", [[], ["foreign"]], ids=["alone", "another tool behind us"])
def test_threads_that_ask_for_the_first_time_at_once_are_given_the_same(run_watched, others):
    libraries = [LIBRARY, *map(plugin, others)]
    result = run_watched([HAZARDS / "door_threads"], env=preload(*libraries))
    assert result.returncode == 0, result.stdout + result.stderr
    compare_with_books(result.report, result.books)


def test_two_cuda_runtimes_in_one_process_are_kept_apart(run_watched):
    argv = [HAZARDS / "door_runtimes", plugin("runtime13")]
    bare, result = run_watched(argv, mode="none"), run_watched(argv)
    assert "last error of 12: 0, of 13: 2" in bare.stdout
    assert (result.stdout, result.returncode) == (bare.stdout, 0)
    compare_with_books(result.report, result.books)


# --- how the program was built -----------------------------------------------------------------


def compile_plugin_loader(compiler, flags, target):
    source = ROOT / "tests" / "hazards" / "door_plugin.c"
    command = [*compiler.split(), "-std=gnu17", "-O1", "-g", *flags, source, "-o", target, "-ldl"]
    subprocess.run(command, check=True)
    return target


@needs_plain_build
@pytest.mark.parametrize("sanitizer", ["address", "thread", "undefined"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_a_sanitized_program_runs_clean(run_watched, tmp_path, compiler, sanitizer):
    """A sanitizer's runtime looks up libc's functions before anything else works."""
    program = compile_plugin_loader(compiler, [f"-fsanitize={sanitizer}"], tmp_path / "program")
    # gcc's address sanitizer insists on being the first library of all.
    env = {"ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0"}
    result = run_watched([program, "local", plugin("dlsym"), "local", plugin("linked")], env=env)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Sanitizer" not in result.stderr and "runtime error" not in result.stderr
    compare_with_books(result.report, result.books)


@pytest.fixture(scope="module")
def musl(tmp_path_factory):
    """The library, the simulated GPU and the programs once more, built for musl."""
    if not shutil.which("musl-gcc"):
        pytest.skip("no musl here: run `make deps`")
    folder = tmp_path_factory.mktemp("musl")
    targets = ["libmemwatch.so", "simgpu/libcuda.so.1", "tests/hazards/door_plugin"]
    targets += [f"tests/hazards/libdoor_{kind}.so" for kind in ("linked", "dlsym", "resolver")]
    # The simulated GPU has a static recursive mutex, for which musl has no name.
    flags = "CFLAGS=-O2 -g '-DPTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP={{{PTHREAD_MUTEX_RECURSIVE}}}'"
    done = subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory", f"DEPS_DIR={DEPS}", "CC=musl-gcc", flags]
        + [f"B={folder}", *(f"{folder}/{target}" for target in targets)],
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


@needs_plain_build
@pytest.mark.parametrize("kind", ["linked", "dlsym", "resolver"])
def test_a_musl_program_is_watched(run_watched, musl, kind):
    programs = musl / "tests" / "hazards"
    # musl loads no library with fast thread-local variables, which the simulated GPU has, later on.
    env = {
        "LD_PRELOAD": f"{musl}/libmemwatch.so:{musl}/simgpu/libcuda.so.1",
        "LD_LIBRARY_PATH": musl / "simgpu",
        "MEMWATCH_PROGRAM": MEMWATCH,
    }
    argv = [programs / "door_plugin", "local", programs / f"libdoor_{kind}.so"]
    result = run_watched(argv, env=env)
    assert result.returncode == 0, result.stdout + result.stderr
    compare_with_books(result.report, result.books)


@needs_plain_build
def test_a_musl_program_runs_with_the_library_that_was_built_for_glibc(run_watched, musl):
    """A global preload also reaches the odd program that brings its own C library."""
    result = run_watched([musl / "tests" / "hazards" / "door_plugin"])
    assert (result.returncode, result.stderr) == (0, "")
