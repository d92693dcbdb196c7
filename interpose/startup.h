// SPDX-License-Identifier: Apache-2.0
//
// Variables that the constructor writes. It runs in every process that we are preloaded into, most
// of which never see a GPU, and there each page that it is the first to touch is a page fault, a
// good part of what we cost. So they lie together, in the page that the dynamic linker has touched
// anyway.
#ifndef MEMWATCH_STARTUP_H
#define MEMWATCH_STARTUP_H

#define MW_STARTUP __attribute__((section(".data.startup")))

#endif
