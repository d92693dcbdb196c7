// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread
//
// Captures that end otherwise than planned: by the wrong stream, by the wrong thread, before all
// that forked has joined. What is captured and what is not must stay apart all the while.
#include "hazard.h"

#include <pthread.h>
#include <string.h>

static CUstream stream[3];
static CUcontext context;

static void allocate(size_t mib, CUstream on) {
    CUdeviceptr block;
    MUST(cuMemAllocAsync(&block, mib * MIB, on));
}

static void begin(CUstream on, CUstreamCaptureMode mode) {
    MUST(cuStreamBeginCapture(on, mode));
}

static void ended_by_the_wrong_stream(void) {
    CUgraph graph;
    begin(stream[0], CU_STREAM_CAPTURE_MODE_RELAXED);
    TELL(cuStreamEndCapture(stream[1], &graph)); // captures nothing
    TELL(cuStreamEndCapture(stream[0], NULL));
    TELL(cuStreamBeginCapture(stream[0], CU_STREAM_CAPTURE_MODE_RELAXED));
    allocate(3, stream[0]);
    allocate(5, stream[1]);
    MUST(cuStreamEndCapture(stream[0], &graph));
    TELL(cuStreamEndCapture(stream[0], &graph));
    allocate(7, stream[0]);
}

static void *end_it(void *unused) {
    CUgraph graph;
    (void)unused;
    MUST(cuCtxSetCurrent(context));
    TELL(cuStreamEndCapture(stream[0], &graph));
    return NULL;
}

static void ended_by_the_wrong_thread(void) {
    pthread_t thread;
    CUgraph graph;
    begin(stream[0], CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    allocate(11, stream[0]);
    pthread_create(&thread, NULL, end_it, NULL);
    pthread_join(thread, NULL);
    allocate(13, stream[0]); // still captured
    MUST(cuStreamEndCapture(stream[0], &graph));
    allocate(17, stream[0]);
    MUST(cuGraphDestroy(graph));
}

static void never_joined(void) {
    CUevent fork;
    CUgraph graph;
    MUST(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING));
    begin(stream[0], CU_STREAM_CAPTURE_MODE_RELAXED);
    MUST(cuEventRecord(fork, stream[0]));
    MUST(cuStreamWaitEvent(stream[1], fork, 0));
    allocate(19, stream[1]);
    TELL(cuStreamEndCapture(stream[1], &graph)); // not the one it began on
    allocate(23, stream[1]);
    TELL(cuStreamEndCapture(stream[0], &graph));
    allocate(29, stream[1]);
    MUST(cuEventRecord(fork, stream[2])); // the event is an ordinary one again
    MUST(cuStreamWaitEvent(stream[1], fork, 0));
    allocate(31, stream[1]);
}

// A stream that is destroyed takes its capture with it; the next one may have its handle.
static void destroyed(void) {
    for (int i = 0; i < 3; i++) {
        CUstream passing;
        MUST(cuStreamCreate(&passing, CU_STREAM_NON_BLOCKING));
        allocate(37, passing);
        begin(passing, CU_STREAM_CAPTURE_MODE_RELAXED);
        allocate(41, passing);
        TELL(cuStreamDestroy(passing));
    }
}

int main(int argc, char **argv) {
    const char *how = argc == 2 ? argv[1] : "";
    context = hazard_use(0);
    for (int i = 0; i < 3; i++) MUST(cuStreamCreate(&stream[i], CU_STREAM_NON_BLOCKING));
    if (!strcmp(how, "wrong-stream"))
        ended_by_the_wrong_stream();
    else if (!strcmp(how, "wrong-thread"))
        ended_by_the_wrong_thread();
    else if (!strcmp(how, "never-joined"))
        never_joined();
    else if (!strcmp(how, "destroyed"))
        destroyed();
    else
        return 2;
    return 0;
}
