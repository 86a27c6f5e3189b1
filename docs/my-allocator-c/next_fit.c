/*
 * A complete allocator in C to copy and to change: next fit. It searches the holes from where the
 * last chunk was placed, and goes round once (Knuth, The Art of Computer Programming, volume 1,
 * section 2.5, exercise 6). So it fills the whole region before it reuses what was freed.
 *
 * The chapter for authors of allocators, docs/guide/allocator.md, says how to build and try it.
 */
#include "cma_allocator.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The holes of a region in ascending order. Two of them never touch. */
struct next_fit {
    struct cma_allocator_range region;
    uint64_t next;   /* the page after the chunk that was placed last */
    size_t live;     /* chunks: there is at most one hole more */
    size_t count;    /* holes */
    size_t capacity; /* of `holes`: at least live + 1, so that freeing needs no memory */
    struct cma_allocator_range *holes;
};

static int next_fit_initialise(struct cma_allocator_range region, const char *params,
                               void **allocator, char *reason)
{
    struct next_fit *a;

    if (*params != '\0') {
        snprintf(reason, CMA_ALLOCATOR_REASON, "unknown parameter \"%s\"; it takes none", params);
        return CMA_ALLOCATOR_REFUSED;
    }
    a = calloc(1, sizeof *a);
    if (a == NULL || (a->holes = malloc(8 * sizeof *a->holes)) == NULL) {
        free(a);
        snprintf(reason, CMA_ALLOCATOR_REASON, "out of memory");
        return CMA_ALLOCATOR_REFUSED;
    }
    a->region = region;
    a->next = region.first;
    a->capacity = 8;
    a->count = 1;
    a->holes[0] = region;
    *allocator = a;
    return CMA_ALLOCATOR_OK;
}

static void next_fit_cleanup(void *allocator)
{
    struct next_fit *a = allocator;

    free(a->holes);
    free(a);
}

