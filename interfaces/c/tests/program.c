/* What a program can do with libcma: a scenario for each argument. It ends with 0, or prints the
 * line that was not as expected. */

#define _GNU_SOURCE
#include <cma.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

#define CHECK(what)                                                                      \
    do {                                                                                 \
        if (!(what)) {                                                                   \
            fprintf(stderr, "line %d: %s; the last error is: %s\n", __LINE__, #what,     \
                    cma_last_error());                                                   \
            exit(1);                                                                     \
        }                                                                                \
    } while (0)

static const char *argument;

static struct cma_host *host_of(const char *regions, const char *map, const char *memory)
{
    struct cma_host_config config = {
        .size = sizeof config, .regions = regions, .map = map, .memory = memory,
        .allocators = "best-fit,buddy",
    };
    struct cma_host *host;
    CHECK(cma_host_open(&config, &host) == 0);
    return host;
}

static struct cma_statistics figures(struct cma_host *host, const char *region)
{
    struct cma_statistics figures = { .size = sizeof figures };
    CHECK(cma_host_statistics(host, region, &figures) == 0);
    return figures;
}

static struct cma_chunk_info place(struct cma_chunk *chunk)
{
    struct cma_chunk_info info = { .size = sizeof info };
    CHECK(cma_chunk_info(chunk, &info) == 0);
    return info;
}

