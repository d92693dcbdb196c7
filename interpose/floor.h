// SPDX-License-Identifier: Apache-2.0
//
// The oldest C library that the shared object loads with: glibc 2.17, whatever it is built on.
//
// glibc 2.34 moved libpthread and libdl into libc and gave their functions new versions; a library
// built there would not load on an older system. So the old versions are asked for by name. They
// are weak, because before 2.34 a program without threads has no libpthread at all, and a preloaded
// library with an unresolved symbol would end every shell: check before use.
// tests/test_build.py compares the versions that the built library needs with the floor.
#ifndef MEMWATCH_FLOOR_H
#define MEMWATCH_FLOOR_H

#include <pthread.h>

// Not in sanitizer builds: there the runtime defines these functions itself.
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#    if defined(__x86_64__)
#        define MW_FLOOR "GLIBC_2.2.5"
#    elif defined(__aarch64__)
#        define MW_FLOOR "GLIBC_2.17"
#    endif
#endif

#ifdef MW_FLOOR
#    define MW_FLOORED(name) __asm__(".weak " #    name "\n.symver " #    name "," #    name "@" MW_FLOOR);
MW_FLOORED(pthread_key_create)
MW_FLOORED(pthread_setspecific)
MW_FLOORED(pthread_setcancelstate)
#endif

#pragma weak pthread_key_create
#pragma weak pthread_setspecific
#pragma weak pthread_setcancelstate

#endif
