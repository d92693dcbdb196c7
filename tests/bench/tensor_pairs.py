# SPDX-License-Identifier: Apache-2.0
"""Times the events of tensors that are allocated 20 Python frames down, as a model's layers call
one another, bare and watched in turns. Prints nanoseconds a pair of allocation and free, as JSON.

    tensor_pairs.py LIBRARY LIBC10 LIVE PAIRS TURNS
"""

import ctypes
import json
import sys

from python_walk import FRAMES, Layer

if __name__ == "__main__":
    library, libc10 = ctypes.CDLL(sys.argv[1]), sys.argv[2].encode()
    live, pairs, turns = map(int, sys.argv[3:])
    library.tensor_pairs.restype = ctypes.c_double
    library.tensor_pairs.argtypes = [ctypes.c_char_p, ctypes.c_bool, ctypes.c_size_t, ctypes.c_size_t]
    model = None
    for _ in range(FRAMES // 2):  # each has two
        model = Layer(model)
    measured = {"bare": [], "watched": []}
    for _ in range(turns):
        for side, watched in (("bare", False), ("watched", True)):
            measured[side].append(model(lambda: library.tensor_pairs(libc10, watched, live, pairs)))
    assert min(measured["bare"]) > 0, "no libc10"
    print(json.dumps(measured))
