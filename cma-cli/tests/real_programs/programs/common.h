/* What the C programs share: failing, a hash, and showing a chunk. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAIL(...) (fprintf(stderr, __VA_ARGS__), fprintf(stderr, "\n"), exit(1))

/* FNV-1a of 64 bits (RFC 9923), over `bytes` bytes after those that gave `hash`. */
static inline uint64_t hashed(uint64_t hash, const uint8_t *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ at[i]) * 0x100000001b3;
    return hash;
}

#define EMPTY_HASH 0xcbf29ce484222325u

/* Prints chunk FILE OFFSET BYTES for a process that looks at the chunk, and waits for its line. */
static inline void show_chunk(int fd, uint64_t offset, uint64_t bytes)
{
    char line[16];
    printf("chunk /proc/%d/fd/%d %lu %lu\n", getpid(), fd, offset, bytes);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        FAIL("nobody looks at the chunk");
}
