# SPDX-License-Identifier: Apache-2.0
"""Times walks of 20 Python frames: methods of an imported module, as a model's layers call one
another. Prints nanoseconds of processor time a walk, one number a turn, as JSON.

    python_walk.py WALKER TURNS
"""

import ctypes
import json
import sys

FRAMES = 20
WALKS = 20_000


class Layer:
    def __init__(self, inner):
        self.inner = inner

    def __call__(self, then):
        return self.forward(then)

    def forward(self, then):
        return self.inner(then) if self.inner else then()


if __name__ == "__main__":
    import python_walk  # imported code differs from a program's own in what is hashed

    walker = ctypes.CDLL(sys.argv[1])
    walker.walker_find.restype = ctypes.c_char_p
    walker.walker_time.restype = ctypes.c_double
    walker.walker_find()
    model = None
    for _ in range(FRAMES):
        model = python_walk.Layer(model)
    turns = int(sys.argv[2])
    print(json.dumps(model(lambda: [walker.walker_time(WALKS, FRAMES) for _ in range(turns)])))