/* Bytes that are written through the mapping arrive through a descriptor, and the reverse. */
static void use_memory(struct cma_chunk *chunk)
{
    struct cma_chunk_info info = place(chunk);
    void *address, *again;
    CHECK(info.has_memory == 1);
    CHECK(cma_chunk_map(chunk, &address) == 0);
    CHECK(cma_chunk_map(chunk, &again) == 0 && again == address);
    info = place(chunk);
    unsigned char *bytes = address;
    for (uint64_t at = 0; at < info.bytes; at++)
        CHECK(bytes[at] == 0);
    memset(bytes, 0x5a, info.bytes);

    int fd;
    uint64_t offset;
    CHECK(cma_chunk_descriptor(chunk, &fd, &offset) == 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    unsigned char *other =
        mmap(NULL, info.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    CHECK(other != MAP_FAILED && other != bytes);
    CHECK(other[0] == 0x5a && other[info.bytes - 1] == 0x5a);
    other[1] = 0xa5;
    CHECK(bytes[1] == 0xa5);

    /* A child has the mapping, too. */
    pid_t child = fork();
    if (child == 0) {
        bytes[2] = 0x3c;
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0 && other[2] == 0x3c);

    CHECK(cma_chunk_unmap(chunk) == 0 && cma_chunk_unmap(chunk) == 0);
    CHECK(cma_chunk_map(chunk, &address) == 0);
    CHECK(((unsigned char *)address)[1] == 0xa5);
    CHECK(munmap(other, info.bytes) == 0 && close(fd) == 0);

    uint64_t count;
    CHECK(cma_chunk_piece_count(chunk, &count) == 0 && count >= 1);
    struct cma_piece piece = { .size = sizeof piece };
    CHECK(cma_chunk_piece(chunk, 0, &piece) == 0);
    CHECK(piece.fd >= 0 && piece.bytes > 0 && close(piece.fd) == 0);
    CHECK(cma_chunk_piece(chunk, count, &piece) == -EINVAL);
}

static void host_chunk(void)
{
    struct cma_host *host = host_of("video=64M;small=1M", "codec/*=small;*=video", NULL);
    struct cma_chunk *chunk, *device_chunk;
    CHECK(cma_host_alloc(host, "camera", NULL, 3133440, 64 << 10, &chunk) == 0);
    struct cma_chunk_info info = place(chunk);
    CHECK(info.bytes == 3133440 && info.start % (64 << 10) == 0 && info.granule_bytes == 4096);
    use_memory(chunk);

    struct cma_device *device;
    CHECK(cma_device_open(host, "codec", "frame", &device) == 0);
    CHECK(cma_device_alloc(device, 1, 0, &device_chunk) == 0);
    CHECK(place(device_chunk).bytes == 4096);
    CHECK(figures(host, "small").chunks == 1 && figures(host, "small").free_bytes == MIB - 4096);

    struct cma_info all = { .size = sizeof all };
    CHECK(cma_host_info(host, "camera", NULL, &all) == 0);
    CHECK(all.regions == 1 && all.total_bytes == 64 * MIB && all.free_bytes < all.total_bytes);
    CHECK(cma_host_info_about(host, "video,small", &all) == 0);
    CHECK(all.regions == 2 && all.total_bytes == 65 * MIB);
    CHECK(cma_host_info_about(host, "none", &all) == -ENOENT);

    CHECK(cma_device_close(device) == 0);
    CHECK(cma_chunk_free(chunk) == 0 && cma_chunk_free(chunk) == -EINVAL);
    struct cma_statistics video = figures(host, "video");
    CHECK(video.chunks == 0 && video.served == 1 && video.freed == 1 && video.refused == 0);
    CHECK(video.high_water_bytes == 3133440 && video.free_bytes == 64 * MIB);
    /* Chunks outlive the handle of their host. */
    CHECK(cma_host_close(host) == 0 && cma_host_close(host) == -EINVAL);
    CHECK(place(device_chunk).bytes == 4096 && cma_chunk_free(device_chunk) == 0);
}

static void host_limits(void)
{
    struct cma_host *host = host_of("low=1M@0x40000000;high=4M@0x80000000", "*=low,high",
                                    "simulated");
    struct cma_request request = {
        .size = sizeof request, .bytes = MIB, .device = "camera", .above = 0x80000000,
    };
    struct cma_chunk *chunk, *other;
    CHECK(cma_host_allocate(host, &request, &chunk) == 0 && place(chunk).start >= 0x80000000);
    void *address;
    CHECK(place(chunk).has_memory == 0 && cma_chunk_map(chunk, &address) == -EINVAL);
    CHECK(address == NULL && strstr(cma_last_error(), "addresses alone"));
    request.above = 0;
    request.below = 0x40100000;
    CHECK(cma_host_allocate(host, &request, &other) == 0 && place(other).start == 0x40000000);
    struct cma_chunk *none = chunk;
    CHECK(cma_host_allocate(host, &request, &none) == -ENOMEM && none == NULL);
    CHECK(strstr(cma_last_error(), "low: full") && strstr(cma_last_error(), "high: no place"));
    const char *json = cma_last_error_json();
    CHECK(strstr(json, "\"call\":\"cma_host_allocate\"") && strstr(json, "\"errno\":12"));
    CHECK(strstr(json, "{\"region\":\"low\",\"reason\":\"full: 0 of 1M free\"}"));
    /* Asking again is the same text. */
    CHECK(strcmp(json, cma_last_error_json()) == 0);

    request.wait_us = 20000;
    CHECK(cma_host_allocate(host, &request, &none) == -ETIMEDOUT);
    CHECK(strstr(cma_last_error_json(), "\"region\":\"high\""));
    request = (struct cma_request){ .size = sizeof request, .bytes = 4096, .regions = "low|high",
                                    .flags = CMA_REQUEST_AT, .at = 0x80200000 };
    CHECK(cma_host_allocate(host, &request, &none) == 0 && place(none).start == 0x80200000);
    CHECK(cma_chunk_free(none) == 0 && cma_chunk_free(chunk) == 0 && cma_chunk_free(other) == 0);

    request = (struct cma_request){ .size = sizeof request, .bytes = 4096 };
    CHECK(cma_host_allocate(host, &request, &none) == -EINVAL);
    request.device = "camera";
    request.regions = "low";
    CHECK(cma_host_allocate(host, &request, &none) == -EINVAL);
    request.regions = NULL;
    request.at = 1;
    CHECK(cma_host_allocate(host, &request, &none) == -EINVAL);
    request.at = 0;
    request.flags = 1u << 31;
    CHECK(cma_host_allocate(host, &request, &none) == -EINVAL);
    request.flags = 0;
    request.boundary = 3;
    CHECK(cma_host_allocate(host, &request, &none) == -EINVAL);
    request.boundary = 0;
    request.bytes = 0;
    CHECK(cma_host_allocate(host, &request, &none) == -EINVAL);
    CHECK(cma_host_alloc(host, "", NULL, 4096, 0, &none) == -EINVAL);
    CHECK(cma_host_alloc(host, "camera", NULL, UINT64_MAX, 0, &none) == -EINVAL);
    CHECK(cma_host_alloc(host, "camera\xff", NULL, 4096, 0, &none) == -EINVAL);
    CHECK(strstr(cma_last_error(), "not UTF-8 from byte 6"));
    CHECK(cma_host_set_map(host, "codec=low") == 0);
    CHECK(cma_host_alloc(host, "camera", NULL, 4096, 0, &none) == -ENOENT);
    CHECK(cma_host_close(host) == 0);
}

static void structures(void)
{
    struct cma_host *host = host_of("video=4M", "*=video", "simulated");
    struct cma_chunk *chunk;
    /* A caller that was compiled with a longer structure. */
    struct { struct cma_request request; uint64_t later[2]; } newer = { 0 };
    newer.request.size = sizeof newer;
    newer.request.bytes = 4096;
    newer.request.device = "camera";
    CHECK(cma_host_allocate(host, &newer.request, &chunk) == 0 && cma_chunk_free(chunk) == 0);
    newer.later[1] = 1;
    CHECK(cma_host_allocate(host, &newer.request, &chunk) == -E2BIG);
    /* One with a shorter structure, at the end of the memory that it may read. */
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED && mprotect(pages + 4096, 4096, PROT_NONE) == 0);
    uint32_t least = offsetof(struct cma_request, type);
    struct cma_request older = { .size = least, .bytes = 8192, .device = "camera" };
    struct cma_request *at_the_end = (struct cma_request *)(pages + 4096 - least);
    memcpy(at_the_end, &older, least);
    CHECK(cma_host_allocate(host, at_the_end, &chunk) == 0 && place(chunk).bytes == 8192);
    CHECK(cma_chunk_free(chunk) == 0);
    newer.request.size = 4;
    CHECK(cma_host_allocate(host, &newer.request, &chunk) == -EINVAL);
    newer.request.size = UINT32_MAX;
    CHECK(cma_host_allocate(host, &newer.request, &chunk) == -E2BIG);
    CHECK(cma_host_allocate(host, NULL, &chunk) == -EINVAL);

    struct { struct cma_info info; uint64_t later; } longer = { .later = 7 };
    longer.info.size = sizeof longer;
    CHECK(cma_host_info(host, "camera", NULL, &longer.info) == 0);
    CHECK(longer.later == 0 && longer.info.total_bytes == 4 * MIB);
    struct cma_info shorter = { .size = 16, .span_bytes = 7 };
    CHECK(cma_host_info(host, "camera", NULL, &shorter) == 0);
    CHECK(shorter.regions == 1 && shorter.start != 0 && shorter.span_bytes == 7);
    CHECK(shorter.size == 16);
    CHECK(cma_host_close(host) == 0);
}

static void bad_handles(void)
{
    struct cma_host *host = host_of("video=4M", "*=video", "simulated");
    struct cma_chunk *chunk, *freed;
    CHECK(cma_host_alloc(host, "camera", NULL, 4096, 0, &freed) == 0);
    CHECK(cma_chunk_free(freed) == 0);
    CHECK(cma_host_alloc(host, "camera", NULL, 4096, 0, &chunk) == 0);
    int variable = 0, fd;
    uint64_t count;
    void *address;
    void *bad[] = { NULL, &variable, (void *)8, (void *)-1, freed, host };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct cma_chunk_info info = { .size = sizeof info };
        struct cma_piece piece = { .size = sizeof piece };
        CHECK(cma_chunk_info(bad[i], &info) == -EINVAL);
        CHECK(cma_chunk_map(bad[i], &address) == -EINVAL);
        CHECK(cma_chunk_unmap(bad[i]) == -EINVAL);
        CHECK(cma_chunk_descriptor(bad[i], &fd, NULL) == -EINVAL && fd == -1);
        CHECK(cma_chunk_piece_count(bad[i], &count) == -EINVAL);
        CHECK(cma_chunk_piece(bad[i], 0, &piece) == -EINVAL);
        CHECK(cma_chunk_free(bad[i]) == -EINVAL);
    }
    bad[5] = chunk;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct cma_request request = { .size = sizeof request, .bytes = 4096, .device = "camera" };
        struct cma_statistics statistics = { .size = sizeof statistics };
        struct cma_info info = { .size = sizeof info };
        struct cma_delivery delivery = { .size = sizeof delivery };
        struct cma_chunk *none;
        struct cma_device *device;
        struct cma_pending *pending;
        char text[9];
        CHECK(cma_host_alloc(bad[i], "camera", NULL, 4096, 0, &none) == -EINVAL && !none);
        CHECK(cma_host_allocate(bad[i], &request, &none) == -EINVAL);
        CHECK(cma_host_request(bad[i], &request, &pending) == -EINVAL && !pending);
        CHECK(cma_host_load(bad[i], "/nowhere", NULL, 0) == -EINVAL);
        CHECK(cma_host_info(bad[i], "camera", NULL, &info) == -EINVAL);
        CHECK(cma_host_info_about(bad[i], "video", &info) == -EINVAL);
        CHECK(cma_host_statistics(bad[i], "video", &statistics) == -EINVAL);
        CHECK(cma_host_set_map(bad[i], "*=video") == -EINVAL);
        CHECK(cma_host_set_allocator(bad[i], "video", "buddy") == -EINVAL);
        CHECK(cma_host_get(bad[i], "map", text, sizeof text, NULL) == -EINVAL);
        CHECK(cma_host_set(bad[i], "map", "*=video") == -EINVAL);
        CHECK(cma_device_open(bad[i], "camera", NULL, &device) == -EINVAL && !device);
        CHECK(cma_host_close(bad[i]) == -EINVAL);
        CHECK(cma_device_alloc(bad[i], 4096, 0, &none) == -EINVAL);
        CHECK(cma_device_close(bad[i]) == -EINVAL);
        CHECK(cma_pending_descriptor(bad[i], &fd) == -EINVAL);
        CHECK(cma_pending_finish(bad[i], &none) == -EINVAL);
        CHECK(cma_pending_cancel(bad[i]) == -EINVAL);
        CHECK(cma_observation_catch_up(bad[i], 0) == -EINVAL);
        CHECK(cma_observation_delivery(bad[i], &delivery) == -EINVAL);
        CHECK(cma_observation_end(bad[i]) == -EINVAL);
        CHECK(cma_client_alloc(bad[i], "camera", NULL, 4096, 0, &none) == -EINVAL);
        CHECK(cma_client_allocate(bad[i], &request, &none) == -EINVAL);
        CHECK(cma_client_request(bad[i], &request, &pending) == -EINVAL);
        CHECK(cma_client_info(bad[i], "camera", NULL, &info) == -EINVAL);
        CHECK(cma_client_info_about(bad[i], "video", &info) == -EINVAL);
        CHECK(cma_client_get(bad[i], "map", text, sizeof text, NULL) == -EINVAL);
        CHECK(cma_client_close(bad[i]) == -EINVAL);
    }
    /* Places for results. */
    CHECK(cma_host_alloc(host, "camera", NULL, 4096, 0, NULL) == -EINVAL);
    CHECK(cma_host_alloc(host, NULL, NULL, 4096, 0, &freed) == -EINVAL);
    CHECK(strcmp(cma_last_error(), "the device is NULL") == 0);
    CHECK(cma_chunk_map(chunk, NULL) == -EINVAL && cma_chunk_info(chunk, NULL) == -EINVAL);
    CHECK(cma_chunk_descriptor(chunk, NULL, NULL) == -EINVAL);
    CHECK(cma_host_open(NULL, &host) == -EINVAL && host == NULL);
    CHECK(cma_host_observe(host, NULL, NULL, NULL) == -EINVAL);
    CHECK(figures(host_of("a=1M", NULL, NULL), "a").chunks == 0);
    CHECK(cma_chunk_free(chunk) == 0);
}

