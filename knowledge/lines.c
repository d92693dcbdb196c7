// SPDX-License-Identifier: Apache-2.0
//
// Escape sequences, cleaning, and the prefixes of log lines (lines.h).
//
// Prefixes are recognised one at a time by the rows of `items`, again and again from where the last
// one ended: launchers, collectors and loggers stack theirs in any order.
#include "lines.h"

#include <math.h>
#include <string.h>

#define ESC 0x1b
#define BEL 0x07
// Longest title or link in an escape sequence. What begins as one and is longer is taken for text.
#define STRING_MOST 1024

// ECMA-48: CSI is ESC [, parameters, intermediates, a final byte; OSC, DCS, SOS, PM and APC are
// strings up to ST (ESC \) or, as terminals have it, BEL; all others are intermediates and a final
// byte.
size_t line_escape(const char *text, size_t length) {
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 2;
    if (length < 2) return length;
    if (s[1] == '[') {
        while (i < length && s[i] >= 0x30 && s[i] <= 0x3f) i++;
        while (i < length && s[i] >= 0x20 && s[i] <= 0x2f) i++;
        return i < length && s[i] >= 0x40 && s[i] <= 0x7e ? i + 1 : i;
    }
    if (s[1] && strchr("]PX^_", s[1])) {
        for (; i < length && i < STRING_MOST && s[i] != '\n'; i++) {
            if (s[i] == BEL) return i + 1;
            if (s[i] == ESC && i + 1 < length && s[i + 1] == '\\') return i + 2;
        }
        return 2;
    }
    i = 1;
    while (i < length && s[i] >= 0x20 && s[i] <= 0x2f) i++;
    return i < length && s[i] >= 0x30 && s[i] <= 0x7e ? i + 1 : i;
}

// A line's bytes as they come: the first LINE_KEPT, and of those behind them the last LINE_TAIL.
struct kept {
    char *out, tail[LINE_TAIL]; // a ring
    size_t length;
};

static void put(struct kept *k, char c) {
    if (k->length < LINE_KEPT)
        k->out[k->length] = c;
    else
        k->tail[k->length % LINE_TAIL] = c;
    k->length++;
}

// Nothing in it that line_clean() would change, but for blanks at its end.
static bool is_clean(const char *raw, size_t length) {
    unsigned char odd = 0;
    for (size_t i = 0; i < length; i++) // without a branch: the compiler makes it one of vectors
        odd |= ((unsigned char)raw[i] < ' ') | (raw[i] == 0x7f);
    return !odd;
}

size_t line_clean(const char *raw, size_t length, char out[LINE_KEPT], bool *cut) {
    if (length <= LINE_KEPT && is_clean(raw, length)) {
        while (length && raw[length - 1] == ' ') length--;
        memcpy(out, raw, length);
        *cut = false;
        return length;
    }
    struct kept k = {.out = out};
    size_t blanks = 0;
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)raw[i];
        if (c == ESC) {
            i += line_escape(raw + i, length - i);
            continue;
        }
        i++;
        if (!c) continue;
        if (c <= ' ' || c == 0x7f) {
            blanks++; // put when something follows
            continue;
        }
        for (; blanks; blanks--) put(&k, ' ');
        put(&k, (char)c);
    }
    *cut = k.length > LINE_KEPT;
    if (!*cut) return k.length;
    // The last LINE_TAIL bytes: those that the ring has not overtaken are in `out`.
    size_t from = k.length - LINE_TAIL, in_out = from < LINE_KEPT ? LINE_KEPT - from : 0;
    memmove(out + LINE_HEAD, out + from, in_out);
    for (size_t i = in_out; i < LINE_TAIL; i++) out[LINE_HEAD + i] = k.tail[(from + i) % LINE_TAIL];
    return LINE_KEPT;
}

// ---- prefixes -------------------------------------------------------------------------------

void line_origin_init(struct line_origin *origin) {
    *origin = (struct line_origin){.rank = -1, .pid = -1, .seconds = NAN};
}

// A place in the text. Reading functions move it only if they succeed.
struct cursor {
    const char *at, *end;
};

static bool take(struct cursor *c, const char *what) {
    if (c->at == c->end || *c->at != *what) return false;
    size_t n = strlen(what);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, what, n) != 0) return false;
    c->at += n;
    return true;
}

static bool take_any(struct cursor *c, const char *set) {
    if (c->at == c->end || !*c->at || !strchr(set, *c->at)) return false;
    c->at++;
    return true;
}

