// SPDX-License-Identifier: Apache-2.0
//
// Nothing, but compiled as everything is. ThreadSanitizer's runtime is set up by the first
// sanitized code of a process: where there is none, as in a shell, the first function that it
// intercepts has nowhere to go. So tests/conftest.py preloads this behind it.
