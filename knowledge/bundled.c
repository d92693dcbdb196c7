// SPDX-License-Identifier: Apache-2.0
//
// The records that come with the program: build.mk packs records/*.json into one file of names and
// texts, each ended by a NUL byte, which bundled.S takes into the library.
#include "record_load.h"

#include <string.h>

extern const char knowledge_bundle[], knowledge_bundle_end[];

size_t knowledge_load_bundled(struct knowledge *knowledge, knowledge_complaint *complain,
                              void *context) {
    size_t loaded = 0;
    for (const char *at = knowledge_bundle; at < knowledge_bundle_end;) {
        const char *name = at, *text = at + strlen(at) + 1;
        size_t length = strlen(text);
        loaded += record_load(knowledge, name, text, length, true, complain, context);
        at = text + length + 1;
    }
    return loaded;
}