static void read_attribute(struct cma_host *host, const char *path, const char *expected)
{
    char text[4096];
    size_t length;
    CHECK(cma_host_get(host, path, text, sizeof text, &length) == 0);
    CHECK(length == strlen(text));
    if (strcmp(text, expected) != 0)
        fprintf(stderr, "%s is %s", path, text);
    CHECK(strcmp(text, expected) == 0);
}

static void configuration(void)
{
    struct cma_host_config config = { .size = sizeof config, .regions = "video=4M@" };
    struct cma_host *host;
    CHECK(cma_host_open(&config, &host) == -EINVAL && host == NULL);
    CHECK(strncmp(cma_last_error(), "regions: ", 9) == 0);
    config.regions = "video=4M;audio=2M@0x40000000";
    config.map = "*";
    CHECK(cma_host_open(&config, &host) == -EINVAL);
    config.map = "*=video";
    config.banks = "3M@0x80000000";
    CHECK(cma_host_open(&config, &host) == -ENOMEM);
    CHECK(strstr(cma_last_error(), "region video: ") && strstr(cma_last_error(), "region audio: "));
    config.banks = "16M@0x40000000";
    config.memory = "rom";
    CHECK(cma_host_open(&config, &host) == -EINVAL);
    config.memory = "vidoe=memfd";
    CHECK(cma_host_open(&config, &host) == -EINVAL && strstr(cma_last_error(), "vidoe"));
    config.memory = NULL;
    config.allocators = "worst-fit";
    CHECK(cma_host_open(&config, &host) == -ENOENT);
    config.allocators = "";
    config.flags = 1;
    CHECK(cma_host_open(&config, &host) == -EINVAL);
    config.flags = 0;
    CHECK(cma_host_open(&config, &host) == 0);

    struct cma_chunk *chunk;
    CHECK(cma_host_alloc(host, "camera", NULL, 4096, 0, &chunk) == -ENOMEM);
    CHECK(strstr(cma_last_error(), "no allocator"));
    CHECK(cma_host_load(host, "/nowhere/libcma_best_fit_plugin.so", NULL, 0) == -ENOENT);
    CHECK(cma_host_load(host, "/proc/self/exe", NULL, 0) == -ENOEXEC);
    CHECK(cma_host_load(host, argument, NULL, 2) == -EINVAL);
    CHECK(cma_host_load(host, argument, "/nowhere/cma", 0) == -EIO);
    CHECK(cma_host_load(host, argument, NULL, 0) == 0);
    CHECK(cma_host_load(host, argument, NULL, 0) == -EEXIST);
    CHECK(cma_host_alloc(host, "camera", NULL, 4096, 0, &chunk) == 0);
    CHECK(cma_host_load(host, argument, NULL, CMA_LOAD_REPLACE) == 0);
    read_attribute(host, "allocators", "best-fit\n");
    CHECK(cma_host_close(host) == 0);
    CHECK(cma_chunk_free(chunk) == 0);

    config.allocators = "best-fit,buddy";
    CHECK(cma_host_open(&config, &host) == 0);
    CHECK(cma_host_alloc(host, "camera", NULL, 4096, 0, &chunk) == 0);
    uint64_t start = place(chunk).start;
    read_attribute(host, "regions/video/alloc", "best-fit\n");
    CHECK(cma_host_set_allocator(host, "video", "buddy") == 0);
    read_attribute(host, "regions/video/alloc", "buddy\n");
    CHECK(place(chunk).start == start && cma_host_set_allocator(host, "video", "b:(") == -EINVAL);
    CHECK(cma_host_set_allocator(host, "none", "buddy") == -ENOENT);
    CHECK(cma_host_set_map(host, "codec=audio") == 0);
    read_attribute(host, "map", "codec=audio\n");
    CHECK(cma_host_set_map(host, "codec=") == -EINVAL);
    read_attribute(host, "map", "codec=audio\n");
    CHECK(cma_host_set(host, "regions/audio/alloc", "buddy\n") == 0);
    CHECK(cma_host_set(host, "regions/audio/size", "1") == -EACCES);
    read_attribute(host, "", "allocators\nerrors\nmap\nwhy\nwhy.json\nregions/\n");
    char text[12];
    size_t length = 0;
    CHECK(cma_host_get(host, "map", NULL, 0, &length) == -ERANGE && length == 12);
    CHECK(cma_host_get(host, "map", text, 12, NULL) == -ERANGE);
    CHECK(cma_host_get(host, "map", NULL, 12, NULL) == -EINVAL);
    CHECK(cma_host_get(host, "nothing", text, 12, NULL) == -ENOENT);
    CHECK(cma_chunk_free(chunk) == 0 && cma_host_close(host) == 0);
}

