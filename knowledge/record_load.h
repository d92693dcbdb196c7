// SPDX-License-Identifier: Apache-2.0
//
// What record.c offers the two places that find records: folders (folder.c) and the program itself
// (bundled.c).
#ifndef KNOWLEDGE_RECORD_LOAD_H
#define KNOWLEDGE_RECORD_LOAD_H

#include "record.h"

#define RECORD_BYTES (1 << 20) // of a record's file, at most; the longest bundled one has 1 % of it

// As knowledge_load_text(). Of bundled records `file` must live as long as the knowledge; of others
// it is copied.
size_t record_load(struct knowledge *knowledge, const char *file, const char *bytes, size_t length,
                   bool bundled, knowledge_complaint *function, void *context);

#endif
