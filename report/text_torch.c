// SPDX-License-Identifier: Apache-2.0
//
// PyTorch's books for people: what it has allocated of what it reserved, whether our sums agree,
// and the last request that it had to refuse. Like all of the text it is made from the JSON.
#include "emit.h"
#include "units.h"

#include <inttypes.h>
#include <string.h>

// A number of bytes, or why there is none.
static const char *known_bytes(const cJSON *object, const char *name, char out[BYTES_TEXT]) {
    if (!json_is_number(object, name)) return "?";
    return bytes_text(json_u64(object, name), out);
}

// As for the tables of memory: before Python's end freed the tensors. Where the gaps between them
// were is not known any more.
static bool print_device_at_exit(FILE *out, const cJSON *report, const cJSON *device) {
    char a[BYTES_TEXT], b[BYTES_TEXT], c[BYTES_TEXT], d[BYTES_TEXT];
    uint64_t then = json_u64(device, "allocated_bytes"),
             reserved = json_u64(device, "reserved_bytes");
    const cJSON *total;
    cJSON_ArrayForEach(total, json_get(report, "totals")) {
        const char *space = json_text(total, "space");
        if (space && !strcmp(space, "tensor") &&
            json_i64(total, "device") == json_i64(device, "device"))
            then += held_bytes(total) - json_u64(total, "live_bytes");
    }
    if (then == json_u64(device, "allocated_bytes") || then > reserved) return false;
    fprintf(out, "device %-4" PRId64 " %12s %12s %12s %12s %12s\n", json_i64(device, "device"),
            bytes_text(then, a), known_bytes(device, "allocated_peak_bytes", b),
            bytes_text(reserved, c), bytes_text(reserved - then, d), "-");
    return true;
}

static void print_device(FILE *out, const cJSON *report, const cJSON *device) {
    char a[BYTES_TEXT], b[BYTES_TEXT], c[BYTES_TEXT], d[BYTES_TEXT], e[BYTES_TEXT];
    bool totals = json_is_number(device, "allocated_bytes");
    if (!totals || !print_device_at_exit(out, report, device))
        fprintf(out, "device %-4" PRId64 " %12s %12s %12s %12s %12s\n", json_i64(device, "device"),
                known_bytes(device, totals ? "allocated_bytes" : "tensor_bytes", a),
                known_bytes(device, "allocated_peak_bytes", b),
                known_bytes(device, totals ? "reserved_bytes" : "segment_bytes", c),
                known_bytes(device, "unused_bytes", d),
                known_bytes(device, "largest_gap_bytes", e));
    if (json_u64(device, "allocated_before_bytes"))
        fprintf(out, "  %s of it before recording began: of those tensors nothing is known\n",
                bytes_text(json_u64(device, "allocated_before_bytes"), a));
    if (json_is_number(device, "drift_bytes") && json_i64(device, "drift_bytes"))
        fprintf(out, "  the tensors that were recorded sum up to %s\n",
                bytes_text(json_u64(device, "tensor_bytes"), a));
    if (totals && json_is_number(device, "segment_bytes") &&
        json_u64(device, "segment_bytes") != json_u64(device, "reserved_bytes"))
        fprintf(out, "  its segments are now %s in %" PRIu64 "\n",
                bytes_text(json_u64(device, "segment_bytes"), a), json_u64(device, "segments"));
}

void print_torch(FILE *out, const cJSON *report) {
    const cJSON *torch = json_get(report, "torch"), *devices = json_get(torch, "devices"), *device;
    if (!cJSON_GetArraySize(devices)) return;
    fprintf(out, "\n%-11s %12s %12s %12s %12s %12s\n", "PyTorch", "allocated", "at its peak",
            "reserved", "unused", "largest gap");
    cJSON_ArrayForEach(device, devices) print_device(out, report, device);
}