struct counts {
    atomic_int kinds[32];
    atomic_int calls;
    atomic_ullong bytes;
    pthread_mutex_t *gate;
    struct cma_observation **ending;
};

static void count(void *context, const struct cma_event *event)
{
    struct counts *counts = context;
    if (counts->gate) {
        pthread_mutex_lock(counts->gate);
        pthread_mutex_unlock(counts->gate);
    }
    CHECK(event->size >= sizeof *event);
    counts->calls++;
    counts->kinds[event->kind & 31]++;
    if (event->kind == CMA_EVENT_PLACED) {
        counts->bytes += event->bytes;
        CHECK(strcmp(event->region, "video") == 0 && strcmp(event->device, "camera") == 0);
        CHECK(strcmp(event->type, "common") == 0 && event->regions == NULL && event->request);
    }
    if (event->kind == CMA_EVENT_REFUSED)
        CHECK(strstr(event->text, "too small") && event->last == 1 && event->bytes == 5 * MIB);
    if (event->kind == CMA_EVENT_BEGAN)
        CHECK(event->text && strcmp(event->text, "best-fit") == 0);
    if (event->kind == CMA_EVENT_FAILED)
        CHECK(event->error == ENOENT);
    if (counts->ending)
        CHECK(cma_observation_end(*counts->ending) == 0);
}

