// SPDX-License-Identifier: Apache-2.0
//
// The two halves of `memwatch doctor`: the machine (doctor.c) and a program (doctor_program.c), and
// how both print: a verdict a line.
#ifndef MEMWATCH_DOCTOR_H
#define MEMWATCH_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>

enum verdict {
    OK,
    NOTE,   // worth knowing: something is not seen, or is done in another way
    PROBLEM // in this way nothing will be recorded
};

// One finding on standard output, wrapped at 80 columns.
__attribute__((format(printf, 2, 3))) void tell(enum verdict verdict, const char *format, ...);

// A heading.
__attribute__((format(printf, 1, 2))) void heading(const char *format, ...);

// Runs a command with a time limit of ten seconds and takes what it writes on both outputs (cut at
// the size). The exit status as wait(2) gives it, or -1.
int capture(char *const argv[], char *out, size_t bytes);

// Tells about a program and, for the dynamic loader, its dependencies. `library` is the path of
// libmemwatch.so, "" if there is none. False: no such program.
bool doctor_program(const char *command, const char *library);

// How often tell() was called with PROBLEM.
unsigned problems(void);

#endif
