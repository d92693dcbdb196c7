// SPDX-License-Identifier: Apache-2.0
//
// Which messages are one failure (incidents.h).
//
// A message belongs to an incident that is near, in time if both have time stamps and else in
// lines, and speaks of the same record: its own, one that fits the same words, or one that the
// graph says follows from it. Everything else begins a new incident.
#include "incidents.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Near in time: one failure is over within this. Near in lines: a traceback with its native frames;
// eight ranks' tracebacks, one below the other, for a rank that has not said anything yet; where
// lines follow at once, time stamps do not part them (retries that wait).
#define NEAR_SECONDS    2.0
#define NEAR_LINES      60
#define NEAR_RANK_LINES 400
#define NEXT_LINES      3
// A recovery may come after all that the failing operation still printed.
#define RECOVERY_LINES   200
#define RECOVERY_SECONDS 60.0
// How many incidents are looked back at.
#define LOOK_BACK 64
// What is kept of a message.
#define TEXT_KEPT 8192

struct failed_code {
    char api[24];
    int64_t code;
    uint64_t calls;
};

struct incidents {
    const struct knowledge *knowledge;
    struct incident **list; // in the order of their first messages
    size_t count, room;
    struct failed_code *code;
    size_t codes, codes_room;
    // What incidents_ranked() returned last, and its incidents that are codes alone.
    const struct incident **ranked;
    struct incident *bare;
    uint64_t left_out;
};

struct incidents *incidents_new(const struct knowledge *knowledge) {
    struct incidents *all = calloc(1, sizeof *all);
    if (all) all->knowledge = knowledge;
    return all;
}

static void incident_free(struct incident *one) {
    if (!one) return;
    free(one->text);
    free(one->field);
    free(one->recovered_text);
    free(one);
}

void incidents_free(struct incidents *all) {
    if (!all) return;
    for (size_t i = 0; i < all->count; i++) incident_free(all->list[i]);
    free(all->list);
    free(all->code);
    free(all->ranked);
    free(all->bare);
    free(all);
}

// ---- what belongs together ------------------------------------------------------------------

static bool has_rank(const struct incident *one, int rank) {
    for (size_t i = 0; i < one->ranks; i++)
        if (one->rank[i] == rank) return true;
    return false;
}

static bool within(const struct incident *one, const struct hit *hit, uint64_t lines,
                   double seconds) {
    uint64_t apart = hit->line > one->last_line ? hit->line - one->last_line : 0;
    double later = fabs(hit->origin.seconds - one->last_seconds);
    if (isnan(later) || apart <= NEXT_LINES) return apart <= lines;
    return later <= seconds;
}

static bool near(const struct incident *one, const struct hit *hit) {
    bool other = hit->origin.rank >= 0 && !has_rank(one, hit->origin.rank);
    return within(one, hit, other ? NEAR_RANK_LINES : NEAR_LINES, NEAR_SECONDS);
}

static bool in_list(const struct incident_record *list, size_t count, const struct record *r) {
    for (size_t i = 0; i < count; i++)
        if (list[i].record == r) return true;
    return false;
}

static void add_to_list(struct incident_record *list, size_t *count, const struct record *r,
                        uint64_t line) {
    if (*count < INCIDENT_RECORDS && !in_list(list, *count, r))
        list[(*count)++] = (struct incident_record){r, line};
}

static bool names(const struct record_edges *edges, const char *id) {
    for (size_t i = 0; i < edges->count; i++)
        if (!strcmp(edges->item[i].id, id)) return true;
    return false;
}

static bool leads_to(const struct record *cause, const struct record *effect) {
    return names(&cause->leads_to, effect->id) || names(&effect->preceded_by, cause->id);
}

enum relation { UNRELATED, SAME, EFFECT, CAUSE };

// What the hits of a place are to an incident. hits[0] is the most specific.
static enum relation relation(const struct incident *one, const struct hit *hits, size_t count) {
    const struct record *r = hits[0].record;
    if (r == one->record || in_list(one->also, one->alsos, r)) return SAME;
    for (size_t i = 1; i < count; i++)
        if (hits[i].record == one->record) return SAME;
    if (in_list(one->consequence, one->consequences, r) || leads_to(one->record, r)) return EFFECT;
    return leads_to(r, one->record) ? CAUSE : UNRELATED;
}

// ---- filling in -----------------------------------------------------------------------------

