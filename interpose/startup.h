// SPDX-License-Identifier: Apache-2.0
//
// What the constructor runs and writes. It runs in every process that we are preloaded into, most
// of which never see a GPU, and there each page that it is the first to touch is a page fault, a
// good part of what we cost. So the variables lie together, in the page that the dynamic linker has
// touched anyway, and the functions beside the tables that it reads. Constants that they need are
// MW_STARTUP variables as well: all others are pages away.
#ifndef MEMWATCH_STARTUP_H
#define MEMWATCH_STARTUP_H

#define MW_STARTUP      __attribute__((section(".data.startup")))
#define MW_STARTUP_CODE __attribute__((section(".text.startup"), noinline))

#endif
