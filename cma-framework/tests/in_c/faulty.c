/*
 * A plug-in whose table (by macros) or whose functions (by parameters) break the contract. Without
 * them it is sound: it fills the region from its start to its end, and reuses it when it is empty.
 */
#include "cma_allocator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct state {
    struct cma_allocator_range region;
    uint64_t next, live;
    char fault[256];
};

static int is(const struct state *s, const char *fault)
{
    return strcmp(s->fault, fault) == 0;
}

static int initialise(struct cma_allocator_range region, const char *params, void **allocator,
                      char *reason)
{
    struct state *s;

    if (strcmp(params, "none-made") == 0)
        return CMA_ALLOCATOR_OK;
    if (strcmp(params, "strange") == 0)
        return -5;
    if (strcmp(params, "silent") == 0)
        return CMA_ALLOCATOR_REFUSED;
    if (strcmp(params, "unended") == 0) {
        memset(reason, 'x', CMA_ALLOCATOR_REASON);
        return CMA_ALLOCATOR_REFUSED;
    }
    if (strcmp(params, "latin") == 0) {
        strcpy(reason, "caf\xe9");
        return CMA_ALLOCATOR_REFUSED;
    }
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return CMA_ALLOCATOR_REFUSED;
    s->region = region;
    s->next = region.first;
    snprintf(s->fault, sizeof s->fault, "%s", params);
    *allocator = s;
    return CMA_ALLOCATOR_OK;
}

static void cleanup(void *allocator)
{
    /* Leaves a file at the path that the parameters end with, if they do. */
    const char *path = strchr(((struct state *)allocator)->fault, '/');
    FILE *file = path == NULL ? NULL : fopen(path, "w");

    if (file != NULL)
        fclose(file);
    free(allocator);
}

static struct cma_allocator_range hole(const struct state *s)
{
    struct cma_allocator_range range = {s->next, cma_allocator_end(s->region) - s->next};

    return range;
}

static int allocate(void *allocator, const struct cma_allocator_request *request,
                    struct cma_allocator_placement *place)
{
    struct state *s = allocator;

    if (is(s, "unwritten"))
        return CMA_ALLOCATOR_OK;
    if (is(s, "allocate"))
        return 7;
    if (strncmp(s->fault, "broken", 6) == 0)
        return CMA_ALLOCATOR_BROKEN;
    if (is(s, "crash"))
        abort();
    if (!cma_allocator_lowest_place(request, hole(s), &place->range))
        return CMA_ALLOCATOR_REFUSED;
    if (is(s, "outside"))
        place->range.first = cma_allocator_end(s->region);
    s->next = cma_allocator_end(place->range);
    s->live++;
    place->tag = s->live;
    return CMA_ALLOCATOR_OK;
}

static int fit(void *allocator, const struct cma_allocator_request *request,
               struct cma_allocator_range *found)
{
    const struct state *s = allocator;
    struct cma_allocator_range place;

    if (is(s, "fit"))
        return CMA_ALLOCATOR_OK;
    if (!cma_allocator_lowest_place(request, hole(s), &place))
        return CMA_ALLOCATOR_REFUSED;
    *found = hole(s);
    return CMA_ALLOCATOR_OK;
}

static int free_chunk(void *allocator, const struct cma_allocator_placement *chunk)
{
    struct state *s = allocator;

    (void)chunk;
    if (is(s, "free"))
        return CMA_ALLOCATOR_REFUSED;
    if (--s->live == 0)
        s->next = s->region.first;
    return CMA_ALLOCATOR_OK;
}

static void holes(void *allocator, void (*visit)(void *context, struct cma_allocator_range hole),
                  void *context)
{
    const struct state *s = allocator;
    uint64_t n;

    for (n = 0; is(s, "holes") && n < s->region.pages; n++)
        visit(context, (struct cma_allocator_range){s->region.first + n, 1});
    if (hole(s).pages > 0)
        visit(context, hole(s));
}

#ifdef ADOPTS
static int adopt(void *allocator, struct cma_allocator_range range, uint64_t *tag, char *reason)
{
    struct state *s = allocator;

    if (is(s, "adopt"))
        return 9;
    if (range.first < s->next) {
        snprintf(reason, CMA_ALLOCATOR_REASON, "it is below the page %llu",
                 (unsigned long long)s->next);
        return CMA_ALLOCATOR_REFUSED;
    }
    s->next = cma_allocator_end(range);
    s->live++;
    *tag = s->live;
    return CMA_ALLOCATOR_OK;
}

static int check(void *allocator, char *reason)
{
    if (is(allocator, "check")) {
        strcpy(reason, "the books are wet");
        return CMA_ALLOCATOR_BROKEN;
    }
    return is(allocator, "check-refuses") ? CMA_ALLOCATOR_REFUSED : CMA_ALLOCATOR_OK;
}
#endif

#ifdef CONSTRUCTOR
__attribute__((constructor)) static void start(void)
{
    abort();
}
#endif

#ifndef VERSION
#define VERSION CMA_ALLOCATOR_VERSION
#endif
#ifndef SIZE
#define SIZE sizeof(struct cma_allocator_v1)
#endif
#ifndef NAME
#define NAME "faulty"
#endif
#ifndef DESCRIPTION
#define DESCRIPTION "breaks the contract as it is told"
#endif
#ifndef ALLOCATE
#define ALLOCATE allocate
#endif

#if defined(NO_TABLE)
const int something_else = 1;
#elif defined(NOT_CONSTANT)
struct cma_allocator_v1 table_of_zeros __asm__("cma_allocator_v1");
#else
const struct cma_allocator_v1 cma_allocator_v1 = {
    .version = VERSION,
    .size = SIZE,
    .name = NAME,
    .algorithm_version = "1.0.0",
    .description = DESCRIPTION,
    .initialise = initialise,
    .cleanup = cleanup,
    .allocate = ALLOCATE,
    .fit = fit,
    .free = free_chunk,
    .holes = holes,
#ifdef ADOPTS
    .adopt = adopt,
    .check = check,
#endif
};
#endif
