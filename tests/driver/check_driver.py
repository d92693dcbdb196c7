# SPDX-License-Identifier: Apache-2.0
"""The doors against NVIDIA's own libraries: what a program is given, with and without memwatch.
Run by tests/driver/run, which fetches the drivers."""

import os
import pathlib
import re
import subprocess

import pytest

from conftest import BUILD, DEPS, LIBRARY, clean_environment
from hazards import look_ups

DRIVERS = sorted(pathlib.Path(os.environ["DRIVERS"]).glob("*/lib/libcuda.so.1"))
PROGRAMS = BUILD / "tests" / "driver"
RUNTIMES = [
    next((DEPS / "deps" / f"cuda{major}" / "lib").glob("libcudart.so.*"))
    for major in (11, 12, 13)
]


def driver_id(path):
    return path.parent.parent.name


def run(argv, preload, **options):
    environment = clean_environment()
    environment.update(MEMWATCH_MONITOR="0", **options.pop("env", {}))
    environment["LD_PRELOAD"] = ":".join(map(str, preload))
    command = list(map(str, argv))
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, **options
    )
    assert done.returncode == 0, f"{argv} ended with {done.returncode}: {done.stderr}"
    return done


@pytest.mark.parametrize("driver", DRIVERS, ids=driver_id)
def test_every_look_up_gives_the_function_that_it_gives_without_us(driver):
    argv = [PROGRAMS / "door_lookups", driver, *look_ups.VERSIONS.split()]
    asked = "\n".join(look_ups.names_to_ask(driver)) + "\n"
    bare, seen = (run(argv, preload, input=asked).stdout for preload in ([], [LIBRARY]))
    look_ups.compare(driver, LIBRARY, bare, seen)


@pytest.mark.parametrize("driver", DRIVERS, ids=driver_id)
@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda path: path.name)
def test_a_real_runtime_starts_as_it_does_without_us(runtime, driver):
    """It fails in the same way (there is no GPU), after the same look-ups in the same order."""
    env = {"LD_LIBRARY_PATH": str(driver.parent)}
    argv = [PROGRAMS / "startup", runtime]
    plain = run(argv, [], env=env)
    alone = run(argv, [LIBRARY], env=env)
    assert alone.stdout == plain.stdout
    assert "libcudart" in plain.stderr and "libmemwatch" in alone.stderr
    counter = PROGRAMS / "libcounter.so"
    counted = run(argv, [counter], env=env)
    both = run(argv, [LIBRARY, counter], env=env)
    assert both.stdout == counted.stdout
    look_ups_made = map(int, re.findall(r"(\d+) by", counted.stdout))
    assert sum(look_ups_made) > 300, "the runtime made no look-ups: the test saw nothing"