static void events(void)
{
    struct cma_host *host = host_of("video=4M", "camera=video", "simulated");
    struct counts counts = { 0 };
    struct cma_observation *observation;
    struct cma_chunk *chunk;
    CHECK(cma_host_observe(host, count, &counts, &observation) == 0);
    CHECK(cma_host_alloc(host, "camera", NULL, 8192, 0, &chunk) == 0);
    CHECK(cma_chunk_free(chunk) == 0);
    CHECK(cma_host_alloc(host, "camera", NULL, 5 * MIB, 0, &chunk) == -ENOMEM);
    CHECK(cma_host_alloc(host, "radio", NULL, 4096, 0, &chunk) == -ENOENT);
    CHECK(cma_observation_catch_up(observation, 60000) == 0);
    CHECK(counts.kinds[CMA_EVENT_BEGAN] == 1 && counts.kinds[CMA_EVENT_PLACED] == 1);
    CHECK(counts.kinds[CMA_EVENT_RELEASED] == 1 && counts.kinds[CMA_EVENT_REFUSED] == 1);
    CHECK(counts.kinds[CMA_EVENT_FAILED] == 1 && counts.bytes == 8192);
    struct cma_delivery delivery = { .size = sizeof delivery };
    CHECK(cma_observation_delivery(observation, &delivery) == 0);
    CHECK(delivery.received == 5 && delivery.missed == 0 && delivery.waiting == 0);
    CHECK(cma_observation_end(observation) == 0 && cma_observation_end(observation) == -EINVAL);
    CHECK(cma_host_alloc(host, "camera", NULL, 8192, 0, &chunk) == 0);
    CHECK(cma_chunk_free(chunk) == 0 && counts.calls == 5);

    /* A callback that blocks keeps nobody; when it ends the observation, that is its last call. */
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    struct counts blocked = { .gate = &gate, .ending = &observation };
    pthread_mutex_lock(&gate);
    CHECK(cma_host_observe(host, count, &blocked, &observation) == 0);
    for (int i = 0; i < 100; i++) {
        CHECK(cma_host_alloc(host, "camera", NULL, 8192, 0, &chunk) == 0);
        CHECK(cma_chunk_free(chunk) == 0);
    }
    CHECK(blocked.calls == 0 && cma_observation_catch_up(observation, 1) == -ETIMEDOUT);
    pthread_mutex_unlock(&gate);
    while (cma_observation_delivery(observation, &delivery) == 0)
        usleep(1000);
    usleep(20000);
    CHECK(blocked.calls == 1 && cma_host_close(host) == 0);
}

static short ready(int fd, int milliseconds)
{
    struct pollfd one = { .fd = fd, .events = POLLIN };
    int count = poll(&one, 1, milliseconds);
    CHECK(count >= 0);
    return count ? one.revents : 0;
}

static void host_pending(void)
{
    struct cma_host *host = host_of("video=4M", "*=video", "simulated");
    struct cma_request request = { .size = sizeof request, .bytes = 4 * MIB, .device = "camera" };
    struct cma_pending *pending, *second;
    struct cma_chunk *chunk, *none;
    int fd;
    /* Without a wait it is answered at once. */
    CHECK(cma_host_request(host, &request, &pending) == 0);
    CHECK(cma_pending_descriptor(pending, &fd) == 0 && ready(fd, 60000) == POLLIN);
    CHECK(cma_pending_finish(pending, &chunk) == 0 && place(chunk).bytes == 4 * MIB);
    CHECK(cma_pending_finish(pending, &none) == -EINVAL && none == NULL);
    CHECK(cma_host_request(host, &request, &pending) == 0);
    CHECK(cma_pending_finish(pending, &none) == -ENOMEM);
    /* One that waits is answered when there is room, in the order of asking. */
    request.wait_us = 3600 * (uint64_t)1000000;
    request.flags = CMA_REQUEST_SHARE;
    CHECK(cma_host_request(host, &request, &pending) == 0);
    CHECK(cma_host_request(host, &request, &second) == 0);
    CHECK(cma_pending_descriptor(pending, &fd) == 0 && ready(fd, 0) == 0);
    CHECK(cma_pending_finish(pending, &none) == -EAGAIN && figures(host, "video").waiters == 2);
    CHECK(cma_chunk_free(chunk) == 0);
    CHECK(ready(fd, 60000) == POLLIN && cma_pending_finish(pending, &chunk) == 0);
    CHECK(cma_pending_descriptor(second, &fd) == 0 && ready(fd, 0) == 0);
    /* One that is given up leaves the queue. */
    CHECK(cma_pending_cancel(second) == 0 && figures(host, "video").waiters == 0);
    /* One that waits in vain ends in time. */
    request.wait_us = 1000;
    CHECK(cma_host_request(host, &request, &pending) == 0);
    CHECK(cma_pending_descriptor(pending, &fd) == 0);
    int result = -EAGAIN;
    while (result == -EAGAIN) {
        CHECK(ready(fd, 60000) == POLLIN);
        result = cma_pending_finish(pending, &none);
    }
    CHECK(result == -ETIMEDOUT && strstr(cma_last_error_json(), "\"region\":\"video\""));
    CHECK(cma_chunk_free(chunk) == 0 && cma_host_close(host) == 0);
}

