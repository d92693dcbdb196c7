# SPDX-License-Identifier: Apache-2.0
"""Fetches the headers and the runtime library of one CUDA release from PyPI.

usage: fetch-cuda.py DESTINATION WHEEL==VERSION...

NVIDIA ships the toolkit's parts as wheels, which are zip files: no toolkit installer, no root, and
an exact version each. Only include/ and libcudart are taken out; the folders above them differ
from wheel to wheel.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

WANTED = re.compile(r"^nvidia/[^/]+/(include/.+|lib/libcudart.+)$")


def unpack(wheel, destination):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            match = WANTED.match(member.filename)
            if match and not member.is_dir():
                target = destination / match[1]
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(target, "wb") as copy:
                    shutil.copyfileobj(source, copy)


def main(destination, wheels):
    destination = pathlib.Path(destination)
    shutil.rmtree(destination, ignore_errors=True)
    with tempfile.TemporaryDirectory() as downloads:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        options = ["--no-deps", "--only-binary", ":all:", "--dest", downloads]
        if subprocess.run(pip + options + wheels).returncode != 0:
            sys.exit(f"fetch-cuda: pip could not download {' '.join(wheels)}: see its message above")
        for wheel in pathlib.Path(downloads).glob("*.whl"):
            unpack(wheel, destination)
    if not (destination / "include/cuda.h").is_file():
        sys.exit(f"fetch-cuda: {' '.join(wheels)} hold no cuda.h")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
