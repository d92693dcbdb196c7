// SPDX-License-Identifier: Apache-2.0
//
// Records in users' folders. What lies there may be anything: only regular files are opened for
// reading, without waiting (a pipe would wait), and none is read beyond the size of a record.
#define _GNU_SOURCE // asprintf
#include "record_load.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct source {
    struct knowledge *knowledge;
    const char *path;
    knowledge_complaint *complain;
    void *context;
};

static size_t refuse(const struct source *s, const char *reason) {
    if (s->complain) s->complain(s->context, s->path, 0, reason);
    return 0;
}

// The length, or -1 with errno set.
static ssize_t read_all(int fd, char *out, size_t room) {
    size_t length = 0;
    while (length < room) {
        ssize_t n = read(fd, out + length, room - length);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        if (n == 0) break;
        length += (size_t)n;
    }
    return (ssize_t)length;
}

static size_t load_file(const struct source *s, int fd) {
    size_t room = RECORD_BYTES + 1, loaded = 0; // one more shows that it is too large
    char *bytes = malloc(room);
    ssize_t length = bytes ? read_all(fd, bytes, room) : -1;
    if (!bytes)
        refuse(s, "no memory");
    else if (length < 0)
        refuse(s, strerror(errno));
    else
        loaded = record_load(s->knowledge, s->path, bytes, (size_t)length, false, s->complain,
                             s->context);
    free(bytes);
    return loaded;
}

static int is_record(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return entry->d_name[0] != '.' && dot && !strcmp(dot, ".json");
}

static size_t load_one(const struct source *s, bool folders);

static size_t load_folder(const struct source *s) {
    struct dirent **entry;
    size_t loaded = 0;
    const char *slash = s->path[strlen(s->path) - 1] == '/' ? "" : "/"; // it was opened: not ""
    int n = scandir(s->path, &entry, is_record, alphasort);
    if (n < 0) return refuse(s, strerror(errno));
    for (int i = 0; i < n; i++) {
        char *path;
        if (asprintf(&path, "%s%s%s", s->path, slash, entry[i]->d_name) >= 0) {
            struct source one = {s->knowledge, path, s->complain, s->context};
            loaded += load_one(&one, false);
            free(path);
        } else {
            refuse(s, "no memory");
        }
        free(entry[i]);
    }
    free((void *)entry);
    return loaded;
}

static size_t load_one(const struct source *s, bool folders) {
    struct stat status;
    int fd = open(s->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return refuse(s, strerror(errno));
    size_t loaded = 0;
    if (fstat(fd, &status) != 0)
        refuse(s, strerror(errno));
    else if (S_ISDIR(status.st_mode) && folders)
        loaded = load_folder(s);
    else if (!S_ISREG(status.st_mode))
        refuse(s, "is no regular file");
    else
        loaded = load_file(s, fd);
    close(fd);
    return loaded;
}

size_t knowledge_load_path(struct knowledge *knowledge, const char *path,
                           knowledge_complaint *complain, void *context) {
    struct source s = {knowledge, path, complain, context};
    return load_one(&s, true);
}