/* The index of the first hole that ends above `page`; the number of holes if there is none. */
static size_t hole_above(const struct next_fit *a, uint64_t page)
{
    size_t low = 0, high = a->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (cma_allocator_end(a->holes[middle]) > page)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* The hole that `allocate` uses, and the place in it; the number of holes if there is none. */
static size_t find(const struct next_fit *a, const struct cma_allocator_request *request,
                   struct cma_allocator_range *place)
{
    size_t start = hole_above(a, a->next), n;

    /* First the part of a hole above `next`, and at the end the whole of the same hole. */
    for (n = 0; a->count > 0 && n <= a->count; n++) {
        size_t at = (start + n) % a->count;
        struct cma_allocator_range hole = a->holes[at];

        if (n == 0 && hole.first < a->next && a->next < cma_allocator_end(hole)) {
            hole.pages -= a->next - hole.first;
            hole.first = a->next;
        }
        if (cma_allocator_lowest_place(request, hole, place))
            return at;
    }
    return a->count;
}

/* Takes `range` out of the hole at `at`, which contains it. Returns 0 if there is no memory. */
static int take(struct next_fit *a, size_t at, struct cma_allocator_range range)
{
    struct cma_allocator_range hole = a->holes[at], parts[2];
    uint64_t end = cma_allocator_end(range);
    size_t count = 0;

    if (a->live + 2 > a->capacity) {
        struct cma_allocator_range *more = realloc(a->holes, 2 * a->capacity * sizeof *more);

        if (more == NULL)
            return 0;
        a->holes = more;
        a->capacity *= 2;
    }
    if (hole.first < range.first)
        parts[count++] = (struct cma_allocator_range){hole.first, range.first - hole.first};
    if (end < cma_allocator_end(hole))
        parts[count++] = (struct cma_allocator_range){end, cma_allocator_end(hole) - end};
    memmove(a->holes + at + count, a->holes + at + 1, (a->count - at - 1) * sizeof *a->holes);
    memcpy(a->holes + at, parts, count * sizeof *parts);
    a->count = a->count - 1 + count;
    a->live++;
    return 1;
}

static int next_fit_allocate(void *allocator, const struct cma_allocator_request *request,
                             struct cma_allocator_placement *place)
{
    struct next_fit *a = allocator;
    struct cma_allocator_range range;
    size_t at = find(a, request, &range);

    if (at == a->count || !take(a, at, range))
        return CMA_ALLOCATOR_REFUSED;
    a->next = cma_allocator_end(range);
    place->range = range;
    place->tag = 0;
    return CMA_ALLOCATOR_OK;
}

static int next_fit_fit(void *allocator, const struct cma_allocator_request *request,
                        struct cma_allocator_range *hole)
{
    const struct next_fit *a = allocator;
    struct cma_allocator_range place;
    size_t at = find(a, request, &place);

    if (at == a->count)
        return CMA_ALLOCATOR_REFUSED;
    *hole = a->holes[at];
    return CMA_ALLOCATOR_OK;
}

static int next_fit_free(void *allocator, const struct cma_allocator_placement *chunk)
{
    struct next_fit *a = allocator;
    struct cma_allocator_range hole = chunk->range;
    size_t at = hole_above(a, hole.first), merged = 0;

    if (at < a->count && a->holes[at].first == cma_allocator_end(hole)) {
        hole.pages += a->holes[at].pages;
        merged++;
    }
    if (at > 0 && cma_allocator_end(a->holes[at - 1]) == hole.first) {
        at--;
        hole.first = a->holes[at].first;
        hole.pages += a->holes[at].pages;
        merged++;
    }
    memmove(a->holes + at + 1, a->holes + at + merged,
            (a->count - at - merged) * sizeof *a->holes);
    a->holes[at] = hole;
    a->count = a->count + 1 - merged;
    a->live--;
    return CMA_ALLOCATOR_OK;
}

static void next_fit_holes(void *allocator,
                           void (*visit)(void *context, struct cma_allocator_range hole),
                           void *context)
{
    const struct next_fit *a = allocator;
    size_t at;

    for (at = 0; at < a->count; at++)
        visit(context, a->holes[at]);
}

static int next_fit_adopt(void *allocator, struct cma_allocator_range range, uint64_t *tag,
                          char *reason)
{
    struct next_fit *a = allocator;
    size_t at = hole_above(a, range.first);

    (void)tag;
    if (at == a->count || a->holes[at].first > range.first ||
        cma_allocator_end(a->holes[at]) < cma_allocator_end(range)) {
        snprintf(reason, CMA_ALLOCATOR_REASON, "page %" PRIu64 " or one of the %" PRIu64 " from it"
                 " is in use", range.first, range.pages);
        return CMA_ALLOCATOR_REFUSED;
    }
    if (!take(a, at, range)) {
        snprintf(reason, CMA_ALLOCATOR_REASON, "out of memory");
        return CMA_ALLOCATOR_REFUSED;
    }
    return CMA_ALLOCATOR_OK;
}

static int next_fit_check(void *allocator, char *reason)
{
    const struct next_fit *a = allocator;
    uint64_t lowest = a->region.first;
    size_t at;

    for (at = 0; at < a->count; at++) {
        if (a->holes[at].first < lowest || a->holes[at].pages == 0 ||
            cma_allocator_end(a->holes[at]) > cma_allocator_end(a->region)) {
            snprintf(reason, CMA_ALLOCATOR_REASON, "hole %zu of %zu is empty, touches the one below"
                     " or lies outside the region", at, a->count);
            return CMA_ALLOCATOR_BROKEN;
        }
        lowest = cma_allocator_end(a->holes[at]) + 1;
    }
    return CMA_ALLOCATOR_OK;
}

/* `largest_request` is null: that of this algorithm is the largest hole. */
const struct cma_allocator_v1 cma_allocator_v1 = {
    CMA_ALLOCATOR_HEADER,
    .name = "next-fit",
    .algorithm_version = "0.1.0",
    .description = "next fit over a sorted array of holes, in C",
    .initialise = next_fit_initialise,
    .cleanup = next_fit_cleanup,
    .allocate = next_fit_allocate,
    .fit = next_fit_fit,
    .free = next_fit_free,
    .holes = next_fit_holes,
    .adopt = next_fit_adopt,
    .check = next_fit_check,
};