enum { THREADS = 4, ROUNDS = 2000, LIVE = 16 };

struct shared {
    struct cma_host *host;
    struct cma_client *client;
    struct cma_device *device;
    struct cma_chunk *chunk;
    atomic_int busy;
    atomic_int freed;
};

static void *allocate_and_free(void *context)
{
    struct shared *shared = context;
    struct cma_device *device;
    CHECK(cma_device_open(shared->host, "camera", NULL, &device) == 0);
    struct cma_chunk *live[LIVE] = { 0 };
    for (int round = 0; round < ROUNDS; round++) {
        int slot = round % LIVE;
        if (live[slot])
            CHECK(cma_chunk_free(live[slot]) == 0);
        if (round % 2)
            CHECK(cma_device_alloc(device, 4096, 0, &live[slot]) == 0);
        else
            CHECK(cma_host_alloc(shared->host, "codec", "frame", 4096, 0, &live[slot]) == 0);
        if (round % 100 == 0) {
            void *address;
            CHECK(cma_chunk_map(live[slot], &address) == 0);
            memcpy(address, &round, sizeof round);
        }
        /* All threads use one device and one chunk: a call fails whole, with -EBUSY, or succeeds. */
        struct cma_chunk *one;
        int result = cma_device_alloc(shared->device, 4096, 0, &one);
        CHECK(result == 0 || result == -EBUSY);
        if (result == 0)
            CHECK(cma_chunk_free(one) == 0);
        else
            shared->busy++;
        struct cma_chunk_info info = { .size = sizeof info };
        result = round < ROUNDS / 2 ? cma_chunk_info(shared->chunk, &info)
                                    : cma_chunk_free(shared->chunk);
        CHECK(result == 0 || result == -EBUSY || result == -EINVAL);
        shared->freed += round >= ROUNDS / 2 && result == 0;
        /* Errors belong to the thread. */
        if (round % 50 == 0) {
            struct cma_chunk *none;
            CHECK(cma_host_alloc(shared->host, "radio", NULL, 4096, 0, &none) == -ENOENT);
            CHECK(strstr(cma_last_error(), "radio"));
        }
    }
    for (int slot = 0; slot < LIVE; slot++)
        CHECK(cma_chunk_free(live[slot]) == 0);
    CHECK(cma_device_close(device) == 0);
    return NULL;
}

static void run_threads(void *(*work)(void *), struct shared *shared)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, shared) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

/* Requests that name one device again and again are served as the first one is: by both names
 * whole, and by the map in force. */
static void host_names(void)
{
    struct cma_host *host = host_of("a=1M;b=1M", "camera/frame=a;camera=b", NULL);
    struct cma_chunk *chunk;
    void *address;
    uint64_t in_a = 0, in_b = 0;
    for (int round = 0; round < 3 * 200; round++) {
        /* Copies, which are elsewhere each time. */
        char device[] = "camera", type[] = "frame";
        int frame = round < 200 || (round < 400 && round % 2);
        CHECK(cma_host_alloc(host, device, frame ? type : NULL, 4096, 0, &chunk) == 0);
        CHECK(cma_chunk_map(chunk, &address) == 0 && cma_chunk_free(chunk) == 0);
        frame ? in_a++ : in_b++;
        CHECK(figures(host, "a").served == in_a && figures(host, "b").served == in_b);
        if (round % 90 != 89)
            continue;
        CHECK(cma_host_alloc(host, "came", NULL, 4096, 0, &chunk) == -ENOENT && chunk == NULL);
        CHECK(cma_host_alloc(host, "camera0", NULL, 4096, 0, &chunk) == -ENOENT);
        CHECK(cma_host_alloc(host, "", NULL, 4096, 0, &chunk) == -EINVAL);
        CHECK(cma_host_alloc(host, NULL, NULL, 4096, 0, &chunk) == -EINVAL && chunk == NULL);
        CHECK(cma_host_alloc(host, "cam\xe9ra", NULL, 4096, 0, &chunk) == -EINVAL);
    }
    for (int round = 0; round < 2 * 200; round++) {
        CHECK(cma_host_alloc(host, "camera", NULL, 4096, 0, &chunk) == 0);
        CHECK(cma_chunk_free(chunk) == 0);
        if (round % 100 == 0)
            CHECK(cma_host_set_map(host, round % 200 ? "camera=b" : "camera=a") == 0);
        CHECK(cma_host_alloc(host, "camera", NULL, 4096, 0, &chunk) == 0);
        CHECK(figures(host, round % 200 < 100 ? "a" : "b").chunks == 1);
        CHECK(cma_chunk_free(chunk) == 0);
    }
    CHECK(cma_host_alloc(host, "camera", NULL, 2 * MIB, 0, &chunk) == -ENOMEM);
    CHECK(strstr(cma_last_error_json(), "\"region\":\"b\""));
    CHECK(cma_host_close(host) == 0);
    CHECK(cma_host_alloc(host, "camera", NULL, 4096, 0, &chunk) == -EINVAL && chunk == NULL);
}

