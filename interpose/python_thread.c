// SPDX-License-Identifier: Apache-2.0
//
// What Python calls the calling thread: Thread(name="loader").
//
// Up to 3.13 the kernel is not told, and the name is nothing but an attribute of an object: `_name`
// of the threading.Thread that runs here, which is the first local variable of the thread's
// outermost frame, Thread._bootstrap. So what is read are that variable, the attributes of the
// object that it names, and a string. Once a thread, at its first event.
//
// Unlike frames and code, an object's attributes may be changed by another thread meanwhile, if
// this one has given the GIL away: their memory may be freed, and be something else. So nothing is
// read that the kernel has not just said can be read, each thing is looked at for what it should
// be, and all of it is looked at twice: a name is only believed if it came the same way both times.
// What remains is that the memory is unmapped between the question and the look; the allocator of
// objects keeps such memory mapped but for whole arenas that have become empty.
#include "ledger.h"
#include "python_layout.h"
#include "stack_python.h"

// What python_offsets.def does not have, as the headers of the releases give it: f_localsplus of
// the frame, dk_nentries and dk_indices of a dictionary's keys, ht_cached_keys of a class, and
// where the values begin in struct _dictvalues. Not for free-threaded builds.
static const struct names_layout {
    uint8_t minor;
    uint16_t locals, key_count, key_indices, class_keys, values;
} layouts[] = {
    {8, 360, 32, 40, 0, 0},   {9, 360, 32, 40, 0, 0},   {10, 352, 32, 40, 0, 0},
    {11, 72, 24, 32, 872, 0}, {12, 72, 24, 32, 880, 0}, {13, 72, 24, 32, 880, 8},
};
enum {
    CLASS_SIZE = 32,  // tp_basicsize
    CLASS_DICT = 288, // tp_dictoffset
    DICT_KEYS = 32,
    DICT_VALUES = 40,
    KEYS_SIZE = 8,          // dk_size, from 3.11 dk_log2_size, dk_log2_index_bytes, dk_kind
    INLINE_VALUES = 1 << 2, // of tp_flags
    MANAGED_DICT = 1 << 4,
    MOST_KEYS = 1024,
};

// ---- reading what may go away ----------------------------------------------------------------

static const char *word_at(const char *at) {
    return mw_python_readable(at, 8) ? mw_load(at, 0) : NULL;
}

static bool is_text(const struct mw_interpreter *p, const char *object,
                    struct mw_python_string *s) {
    const struct mw_python_layout *at = &p->at;
    if ((uintptr_t)object & 7 || !mw_python_readable(object, at->string_ascii_data) ||
        mw_load(object, at->object_type) != p->string_type)
        return false;
    uint32_t state = (uint32_t)mw_load_int(object, at->string_state) >> at->string_state_shift;
    return state & MW_STRING_COMPACT && mw_python_string(at, object, s) && s->length < 65536 &&
           mw_python_readable(s->data, s->length * s->width + 1);
}

// Is it this text, or does it end with it?
static bool reads(const struct mw_interpreter *p, const char *object, const char *text,
                  bool at_end) {
    struct mw_python_string s;
    size_t n = strlen(text);
    return is_text(p, object, &s) && s.width == 1 && (at_end ? s.length >= n : s.length == n) &&
           memcmp(s.data + s.length - n, text, n) == 0;
}

// ---- attributes ------------------------------------------------------------------------------

// The names of an object's attributes, and their values if those do not stand beside the names.
struct attributes {
    const char *keys, *values;
};

static struct attributes of_dictionary(const struct names_layout *l, const char *dict) {
    if (!dict || !mw_python_readable(dict, DICT_VALUES + 8)) return (struct attributes){NULL, NULL};
    const char *values = mw_load(dict, DICT_VALUES);
    return (struct attributes){mw_load(dict, DICT_KEYS), values ? values + l->values : NULL};
}

