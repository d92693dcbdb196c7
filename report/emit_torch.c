// SPDX-License-Identifier: Apache-2.0
//
// PyTorch's books beside ours in the JSON report (emit_parts.h): what it says is allocated and
// reserved, what its tensors and segments sum up to, and the requests that it had to refuse.
#include "emit_parts.h"

#include "memwatch.h"

#include <stdio.h>

static void add_optional(cJSON *object, const char *name, bool known, uint64_t value) {
    if (known)
        json_add_u64(object, name, value);
    else
        json_add_null(object, name);
}

static void add_device(cJSON *devices, const struct model *m, unsigned ordinal) {
    const struct mw_torch_device *told = &m->torch.told.device[ordinal];
    const struct torch_device *d = &m->torch.device[ordinal];
    struct held tensors = torch_tensors(m, ordinal);
    bool totals = told->known == 2;
    int64_t drift;
    cJSON *device = json_add_object(devices, NULL);
    json_add_u64(device, "device", ordinal);
    add_optional(device, "allocated_bytes", totals, told->allocated);
    add_optional(device, "allocated_peak_bytes", totals, told->allocated_peak);
    add_optional(device, "reserved_bytes", totals, told->reserved_bytes);
    add_optional(device, "reserved_peak_bytes", totals, told->reserved_peak);
    json_add_u64(device, "tensor_bytes", tensors.bytes);
    json_add_u64(device, "tensors", tensors.blocks);
    add_optional(device, "allocated_before_bytes", totals, told->before);
    add_optional(device, "segment_bytes", m->torch.segments_known, d->segment_bytes);
    add_optional(device, "segments", m->torch.segments_known, d->segments);
    bool unused = totals && told->reserved_bytes >= told->allocated;
    add_optional(device, "unused_bytes", unused, told->reserved_bytes - told->allocated);
    add_optional(device, "largest_gap_bytes", d->gap_known, d->largest_gap);
    if (torch_drift(m, ordinal, &drift))
        json_add_i64(device, "drift_bytes", drift);
    else
        json_add_null(device, "drift_bytes");
}

static void add_oom(cJSON *list, const struct model *m, const struct mw_oom *o,
                    const int *position) {
    bool totals = o->allocated != UINT64_MAX && o->reserved_bytes != UINT64_MAX;
    cJSON *oom = json_add_object(list, NULL);
    emit_time(oom, "time", m, o->when_ns);
    json_add_i64(oom, "device", o->device);
    json_add_u64(oom, "tid", o->tid);
    json_add_u64(oom, "asked_bytes", o->asked);
    add_optional(oom, "allocated_bytes", totals, o->allocated);
    add_optional(oom, "reserved_bytes", totals, o->reserved_bytes);
    json_add_u64(oom, "tensor_bytes", o->live);
    cJSON *sites = json_add_array(oom, "sites");
    for (unsigned i = 0; i < MW_OOM_SITES; i++) {
        uint32_t index = o->site[i].site;
        if (!index) continue;
        cJSON *site = json_add_object(sites, NULL);
        if (index <= m->sites && position[index - 1] >= 0)
            json_add_i64(site, "site", position[index - 1]);
        else
            json_add_null(site, "site");
        json_add_u64(site, "live_bytes", o->site[i].bytes);
    }
}

void emit_torch(cJSON *report, const struct model *m, const int *position) {
    const struct mw_torch *told = &m->torch.told;
    unsigned since = torch_since(m);
    char version[24];
    if (!m->torch.there || (!told->defined && !torch_events(m))) {
        json_add_null(report, "torch");
        return;
    }
    cJSON *torch = json_add_object(report, "torch");
    json_add_text(torch, "library", told->path);
    snprintf(version, sizeof version, "%u.%u", since / 1000, since % 1000 / 10);
    json_add_text(torch, "since", since ? version : NULL);
    json_add_text(torch, "allocator_settings", told->allocator);
    json_add_u64(torch, "events", torch_events(m));
    cJSON *devices = json_add_array(torch, "devices");
    for (unsigned i = 0; i < MW_DEVICES; i++)
        if (torch_device_known(m, i)) add_device(devices, m, i);
    json_add_u64(torch, "out_of_memory_total", told->ooms);
    cJSON *ooms = json_add_array(torch, "out_of_memory");
    for (unsigned i = 0; i < torch_ooms(m); i++) {
        const struct mw_oom *o = torch_oom(m, i);
        if (o) add_oom(ooms, m, o, position);
    }
}

void emit_torch_level(cJSON *coverage, const struct model *m) {
    char text[TORCH_TEXT];
    cJSON *level = json_add_object(coverage, "tensors");
    json_add_text(level, "state", torch_level(m, text));
    json_add_text(level, "text", text);
}
