// SPDX-License-Identifier: Apache-2.0
//
// The kept texts as JSON. A traceback is written line by line, in pieces; pieces that one thread
// wrote in one go, while its process held the same memory, are one message here.
#include "emit_parts.h"
#include "findings.h"
#include "memwatch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What a report lists: the last ones, since the end is what matters.
#define MESSAGES_LISTED 200u
#define BYTES_LISTED    (UINT64_C(128) << 10)

#define MESSAGE_BYTES 8192u                // of several pieces
#define PAUSE_NS      UINT64_C(1000000000) // who pauses begins another message

// Messages `first` .. `first + count - 1` of the model, as one.
struct entry {
    size_t first, count, bytes;
};

static bool belongs(const struct messages *all, const struct entry *g, size_t i) {
    const struct message *begin = &all->item[g->first], *last = &all->item[i - 1],
                         *next = &all->item[i];
    return next->tid == begin->tid && next->live_device == begin->live_device &&
           next->live_host == begin->live_host && next->when_ns - last->when_ns < PAUSE_NS &&
           !last->cut && !next->cut && g->bytes + next->bytes <= MESSAGE_BYTES;
}

static struct entry *groups_of(const struct messages *all, size_t *count) {
    struct entry *group = allocate(all->count, sizeof *group);
    *count = 0;
    for (size_t i = 0; i < all->count; i++) {
        struct entry *g = *count ? &group[*count - 1] : NULL;
        if (!g || !belongs(all, g, i)) {
            g = &group[(*count)++];
            *g = (struct entry){.first = i};
        }
        g->count++;
        g->bytes += all->item[i].bytes;
    }
    return group;
}

// The pieces' text in one, NULs replaced, since they would end it. The caller frees.
static char *text_of(const struct messages *all, const struct entry *g) {
    enum { GAP = 64 }; // for the words where bytes are missing; only a message by itself has any
    char *text = allocate(g->bytes + GAP, 1), *to = text;
    for (size_t i = g->first; i < g->first + g->count; i++) {
        const struct message *m = &all->item[i];
        memcpy(to, m->text, m->head);
        to += m->head;
        if (m->cut) to += snprintf(to, GAP, "\n[... %" PRIu32 " bytes ...]\n", m->cut);
        memcpy(to, m->text + m->head, m->bytes - m->head);
        to += m->bytes - m->head;
    }
    for (char *c = text; c < to; c++)
        if (!*c) *c = '\xff'; // which is no UTF-8 either
    return text;
}

static void add_bytes_if(cJSON *object, const char *name, uint64_t bytes) {
    if (bytes != MESSAGE_LIVE_UNKNOWN)
        json_add_u64(object, name, bytes);
    else
        json_add_null(object, name);
}

static void add_group(cJSON *list, const struct model *m, const struct entry *g) {
    const struct message *first = &m->messages.item[g->first];
    cJSON *message = json_add_object(list, NULL);
    emit_time(message, "time", m, first->when_ns);
    if (first->tid)
        json_add_u64(message, "tid", first->tid);
    else
        json_add_null(message, "tid");
    char *text = text_of(&m->messages, g);
    json_add_bytes(message, "text", text, strlen(text));
    free(text);
    json_add_u64(message, "cut_bytes", first->cut);
    add_bytes_if(message, "live_device_bytes", first->live_device);
    add_bytes_if(message, "live_pinned_bytes", first->live_host);
}

void emit_messages(cJSON *report, const struct model *m) {
    static const char *const sources[] = {
        [MESSAGES_NONE] = NULL, [MESSAGES_RING] = "library", [MESSAGES_CAPTURE] = "run"};
    const struct messages *all = &m->messages;
    size_t count;
    uint64_t bytes = 0, omitted = 0;
    struct entry *group = groups_of(all, &count);
    size_t from = count;
    while (from && count - from < MESSAGES_LISTED && bytes + group[from - 1].bytes <= BYTES_LISTED)
        bytes += group[--from].bytes;
    for (size_t i = 0; i < from; i++) omitted += group[i].bytes;
    json_add_text(report, "messages_source", sources[all->source]);
    cJSON *list = json_add_array(report, "messages");
    for (size_t i = from; i < count; i++) add_group(list, m, &group[i]);
    cJSON *rest = json_add_object(report, "messages_omitted");
    json_add_u64(rest, "bytes", omitted);
    json_add_u64(rest, "overwritten_bytes", all->missing);
    free(group);
}
