// SPDX-License-Identifier: Apache-2.0
//
// The library's options, one field a row of options.def. See options.c.
#ifndef MEMWATCH_OPTIONS_H
#define MEMWATCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

// BOOL, CHOICE, MIB and COUNT are numbers, PATH a string that lives as long as the environment's.
#define BOOL(id)                                       uint64_t id;
#define MIB(id)                                        uint64_t id;
#define COUNT(most)                                    COUNT_FIELD
#define COUNT_FIELD(id)                                uint64_t id;
#define PATH(use)                                      PATH_FIELD
#define PATH_FIELD(id)                                 const char *id;
#define CHOICE(words)                                  CHOICE_FIELD
#define CHOICE_FIELD(id)                               uint64_t id;
#define OPTION(id, environment, kind, otherwise, help) kind(id)
struct mw_options {
#include "options.def"
};
#undef OPTION
#undef BOOL
#undef MIB
#undef COUNT
#undef COUNT_FIELD
#undef PATH
#undef PATH_FIELD
#undef CHOICE
#undef CHOICE_FIELD

// Reads the environment. A value that is wrong is replaced by the default and, with `complain`,
// told in one line on standard error; whether paths are usable is looked at only then.
void mw_options_read(struct mw_options *options, bool complain);

// MEMWATCH_DEEPBIND alone, without a word about wrong values.
bool mw_option_deepbind(void);
// Likewise MEMWATCH_TENSORS: an enum mw_tensors.
int mw_option_tensors(void);

#endif
