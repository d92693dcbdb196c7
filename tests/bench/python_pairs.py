# SPDX-License-Identifier: Apache-2.0
"""Pairs of allocation and free under 40 Python frames, in threads of Python's (pairs.c, as a
library). The GIL is given back meanwhile, as it is in frameworks' calls.

    python_pairs.py PAIRS.SO THREADS LIVE PAIRS REPEATS
"""

import ctypes
import sys
import threading

from python_walk import Layer

LAYERS = 20  # of two frames each


def main(library, *numbers):
    pairs = ctypes.CDLL(library)
    threads, live, each, repeats = map(int, numbers)
    pairs.pairs_set_up(threads, ctypes.c_size_t(live), ctypes.c_size_t(each), repeats)
    model = None
    for _ in range(LAYERS):
        model = Layer(model)

    def run(index):
        model(lambda: pairs.pairs_in_this_thread(index))

    others = [threading.Thread(target=run, args=(index,)) for index in range(1, threads)]
    for thread in others:
        thread.start()
    run(0)
    for thread in others:
        thread.join()
    pairs.pairs_answer()


if __name__ == "__main__":
    main(*sys.argv[1:])