// From 3.11 on an object has its dictionary, or what is to become one, before its first word.
static struct attributes attributes_of(const struct mw_interpreter *p, const struct names_layout *l,
                                       const char *object) {
    const struct attributes none = {NULL, NULL};
    const char *class = mw_load(object, p->at.object_type);
    if (!mw_python_readable(class, l->class_keys + 8u) ||
        !mw_python_readable(class, CLASS_DICT + 8))
        return none;
    int64_t flags = mw_load_long(class, p->at.type_flags);
    const char *keys = mw_load(class, l->class_keys);
    if (l->minor < 11) {
        int64_t at = mw_load_long(class, CLASS_DICT);
        return at > 0 && at < 4096 ? of_dictionary(l, word_at(object + at)) : none;
    }
    if (!(flags & MANAGED_DICT) || !mw_python_readable(object - 32, 32)) return none;
    const char *dict = mw_load(object - 24, 0);
    if (l->minor == 11) {
        const char *values = mw_load(object - 32, 0);
        return values ? (struct attributes){keys, values} : of_dictionary(l, dict);
    }
    if (l->minor == 12 && (uintptr_t)dict & 1) return (struct attributes){keys, dict + 1};
    if (l->minor == 13 && !dict && flags & INLINE_VALUES) {
        const char *values = object + mw_load_long(class, CLASS_SIZE);
        // The fourth byte says whether they are in use.
        bool valid = mw_python_readable(values, 8) && values[3];
        return valid ? (struct attributes){keys, values + l->values} : none;
    }
    return of_dictionary(l, dict);
}

// Keys are a hash table of indices, then the entries in the order in which they came: hash, name,
// value, from 3.11 on without the hash if all names are strings.
static const char *attribute(const struct mw_interpreter *p, const struct names_layout *l,
                             const struct attributes *a, const char *name) {
    if (!a->keys || !mw_python_readable(a->keys, l->key_indices)) return NULL;
    int64_t size = mw_load_long(a->keys, KEYS_SIZE), count = mw_load_long(a->keys, l->key_count);
    int64_t indices = size * (size <= 0xff ? 1 : size <= 0xffff ? 2 : 4), entry = 24;
    if (l->minor >= 11) {
        indices = INT64_C(1) << ((unsigned char)a->keys[KEYS_SIZE + 1] & 31);
        if (a->keys[KEYS_SIZE + 2]) entry = 16;
    }
    if (count < 0 || count > MOST_KEYS || indices < 0 || indices > 4 * MOST_KEYS) return NULL;
    const char *first = a->keys + l->key_indices + indices + (entry - 16);
    for (int64_t i = 0; i < count; i++) {
        const char *key = word_at(first + i * entry);
        if (key && reads(p, key, name, false))
            return word_at(a->values ? a->values + 8 * i : first + i * entry + 8);
    }
    return NULL;
}

// ---- the name --------------------------------------------------------------------------------

static const char *name_of(const struct mw_interpreter *p, const struct names_layout *l,
                           const char *thread) {
    struct attributes a = attributes_of(p, l, thread);
    return attribute(p, l, &a, "_name");
}

unsigned mw_python_thread_name(char *out, unsigned size) {
    const struct mw_interpreter *p;
    const char *code, *frame = mw_python_outermost(&p, &code);
    const struct names_layout *l = layouts;
    const size_t versions = sizeof layouts / sizeof layouts[0];
    *out = 0;
    if (!frame || p->at.free_threaded) return 0;
    while (l < layouts + versions && l->minor != p->at.minor) l++;
    if (l == layouts + versions) return 0;
    if (!reads(p, mw_load(code, p->at.code_name), "_bootstrap", false) ||
        !reads(p, mw_load(code, p->at.code_file), "threading.py", true))
        return 0;
    const char *thread = word_at(frame + l->locals);
    if ((uintptr_t)thread & 7 || !mw_python_readable(thread, 16)) return 0;
    struct mw_python_string s;
    const char *name = name_of(p, l, thread);
    if (!name || !is_text(p, name, &s)) return 0;
    unsigned bytes = mw_python_copy_text(&p->at, name, out, size);
    if (name_of(p, l, thread) == name && is_text(p, name, &s)) return bytes;
    *out = 0;
    return 0;
}