static void host_threads(void)
{
    struct shared shared = { .host = host_of("video=64M", "camera,codec=video", NULL) };
    CHECK(cma_device_open(shared.host, "camera", NULL, &shared.device) == 0);
    CHECK(cma_host_alloc(shared.host, "camera", NULL, 4096, 0, &shared.chunk) == 0);
    run_threads(allocate_and_free, &shared);
    CHECK(shared.freed == 1);
    struct cma_statistics video = figures(shared.host, "video");
    CHECK(video.chunks == 0 && video.free_bytes == 64 * MIB && video.served == video.freed);
    CHECK(video.served == 1 + 2ul * THREADS * ROUNDS - (uint64_t)shared.busy);
    CHECK(cma_device_close(shared.device) == 0 && cma_host_close(shared.host) == 0);
}

/* A descriptor for each piece, in huge pages of a host of one's own. */
static void host_huge(void)
{
    struct cma_host *host = host_of("video=8M", "*=video", "hugetlb");
    struct cma_request request = {
        .size = sizeof request, .bytes = 3 * MIB, .device = "camera", .flags = CMA_REQUEST_SHARE,
    };
    struct cma_chunk *chunk, *small;
    CHECK(cma_host_allocate(host, &request, &chunk) == 0 && place(chunk).bytes == 4 * MIB);
    void *address;
    CHECK(cma_chunk_map(chunk, &address) == 0);
    memset(address, 0x5a, 4 * MIB);
    uint64_t count, total = 0;
    CHECK(cma_chunk_piece_count(chunk, &count) == 0);
    for (uint64_t i = 0; i < count; i++) {
        struct cma_piece piece = { .size = sizeof piece };
        CHECK(cma_chunk_piece(chunk, i, &piece) == 0);
        unsigned char *bytes = mmap(NULL, piece.bytes, PROT_READ, MAP_SHARED, piece.fd,
                                    (off_t)piece.offset);
        CHECK(bytes != MAP_FAILED && bytes[0] == 0x5a && bytes[piece.bytes - 1] == 0x5a);
        CHECK(munmap(bytes, piece.bytes) == 0 && close(piece.fd) == 0);
        total += piece.bytes;
    }
    CHECK(total == 4 * MIB);
    int fd;
    int result = cma_chunk_descriptor(chunk, &fd, NULL);
    if (count == 1)
        CHECK(result == 0 && close(fd) == 0);
    else
        CHECK(result == -EOPNOTSUPP && strstr(cma_last_error(), "cma_chunk_piece"));
    /* Less than a huge page can be mapped, and not be shared. */
    CHECK(cma_host_alloc(host, "camera", NULL, 4096, 0, &small) == 0);
    CHECK(cma_chunk_map(small, &address) == 0);
    memset(address, 1, 4096);
    CHECK(cma_chunk_descriptor(small, &fd, NULL) == -EINVAL);
    CHECK(strstr(cma_last_error(), "CMA_REQUEST_SHARE"));
    CHECK(cma_chunk_free(small) == 0 && cma_chunk_free(chunk) == 0 && cma_host_close(host) == 0);
}

static struct cma_client *client_of(const char *socket)
{
    struct cma_client *client;
    CHECK(cma_client_open(socket, &client) == 0);
    return client;
}

static void client_chunk(void)
{
    struct cma_client *none, *client = client_of(argument);
    CHECK(cma_client_open("/nowhere/cma.sock", &none) == -ENODEV && none == NULL);
    CHECK(strstr(cma_last_error(), "start one with `cma serve --socket /nowhere/cma.sock`"));
    CHECK(cma_client_open("", &none) == -EINVAL && none == NULL);
    struct cma_info info = { .size = sizeof info };
    CHECK(cma_client_info(client, "camera", NULL, &info) == 0);
    CHECK(info.regions == 1 && info.total_bytes == 64 * MIB);
    uint64_t before = info.free_bytes;
    struct cma_chunk *chunk, *other;
    CHECK(cma_client_alloc(client, "camera", NULL, 3133440, 64 << 10, &chunk) == 0);
    use_memory(chunk);
    CHECK(cma_client_info_about(client, "video", &info) == 0);
    CHECK(info.free_bytes == before - place(chunk).bytes);
    /* A chunk outlives the handle of the client. */
    CHECK(cma_client_close(client) == 0 && cma_client_close(client) == -EINVAL);
    CHECK(cma_chunk_free(chunk) == 0);
    client = client_of(argument);
    CHECK(cma_client_info(client, "camera", NULL, &info) == 0 && info.free_bytes == before);

    struct cma_request request = {
        .size = sizeof request, .bytes = 65 * MIB, .device = "camera", .wait_us = 1000,
    };
    CHECK(cma_client_allocate(client, &request, &chunk) == -ENOMEM && chunk == NULL);
    CHECK(strstr(cma_last_error(), "video: too small"));
    CHECK(strstr(cma_last_error_json(), "\"regions\":null"));
    request.bytes = 64 * MIB;
    CHECK(cma_client_allocate(client, &request, &chunk) == 0);
    CHECK(cma_client_allocate(client, &request, &other) == -ETIMEDOUT);
    CHECK(cma_client_alloc(client, "none", NULL, 4096, 0, &other) == -ENOENT);
    request = (struct cma_request){ .size = sizeof request, .bytes = 4096, .regions = "bare" };
    CHECK(cma_client_allocate(client, &request, &other) == 0);
    void *address;
    int fd;
    CHECK(place(other).has_memory == 0 && cma_chunk_map(other, &address) == -ENODEV);
    CHECK(cma_chunk_descriptor(other, &fd, NULL) == -ENODEV && fd == -1);
    CHECK(cma_chunk_free(other) == 0 && cma_chunk_free(chunk) == 0);
    char text[64];
    CHECK(cma_client_get(client, "regions/video/size", text, sizeof text, NULL) == 0);
    CHECK(strcmp(text, "67108864\n") == 0);
    CHECK(cma_client_get(client, "none", text, sizeof text, NULL) == -ENOENT);
    CHECK(cma_client_close(client) == 0);
}

