/* What the C programs share: a chunk that they inherit, and failing. */
#define _GNU_SOURCE
#include <errno.h>
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

/*
 * Maps the files of a chunk one behind the other: `count` texts FD:LENGTH, at a multiple of `page`
 * bytes. Returns the address, and the chunk's size in `size`.
 */
static inline uint8_t *map_chunk(int count, char **files, size_t page, size_t *size)
{
    *size = 0;
    for (int i = 0; i < count; i++)
        *size += strtoull(strchr(files[i], ':') + 1, NULL, 10);
    uint8_t *free = mmap(NULL, *size + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (free == MAP_FAILED)
        FAIL("mmap: %s", strerror(errno));
    uint8_t *start = free + (page - (uintptr_t)free % page) % page, *at = start;
    for (int i = 0; i < count; i++) {
        size_t length = strtoull(strchr(files[i], ':') + 1, NULL, 10);
        if (mmap(at, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, atoi(files[i]), 0) != at)
            FAIL("mmap of file %d: %s", i, strerror(errno));
        at += length;
    }
    return start;
}
