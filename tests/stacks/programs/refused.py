# SPDX-License-Identifier: Apache-2.0
"""What an interpreter that cannot be read is told: the level, and that no frames are walked.

Runs on every Python there is.
"""

import ctypes
import os

walker = ctypes.CDLL(os.environ["WALKER"])
walker.walker_find.restype = ctypes.c_char_p
print(walker.walker_find().decode())
print("%d frames" % walker.walker_count())