static char *copied(const char *text, size_t length) {
    char *copy = malloc(length + 1);
    if (!copy) return NULL;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

static void add_rank(struct incident *one, int rank) {
    size_t i = one->ranks;
    if (rank < 0 || has_rank(one, rank) || one->ranks == INCIDENT_RANKS) return;
    for (; i && one->rank[i - 1] > rank; i--) one->rank[i] = one->rank[i - 1];
    one->rank[i] = rank;
    one->ranks++;
}

// The incident speaks of this hit's record from now on. False without memory: nothing has changed.
static bool adopt(struct incident *one, const struct hit *hit) {
    size_t length = hit->text_length < TEXT_KEPT ? hit->text_length : TEXT_KEPT;
    char *text = copied(hit->text, length);
    struct incident_field *field = calloc(hit->fields + 1, sizeof *field);
    if (!text || !field) {
        free(text);
        free(field);
        return false;
    }
    free(one->text);
    free(one->field);
    one->record = hit->record;
    one->severity = hit->record->severity;
    one->text = text;
    one->line = hit->line;
    one->offset = hit->begin;
    one->match_begin = hit->match_begin < length ? hit->match_begin : length;
    one->match_end = hit->match_end < length ? hit->match_end : length;
    one->field = field;
    one->fields = hit->fields;
    for (size_t i = 0; i < hit->fields; i++) {
        const struct hit_field *from = &hit->field[i];
        struct incident_field *to = &field[i];
        *to = (struct incident_field){
            .type = from->type, .has_number = from->has_number, .number = from->number};
        strncpy(to->name, from->name, sizeof to->name - 1);
        size_t n = from->length < sizeof to->text ? from->length : sizeof to->text - 1;
        memcpy(to->text, from->text, n);
    }
    return true;
}

static struct incident *begin(struct incidents *all, const struct hit *hit) {
    if (all->count == all->room) {
        size_t room = all->room ? 2 * all->room : 16;
        struct incident **more = realloc(all->list, room * sizeof *more);
        if (!more) return NULL;
        all->list = more;
        all->room = room;
    }
    struct incident *one = calloc(1, sizeof *one);
    if (!one || !adopt(one, hit)) {
        incident_free(one);
        return NULL;
    }
    one->evidence = EVIDENCE_TEXT;
    one->origin = hit->origin;
    one->last_seconds = NAN;
    return all->list[all->count++] = one;
}

static void recover(struct incidents *all, const struct hit *hit) {
    for (size_t i = all->count; i-- && all->count - i <= LOOK_BACK;) {
        struct incident *one = all->list[i];
        if (one->record != hit->record || !within(one, hit, RECOVERY_LINES, RECOVERY_SECONDS))
            continue;
        size_t length = hit->text_length < TEXT_KEPT ? hit->text_length : TEXT_KEPT;
        char *text = copied(hit->text, length);
        if (!text) return;
        free(one->recovered_text);
        one->recovered_text = text;
        one->recovered_line = hit->line;
        one->severity = one->record->severity > SEVERITY_WARNING ? SEVERITY_WARNING : SEVERITY_NOTE;
        return;
    }
}

// The incident that the hits of a place belong to, the latest first.
static struct incident *find(struct incidents *all, const struct hit *hits, size_t count,
                             enum relation *how) {
    bool full = all->count >= INCIDENTS_MOST;
    for (size_t i = all->count; i-- && (full || all->count - i <= LOOK_BACK);) {
        struct incident *one = all->list[i];
        *how = relation(one, hits, count);
        if (*how != UNRELATED && (near(one, hits) || (full && *how == SAME))) return one;
    }
    return NULL;
}

static void add_failure(struct incidents *all, const struct hit *hits, size_t count) {
    enum relation how = SAME;
    struct incident *one = find(all, hits, count, &how);
    if (!one && all->count < INCIDENTS_MOST) one = begin(all, hits);
    if (!one) {
        all->left_out++;
        return;
    }
    if (how == CAUSE) {
        const struct record *effect = one->record;
        uint64_t line = one->line;
        if (adopt(one, hits)) add_to_list(one->consequence, &one->consequences, effect, line);
    } else if (how == EFFECT) {
        add_to_list(one->consequence, &one->consequences, hits[0].record, hits[0].line);
        if (hits[0].record->severity > one->severity) one->severity = hits[0].record->severity;
    } else {
        for (size_t i = 0; i < count; i++)
            if (hits[i].record != one->record)
                add_to_list(one->also, &one->alsos, hits[i].record, 0);
    }
    // It failed again: it has not recovered.
    if (one->recovered_text) {
        free(one->recovered_text);
        one->recovered_text = NULL;
        one->recovered_line = 0;
        one->severity = one->record->severity;
    }
    one->count++;
    add_rank(one, hits[0].origin.rank);
    if (hits[0].last_line > one->last_line) one->last_line = hits[0].last_line;
    if (!isnan(hits[0].origin.seconds)) one->last_seconds = hits[0].origin.seconds;
}

void incidents_add(void *incidents, const struct hit *hits, size_t count) {
    struct incidents *all = incidents;
    struct hit *failure = malloc(count * sizeof *failure);
    size_t failures = 0;
    if (!failure) {
        all->left_out += count;
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (hits[i].kind == HIT_FAILURE) failure[failures++] = hits[i];
    if (failures) add_failure(all, failure, failures);
    free(failure);
    for (size_t i = 0; i < count; i++)
        if (hits[i].kind == HIT_RECOVERY) recover(all, &hits[i]);
}

// ---- codes ----------------------------------------------------------------------------------

void incidents_add_code(struct incidents *all, const char *api, int64_t code, uint64_t calls) {
    for (size_t i = 0; i < all->codes; i++)
        if (all->code[i].code == code && !strcmp(all->code[i].api, api)) {
            all->code[i].calls += calls;
            return;
        }
    if (all->codes == all->codes_room) {
        size_t room = all->codes_room ? 2 * all->codes_room : 8;
        struct failed_code *more = realloc(all->code, room * sizeof *more);
        if (!more) {
            all->left_out++;
            return;
        }
        all->code = more;
        all->codes_room = room;
    }
    struct failed_code *to = &all->code[all->codes++];
    *to = (struct failed_code){.code = code, .calls = calls};
    strncpy(to->api, api, sizeof to->api - 1);
}

// Records name a code because it may be behind their message. The one that is about the code itself
// is of the API's own family and names few others.
static bool nearer(const struct record *a, const struct record *b, const char *api) {
    bool own_a = !strncmp(api, a->domain, strlen(a->domain)) && *a->domain;
    bool own_b = !strncmp(api, b->domain, strlen(b->domain)) && *b->domain;
    if (own_a != own_b) return own_a;
    return a->codes < b->codes;
}

// Gives the code to the incidents that speak of it. False if none does.
static bool confirm(struct incidents *all, const struct failed_code *c,
                    const struct record *const *records, size_t count) {
    bool any = false;
    for (size_t i = 0; i < all->count; i++) {
        struct incident *one = all->list[i];
        bool speaks = false;
        for (size_t k = 0; k < count; k++)
            speaks |= one->record == records[k] || in_list(one->also, one->alsos, records[k]);
        if (!speaks || one->evidence & EVIDENCE_CODE) {
            any |= speaks;
            continue;
        }
        any = true;
        one->evidence |= EVIDENCE_CODE;
        memcpy(one->api, c->api, sizeof one->api);
        one->code = c->code;
        one->calls = c->calls;
    }
    return any;
}

static void from_code(struct incident *one, const struct failed_code *c,
                      const struct record *const *records, size_t count) {
    const struct record *best = records[0];
    for (size_t i = 1; i < count; i++)
        if (nearer(records[i], best, c->api)) best = records[i];
    static char nothing[] = "";
    *one = (struct incident){.record = best,
                             .evidence = EVIDENCE_CODE,
                             .severity = best->severity,
                             .text = nothing,
                             .last_seconds = NAN,
                             .code = c->code,
                             .calls = c->calls};
    line_origin_init(&one->origin);
    memcpy(one->api, c->api, sizeof one->api);
    for (size_t i = 0; i < count; i++)
        if (records[i] != best) add_to_list(one->also, &one->alsos, records[i], 0);
}

// ---- reading --------------------------------------------------------------------------------

static int by_weight(const void *a, const void *b) {
    const struct incident *x = *(const struct incident *const *)a;
    const struct incident *y = *(const struct incident *const *)b;
    if (x->severity != y->severity) return x->severity > y->severity ? -1 : 1;
    if (x->evidence != y->evidence) return x->evidence > y->evidence ? -1 : 1;
    if (x->line != y->line) return x->line < y->line ? -1 : 1;
    return strcmp(x->record->id, y->record->id);
}

const struct incident *const *incidents_ranked(struct incidents *all, size_t *count) {
    enum { MOST = 64 }; // records that name a code
    const struct record *records[MOST];
    size_t n = 0;
    *count = 0;
    free(all->ranked);
    free(all->bare);
    all->ranked = calloc(all->count + all->codes + 1, sizeof(struct incident *));
    all->bare = calloc(all->codes + 1, sizeof *all->bare);
    if (!all->ranked || !all->bare) return all->ranked;
    for (size_t i = 0; i < all->codes; i++) {
        const struct failed_code *c = &all->code[i];
        size_t found = match_code(all->knowledge, c->api, c->code, records, MOST);
        if (found > MOST) found = MOST;
        if (!found || confirm(all, c, records, found)) continue;
        from_code(&all->bare[n], c, records, found);
        all->ranked[*count] = &all->bare[n++];
        ++*count;
    }
    for (size_t i = 0; i < all->count; i++) all->ranked[(*count)++] = all->list[i];
    qsort(all->ranked, *count, sizeof(struct incident *), by_weight);
    return all->ranked;
}

size_t incidents_count(const struct incidents *all) {
    return all->count;
}

const struct incident *incidents_get(const struct incidents *all, size_t i) {
    return i < all->count ? all->list[i] : NULL;
}

uint64_t incidents_left_out(const struct incidents *all) {
    return all->left_out;
}

struct incidents *incidents_of_text(const struct knowledge *knowledge, const char *text,
                                    size_t length) {
    struct incidents *all = incidents_new(knowledge);
    struct matcher *matcher = all ? matcher_new(knowledge, incidents_add, all) : NULL;
    if (!matcher) {
        incidents_free(all);
        return NULL;
    }
    matcher_feed(matcher, text, length);
    matcher_finish(matcher);
    matcher_free(matcher);
    return all;
}
