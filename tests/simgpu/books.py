# SPDX-License-Identifier: Apache-2.0
"""Reads the simulated GPU's books (driver/books.h); works at any moment, also after SIGKILL.

    python3 tests/simgpu/books.py FILE     prints the rows that were ever used, as JSON
"""

import json
import struct
import sys

SPACES = ("device", "managed", "pinned", "registered", "array", "physical", "mapped", "address",
          "imported", "graph", "multicast", "pool_reserved")
NUMBERS = ("live", "peak", "allocated_bytes", "allocs", "frees", "failed")
MAGIC, VERSION = b"SIMBOOKS", 1
HEADER, ROW = struct.Struct("<8sII"), struct.Struct("<iI6Q")


def read(path):
    """{(device ordinal, space name): {number name: value}}; ordinal -1 is memory of no device."""
    with open(path, "rb") as file:
        data = file.read()
    magic, version, rows = HEADER.unpack_from(data) if len(data) >= HEADER.size else (b"", 0, 0)
    if magic != MAGIC or version != VERSION:
        raise ValueError(f"{path}: not the books of this version of the simulated GPU")
    books = {}
    for index in range(rows):
        device, space, *numbers = ROW.unpack_from(data, HEADER.size + index * ROW.size)
        books[device, SPACES[space]] = dict(zip(NUMBERS, numbers))
    return books


def main(arguments):
    if len(arguments) != 1:
        sys.exit("usage: books.py FILE")
    try:
        books = read(arguments[0])
    except (OSError, ValueError) as error:
        sys.exit(f"books.py: {error}")
    used = {f"{device} {space}": row for (device, space), row in books.items() if any(row.values())}
    json.dump(used, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main(sys.argv[1:])
