/* A chunk of the server, from libcma. */
#include "common.h"
#include <cma.h>

#define CHECK(call) ((call) == 0 ? (void)0 : FAIL("%s: %s", #call, cma_last_error()))

/*
 * Allocates and maps a chunk of `bytes` bytes of the server whose socket is in the environment.
 * Returns the address of its memory, and the handle in `chunk`.
 */
static inline uint8_t *map_chunk(const char *device, uint64_t bytes, struct cma_chunk **chunk)
{
    struct cma_client *client;
    CHECK(cma_client_open(NULL, &client));
    CHECK(cma_client_alloc(client, device, "frame", bytes, 0, chunk));
    CHECK(cma_client_close(client));
    void *address;
    CHECK(cma_chunk_map(*chunk, &address));
    int fd;
    uint64_t offset;
    CHECK(cma_chunk_descriptor(*chunk, &fd, &offset));
    show_chunk(fd, offset, bytes);
    close(fd);
    return address;
}