static void skip_blanks(struct cursor *c) {
    while (c->at < c->end && *c->at == ' ') c->at++;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
static bool is_word(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '-' || c == '.';
}

// A number of `least` to `most` digits (at most 18).
static bool take_number(struct cursor *c, unsigned least, unsigned most, int64_t *out) {
    const char *s = c->at;
    int64_t value = 0;
    unsigned n = 0;
    while (s < c->end && is_digit(*s) && n < most) value = value * 10 + (*s++ - '0'), n++;
    if (n < least || (s < c->end && is_digit(*s))) return false;
    *out = value;
    c->at = s;
    return true;
}

static bool take_word(struct cursor *c, size_t most) {
    const char *s = c->at;
    while (s < c->end && is_word(*s)) s++;
    if (s == c->at || (size_t)(s - c->at) > most) return false;
    c->at = s;
    return true;
}

// Days from 1970-01-01 to a date of the Gregorian calendar (H. Hinnant's days_from_civil).
static int64_t days(int64_t year, int64_t month, int64_t day) {
    year -= month <= 2;
    int64_t era = year / 400, in_era = year - era * 400;
    int64_t in_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719468;
}

// hh:mm:ss, hh:mm:ss.ffffff, hh:mm:ss,fff
static bool take_clock(struct cursor *c, double *seconds) {
    struct cursor n = *c;
    int64_t h, m, s, f = 0;
    if (!take_number(&n, 2, 2, &h) || !take(&n, ":") || !take_number(&n, 2, 2, &m) ||
        !take(&n, ":") || !take_number(&n, 2, 2, &s))
        return false;
    struct cursor fraction = n;
    double scale = 1;
    if (take_any(&fraction, ".,") && take_number(&fraction, 1, 9, &f)) {
        for (const char *p = n.at + 1; p < fraction.at; p++) scale *= 10;
        n = fraction;
    }
    *seconds = (double)(h * 3600 + m * 60 + s) + (double)f / scale;
    *c = n;
    return true;
}

// 2025-06-15T12:00:00.123456Z, 2025-06-15 12:00:00,123, 2025/06/15 12:00:00, 06-15 12:00:00 (vLLM)
static bool take_date(struct cursor *c, double *seconds) {
    struct cursor n = *c;
    int64_t year = 2000, month, day, zone;
    double clock;
    struct cursor with_year = n;
    if (take_number(&with_year, 4, 4, &year) && take_any(&with_year, "-/"))
        n = with_year;
    else
        year = 2000; // a leap year, for logs that do not name it
    if (!take_number(&n, 2, 2, &month) || !take_any(&n, "-/") || !take_number(&n, 2, 2, &day) ||
        !take_any(&n, "T ") || !take_clock(&n, &clock))
        return false;
    if (!take(&n, "Z")) {
        struct cursor z = n;
        take(&z, " ");
        if (take_any(&z, "+-") && take_number(&z, 2, 4, &zone)) {
            n = z;
            if (take(&z, ":") && take_number(&z, 2, 2, &zone)) n = z;
        }
    }
    *seconds = (double)days(year, month, day) * 86400 + clock;
    *c = n;
    return true;
}

// A level's name, alone or with blanks behind it.
static bool take_level(struct cursor *c) {
    static const char *const levels[] = {"TRACE", "DEBUG", "INFO",  "NOTICE",   "WARNING",
                                         "WARN",  "ERROR", "FATAL", "CRITICAL", "SEVERE",
                                         "info",  "debug", "warn",  "error",    "fatal"};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        struct cursor n = *c;
        if (!take(&n, levels[i]) || (n.at < n.end && is_word(*n.at))) continue;
        *c = n;
        return true;
    }
    return false;
}

// file.py:123, file.cc:123:function, with a dot before the extension.
static bool take_place(struct cursor *c) {
    struct cursor n = *c;
    int64_t line;
    const char *begin = n.at;
    while (n.at < n.end && (is_word(*n.at) || *n.at == '/')) n.at++;
    if (n.at == begin || !memchr(begin, '.', (size_t)(n.at - begin)) || !take(&n, ":") ||
        !take_number(&n, 1, 7, &line))
        return false;
    if (n.at < n.end && *n.at == ':') {
        struct cursor function = n;
        function.at++;
        if (take_word(&function, 100)) n = function;
    }
    *c = n;
    return true;
}

// Most prefixes end in a blank that is theirs, or at the end of the line.
static bool blank_or_end(struct cursor *c) {
    return c->at == c->end || take(c, " ");
}

static void keep_source(struct line_origin *origin, const char *text, size_t length) {
    if (!origin || origin->source[0]) return;
    if (length >= sizeof origin->source) length = sizeof origin->source - 1;
    memcpy(origin->source, text, length);
    origin->source[length] = '\0';
}

