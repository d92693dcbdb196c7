// SPDX-License-Identifier: Apache-2.0
//
// What a number in a text counts, by the words around it: for messages that no record describes.
#ifndef KNOWLEDGE_ROLES_H
#define KNOWLEDGE_ROLES_H

#include "counters.h"

// The role of the number of `taken` bytes at `at`, ROLE_NONE if the words tell none,
// ROLE_COUNT behind "GPU", "pid" and the like. *at_least: the
// words say "more than". Cheap: only the same clause is looked at. Safe in any thread.
enum counter_role roles_guess(const char *text, size_t length, size_t at, size_t taken,
                              bool *at_least);

#endif