static void client_pending(void)
{
    struct cma_client *client = client_of(argument);
    struct cma_request request = { .size = sizeof request, .bytes = 64 * MIB, .device = "camera" };
    struct cma_pending *pending;
    struct cma_chunk *chunk, *none;
    int fd;
    CHECK(cma_client_request(client, &request, &pending) == 0);
    CHECK(cma_pending_descriptor(pending, &fd) == 0 && ready(fd, 60000) & POLLIN);
    CHECK(cma_pending_finish(pending, &chunk) == 0 && place(chunk).bytes == 64 * MIB);
    CHECK(cma_client_request(client, &request, &pending) == 0);
    CHECK(cma_pending_descriptor(pending, &fd) == 0 && ready(fd, 60000) & POLLIN);
    CHECK(cma_pending_finish(pending, &none) == -ENOMEM);
    CHECK(strstr(cma_last_error(), "video: full"));
    request.wait_us = 30 * (uint64_t)1000000;
    CHECK(cma_client_request(client, &request, &pending) == 0);
    CHECK(cma_pending_descriptor(pending, &fd) == 0 && ready(fd, 50) == 0);
    CHECK(cma_pending_finish(pending, &none) == -EAGAIN);
    CHECK(cma_chunk_free(chunk) == 0);
    CHECK(ready(fd, 60000) & POLLIN && cma_pending_finish(pending, &chunk) == 0);
    use_memory(chunk);
    /* One that is given up gets nothing. */
    CHECK(cma_client_request(client, &request, &pending) == 0 && cma_pending_cancel(pending) == 0);
    CHECK(cma_chunk_free(chunk) == 0);
    CHECK(cma_client_allocate(client, &request, &chunk) == 0 && cma_chunk_free(chunk) == 0);
    CHECK(cma_client_close(client) == 0);
}

static void *connect_and_free(void *context)
{
    struct shared *shared = context;
    for (int round = 0; round < ROUNDS / 40; round++) {
        struct cma_chunk *chunk;
        CHECK(cma_client_alloc(shared->client, "camera", NULL, 64 << 10, 0, &chunk) == 0);
        void *address;
        CHECK(cma_chunk_map(chunk, &address) == 0);
        memset(address, round, 64 << 10);
        CHECK(cma_chunk_free(chunk) == 0);
    }
    return NULL;
}

static void client_threads(void)
{
    struct shared shared = { .client = client_of(argument) };
    run_threads(connect_and_free, &shared);
    CHECK(cma_client_close(shared.client) == 0);
}

/* The chunk of a server that ends is lost; the calls say so and the memory stays. */
static void server_ends(void)
{
    struct cma_client *client = client_of(argument);
    struct cma_chunk *chunk, *none;
    void *address;
    CHECK(cma_client_alloc(client, "camera", NULL, 4096, 0, &chunk) == 0);
    CHECK(cma_chunk_map(chunk, &address) == 0);
    puts("ready");
    fflush(stdout);
    CHECK(getchar() == '\n');
    memset(address, 1, 4096);
    CHECK(cma_client_alloc(client, "camera", NULL, 4096, 0, &none) == -ENODEV);
    CHECK(cma_chunk_free(chunk) == 0 && cma_client_close(client) == 0);
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*run)(void); } scenarios[] = {
        { "host-chunk", host_chunk }, { "host-limits", host_limits },
        { "structures", structures }, { "bad-handles", bad_handles },
        { "configuration", configuration }, { "events", events },
        { "host-names", host_names }, { "host-pending", host_pending },
        { "host-threads", host_threads },
        { "host-huge", host_huge }, { "client-chunk", client_chunk },
        { "client-pending", client_pending }, { "client-threads", client_threads },
        { "server-ends", server_ends },
    };
    CHECK(argc >= 2);
    argument = argc > 2 ? argv[2] : NULL;
    CHECK(strcmp(cma_last_error(), "") == 0 && strcmp(cma_last_error_json(), "null") == 0);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        if (strcmp(scenarios[i].name, argv[1]) == 0) {
            scenarios[i].run();
            return 0;
        }
    }
    fprintf(stderr, "no scenario %s\n", argv[1]);
    return 2;
}