// A time stamp, bare or in brackets, and what loggers put behind it.
static bool item_time(struct cursor *c, struct line_origin *origin) {
    double seconds;
    bool bracket = take_any(c, "[(");
    if (!take_date(c, &seconds)) return false;
    if (bracket && !take_any(c, "])")) return false;
    if (isnan(origin->seconds)) origin->seconds = seconds;
    take(c, ":");
    if (!blank_or_end(c)) return false;
    if (!take(c, "- ")) take(c, "| ");
    return true;
}

// The kernel's: [12345.678901]
static bool item_uptime(struct cursor *c, struct line_origin *origin) {
    int64_t seconds, micro;
    if (!take(c, "[")) return false;
    skip_blanks(c);
    if (!take_number(c, 1, 9, &seconds) || !take(c, ".") || !take_number(c, 6, 6, &micro) ||
        !take(c, "]"))
        return false;
    if (isnan(origin->seconds)) origin->seconds = (double)seconds + (double)micro / 1e6;
    return blank_or_end(c);
}

// Jun 15 12:00:00 node7 kernel: and ... python[123]:
static bool item_syslog(struct cursor *c, struct line_origin *origin) {
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    int64_t month = 0, day, pid;
    double clock;
    while (month < 12 && !take(c, months[month])) month++;
    if (month == 12 || !take(c, " ")) return false;
    skip_blanks(c);
    if (!take_number(c, 1, 2, &day) || !take(c, " ") || !take_clock(c, &clock) || !take(c, " "))
        return false;
    const char *host = c->at;
    if (!take_word(c, 255)) return false;
    keep_source(origin, host, (size_t)(c->at - host));
    if (isnan(origin->seconds))
        origin->seconds = (double)days(2000, month + 1, day) * 86400 + clock;
    if (!take(c, " ") || !take_word(c, 64)) return false;
    if (take(c, "[")) {
        if (!take_number(c, 1, 10, &pid) || !take(c, "]")) return false;
        if (origin->pid < 0) origin->pid = pid;
    }
    return take(c, ":") && blank_or_end(c);
}

// glog's: E0615 12:00:00.123456  4242 file.cc:123]   TensorFlow's, after its time: W file.cc:123]
static bool item_glog(struct cursor *c, struct line_origin *origin) {
    int64_t date, pid;
    double clock;
    if (!take_any(c, "IWEF")) return false;
    if (take_number(c, 4, 4, &date)) {
        if (!take(c, " ") || !take_clock(c, &clock)) return false;
        skip_blanks(c);
        if (!take_number(c, 1, 10, &pid)) return false;
        if (isnan(origin->seconds))
            origin->seconds = (double)days(2000, date / 100, date % 100) * 86400 + clock;
        if (origin->pid < 0) origin->pid = pid;
    }
    return take(c, " ") && take_place(c) && take(c, "]") && blank_or_end(c);
}

// [rank3]: (torch), [default3]: (torchrun), [Rank 3], rank3:, 3: (srun -l), [1,3]<stderr>: (mpirun)
static bool item_rank(struct cursor *c, struct line_origin *origin) {
    int64_t rank, job;
    bool bracket = take(c, "["), named = false;
    static const char *const names[] = {"rank", "Rank", "RANK", "default"};
    for (size_t i = 0; i < 4 && !named; i++) named = take(c, names[i]);
    if (named) take_any(c, " :=");
    if (!take_number(c, 1, 6, &rank)) return false;
    if (bracket && !named) {
        job = rank;
        if (!take(c, ",") || !take_number(c, 1, 6, &rank) || !take(c, "]")) return false;
        if (!take(c, "<stderr>") && !take(c, "<stdout>")) return false;
        take(c, ":");
        (void)job;
    } else if (bracket) {
        if (!take(c, "]")) return false;
        take(c, ":");
    } else if (!take(c, ":")) {
        return false;
    }
    // Without a name only what srun writes: one blank, and a rank that there may be.
    if (!bracket && !named && (c->at == c->end || *c->at != ' ')) return false;
    if (origin->rank < 0) origin->rank = (int)rank;
    take(c, " ");
    return true;
}

// docker-compose's and others': worker-1  | message
static bool item_compose(struct cursor *c, struct line_origin *origin) {
    const char *name = c->at;
    if (!take_word(c, 80)) return false;
    size_t length = (size_t)(c->at - name);
    if (!take(c, " ")) return false;
    skip_blanks(c);
    if (!take(c, "|") || !blank_or_end(c)) return false;
    keep_source(origin, name, length);
    return true;
}

