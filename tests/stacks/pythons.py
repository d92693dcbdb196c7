# SPDX-License-Identifier: Apache-2.0
"""The Pythons of this machine, wherever they are.

Looked for: on the PATH, in pyenv's root, in /usr/bin, and what MEMWATCH_TEST_PYTHONS names (paths
with colons between them: for builds that nobody has installed, free-threaded or with debugging).
"""

import dataclasses
import functools
import glob
import json
import os
import pathlib
import re
import shutil
import subprocess

OLDEST, NEWEST = 8, 14  # 3.8 to 3.14

# Runs on Python 2 too.
QUERY = """
import json, platform, sys, sysconfig
get = sysconfig.get_config_var
print(json.dumps({
    "version": platform.python_version(),
    "minor": sys.version_info[1] if sys.version_info[0] == 3 else 0,
    "implementation": platform.python_implementation(),
    "free_threaded": bool(get("Py_GIL_DISABLED")),
    "debug": hasattr(sys, "gettotalrefcount"),
    "prefix": getattr(sys, "base_prefix", sys.prefix),
    "library": "%s/%s" % (get("LIBDIR"), get("INSTSONAME")) if get("Py_ENABLE_SHARED") else None,
    "static": "libpython" not in open("/proc/self/maps").read(),
}))
"""


@dataclasses.dataclass(frozen=True)
class Python:
    path: str
    version: str
    minor: int  # of 3.minor; 0 for Python 2
    implementation: str
    free_threaded: bool
    debug: bool
    prefix: str
    library: str  # where libpython is, if there is one
    static: bool  # the program does not need it

    @property
    def supported(self):
        known = OLDEST <= self.minor <= NEWEST
        return known and self.implementation == "CPython" and not self.debug

    def __str__(self):
        kind = "t" * self.free_threaded + "d" * self.debug
        name = "" if self.implementation == "CPython" else self.implementation
        return f"{name}{self.version}{kind}{'-static' * self.static}"


def candidates():
    yield from filter(None, os.environ.get("MEMWATCH_TEST_PYTHONS", "").split(":"))
    minors = range(OLDEST, NEWEST + 3)
    names = ["python3", "pypy3", *(f"python3.{minor}{t}" for minor in minors for t in ("", "t"))]
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if os.path.basename(folder) != "shims":  # pyenv's: programs that start others
            yield from (os.path.join(folder, name) for name in names)
    roots = [os.environ.get("PYENV_ROOT"), os.path.expanduser("~/.pyenv")]
    if shutil.which("pyenv"):
        done = subprocess.run(["pyenv", "root"], capture_output=True, text=True)
        roots.append(done.stdout.strip())
    for root in filter(None, roots):
        yield from sorted(glob.glob(f"{glob.escape(root)}/versions/*/bin/python"))
    yield from filter(re.compile(r"python3(\.\d+)?t?$").search, glob.glob("/usr/bin/python3*"))


def ask(path):
    """What the Python at a path says of itself, or None."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LD_PRELOAD"))}
    try:
        done = subprocess.run(
            [path, "-c", QUERY], env=environment, capture_output=True, text=True, timeout=30
        )
        return Python(path=path, **json.loads(done.stdout))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


@functools.cache
def pythons():
    """Each once, by version."""
    found = {}
    for path in candidates():
        real = os.path.realpath(path)
        if real not in found and os.access(real, os.X_OK):
            found[real] = ask(path)
    return sorted(filter(None, found.values()), key=lambda p: (p.minor, p.version, p.path))


def library_of(python):
    """The path of libpython, or None."""
    path = pathlib.Path(python.library) if python.library else None
    return path if path and path.exists() else None
