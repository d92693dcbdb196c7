// SPDX-License-Identifier: Apache-2.0
//
// The parts of `memwatch doctor`: the machine (doctor.c), a program (doctor_program.c), a Python
// (doctor_python.c), and how all print: a verdict a line.
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

// Tells about a program, argv[0], and, for the dynamic loader, its dependencies. `library` is the
// path of libmemwatch.so, "" if there is none. False: no such program.
bool doctor_program(char *const argv[], const char *library);

// A Python, or its library, by the name that every installation gives it? The X of 3.X into *minor,
// 0 = the name does not tell.
bool is_python(const char *path, unsigned *minor);

// If the program is a Python, or needs the library of one, libpython ("" = none), tells what comes
// of that. `arguments` are the program's own, or NULL where they are not Python's.
void doctor_python(const char *program, const char *libpython, char *const arguments[]);

// How often tell() was called with PROBLEM.
unsigned problems(void);

#endif