// kubectl's: [pod/name/container] message
static bool item_kubectl(struct cursor *c, struct line_origin *origin) {
    if (!take(c, "[pod/")) return false;
    const char *name = c->at;
    while (c->at < c->end && (is_word(*c->at) || *c->at == '/')) c->at++;
    keep_source(origin, name, (size_t)(c->at - name));
    return take(c, "]") && blank_or_end(c);
}

// Ray's and vLLM's: (TrainWorker pid=123, ip=10.0.0.1), (Worker_TP1 pid=123), (VllmWorker rank=1 …)
static bool item_actor(struct cursor *c, struct line_origin *origin) {
    if (!take(c, "(")) return false;
    const char *close = memchr(c->at, ')', (size_t)(c->end - c->at));
    bool told = false;
    if (!close || close - c->at > 160) return false;
    for (struct cursor n = {c->at, close}; n.at < n.end; n.at++) {
        int64_t number;
        if (n.at[-1] != ' ' && n.at[-1] != '(' && n.at[-1] != ',') continue;
        if (take(&n, "pid=") && take_number(&n, 1, 10, &number)) {
            if (origin->pid < 0) origin->pid = number;
            told = true;
        } else if (take(&n, "rank=") && take_number(&n, 1, 6, &number)) {
            if (origin->rank < 0) origin->rank = (int)number;
            told = true;
        }
        if (n.at == n.end) break;
    }
    c->at = close + 1;
    return told && blank_or_end(c);
}

// ERROR:, [ERROR], ERROR -, ERROR:root:, and loguru's ERROR    | module:function:12 -
static bool item_level(struct cursor *c, struct line_origin *origin) {
    (void)origin;
    int64_t line;
    if (take(c, "[")) return take_level(c) && take(c, "]") && blank_or_end(c);
    if (!take_level(c)) return false;
    if (take(c, ":")) {
        struct cursor n = *c;
        if (take_word(&n, 100) && take(&n, ":")) *c = n;
        return true;
    }
    if (!take(c, " ")) return c->at == c->end;
    struct cursor n = *c;
    skip_blanks(&n);
    if (take(&n, "- ")) {
        *c = n;
    } else if (take(&n, "| ")) {
        *c = n;
        if (take_word(&n, 100) && take(&n, ":") && take_word(&n, 100) && take(&n, ":") &&
            take_number(&n, 1, 7, &line) && take(&n, " - "))
            *c = n;
    }
    return true;
}

// [engine.py:160], [launch.py:315:sigkill_handler], engine.py:160]
static bool item_place(struct cursor *c, struct line_origin *origin) {
    (void)origin;
    take(c, "[");
    return take_place(c) && take(c, "]") && blank_or_end(c);
}

// pytest's mark of an error, a mail's or a forum's of quoted text
static bool item_quote(struct cursor *c, struct line_origin *origin) {
    (void)origin;
    return take(c, "E  ") || take(c, "> ");
}

#define DIGITS "0123456789"

// In the order in which they are tried: "ERROR | " is loguru's, not a container's.
static const struct item {
    const char *first; // characters that it may begin with; NULL: those of words
    bool (*take)(struct cursor *, struct line_origin *);
} items[] = {
    {"[(" DIGITS, item_time}, {"[", item_uptime},         {"JFMASOND", item_syslog},
    {"IWEF", item_glog},      {"[rRd" DIGITS, item_rank}, {"[TDINWEFCSidwef", item_level},
    {NULL, item_compose},     {"[", item_kubectl},        {"(", item_actor},
    {"[", item_place},        {NULL, item_place},         {"E>", item_quote},
};
#define ITEMS (sizeof items / sizeof items[0])

static bool may_be(const struct item *item, char first) {
    return item->first ? first && strchr(item->first, first) : is_word(first) || first == '/';
}

size_t line_prefix(const char *text, size_t length, struct line_origin *origin) {
    struct line_origin unused;
    struct cursor c = {text, text + length};
    if (!origin) line_origin_init(origin = &unused);
    // Stacked prefixes are few; a bound keeps a line of nothing but prefixes from being all theirs.
    for (unsigned stacked = 0; stacked < 8 && c.at < c.end; stacked++) {
        size_t i = 0;
        for (; i < ITEMS; i++) {
            struct cursor n = c;
            struct line_origin told = *origin;
            // Blanks between prefixes (loguru, journald); before the message they stay.
            if (stacked) skip_blanks(&n);
            if (n.at == n.end || !may_be(&items[i], *n.at) || !items[i].take(&n, &told)) continue;
            *origin = told;
            c = n;
            break;
        }
        if (i == ITEMS) break;
    }
    return (size_t)(c.at - text);
}
