/*
 * Frames of GStreamer in a chunk, in two processes: frames produce|consume FILE SIZE
 *
 * FILE is the chunk's memory. The producer's pipeline takes its buffers from a pool whose memory is
 * the chunk, so the source draws there. It prints OFFSET LENGTH HASH INODE of each frame, and gives
 * the buffer back when it reads a line. The consumer reads lines OFFSET LENGTH, passes that part of
 * the chunk through its own pipeline, and prints the same about what arrives.
 */
#include "common.h"
#include <gst/allocators/gstfdmemory.h>
#include <gst/app/app.h>
#include <gst/gst.h>

#define CAPS "video/x-raw,format=GRAY8,width=320,height=240,framerate=25/1"
#define FRAME (320 * 240)
#define SLOTS 4

static int chunk_fd;
static gsize chunk_size;

/* A part of the chunk. */
static GstMemory *part(gsize offset, gsize length)
{
    GstAllocator *allocator = gst_fd_allocator_new();
    GstMemory *memory =
        gst_fd_allocator_alloc(allocator, chunk_fd, chunk_size, GST_FD_MEMORY_FLAG_DONT_CLOSE);
    gst_object_unref(allocator);
    if (!memory)
        FAIL("gst_fd_allocator_alloc failed");
    gst_memory_resize(memory, offset, length);
    return memory;
}

/* A pool of SLOTS buffers that are the first frames of the chunk. */
typedef struct {
    GstBufferPool parent;
    gsize slots;
} ChunkPool;
typedef struct {
    GstBufferPoolClass parent_class;
} ChunkPoolClass;
G_DEFINE_TYPE(ChunkPool, chunk_pool, GST_TYPE_BUFFER_POOL)

static GstFlowReturn chunk_pool_alloc(GstBufferPool *base, GstBuffer **buffer,
                                      GstBufferPoolAcquireParams *params)
{
    (void)params;
    ChunkPool *pool = (ChunkPool *)base;
    if (pool->slots == SLOTS)
        return GST_FLOW_ERROR;
    *buffer = gst_buffer_new();
    gst_buffer_append_memory(*buffer, part(pool->slots++ * FRAME, FRAME));
    return GST_FLOW_OK;
}

/* Makes a buffer that came back ready for use. The default would move it to the chunk's start. */
static void chunk_pool_reset(GstBufferPool *pool, GstBuffer *buffer)
{
    (void)pool;
    GST_BUFFER_FLAGS(buffer) &= GST_BUFFER_FLAG_TAG_MEMORY;
    GST_BUFFER_PTS(buffer) = GST_BUFFER_DTS(buffer) = GST_CLOCK_TIME_NONE;
    GST_BUFFER_DURATION(buffer) = GST_CLOCK_TIME_NONE;
}

static void chunk_pool_class_init(ChunkPoolClass *class)
{
    ((GstBufferPoolClass *)class)->reset_buffer = chunk_pool_reset;
    ((GstBufferPoolClass *)class)->alloc_buffer = chunk_pool_alloc;
}

static void chunk_pool_init(ChunkPool *pool)
{
    pool->slots = 0;
}

/* Answers the question for a pool, which the source sends through its pipeline. */
static GstPadProbeReturn offer_pool(GstPad *pad, GstPadProbeInfo *info, gpointer pool)
{
    (void)pad;
    GstQuery *query = GST_PAD_PROBE_INFO_QUERY(info);
    if (GST_QUERY_TYPE(query) != GST_QUERY_ALLOCATION)
        return GST_PAD_PROBE_OK;
    gst_query_add_allocation_pool(query, pool, FRAME, SLOTS, SLOTS);
    return GST_PAD_PROBE_HANDLED;
}

/* Prints where the frame of a sample lies, and its bytes' hash. */
static void report(GstSample *sample)
{
    GstBuffer *buffer = gst_sample_get_buffer(sample);
    GstMemory *memory = gst_buffer_peek_memory(buffer, 0);
    if (gst_buffer_n_memory(buffer) != 1 || !gst_is_fd_memory(memory))
        FAIL("the frame was copied to other memory");
    struct stat file;
    if (fstat(gst_fd_memory_get_fd(memory), &file) != 0)
        FAIL("fstat: %s", strerror(errno));
    gsize offset, length = gst_memory_get_sizes(memory, &offset, NULL);
    GstMapInfo map;
    if (!gst_memory_map(memory, &map, GST_MAP_READ))
        FAIL("gst_memory_map failed");
    uint64_t hash = hashed(EMPTY_HASH, map.data, map.size);
    gst_memory_unmap(memory, &map);
    printf("%zu %zu %016lx %lu\n", offset, length, hash, (unsigned long)file.st_ino);
    fflush(stdout);
}

static GstElement *start(const char *description)
{
    GError *error = NULL;
    GstElement *pipeline = gst_parse_launch(description, &error);
    if (error)
        FAIL("%s", error->message);
    return pipeline;
}

static GstElement *element(GstElement *pipeline, const char *name)
{
    return gst_bin_get_by_name(GST_BIN(pipeline), name);
}

static void produce(void)
{
    show_chunk(chunk_fd, 0, chunk_size);
    GstElement *pipeline = start("videotestsrc num-buffers=20 pattern=ball ! " CAPS
                                 " ! appsink name=sink sync=false max-buffers=1");
    GstElement *sink = element(pipeline, "sink");
    GstPad *pad = gst_element_get_static_pad(sink, "sink");
    gpointer pool = g_object_new(chunk_pool_get_type(), NULL);
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_QUERY_DOWNSTREAM, offer_pool, pool, NULL);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    GstSample *sample;
    char line[256];
    while ((sample = gst_app_sink_pull_sample(GST_APP_SINK(sink)))) {
        report(sample);
        if (!fgets(line, sizeof line, stdin))
            FAIL("nobody takes the frame");
        gst_sample_unref(sample);
    }
    gst_element_set_state(pipeline, GST_STATE_NULL);
}

static void consume(void)
{
    GstElement *pipeline = start("appsrc name=source format=time caps=" CAPS
                                 " ! videoconvert ! appsink name=sink sync=false");
    GstElement *source = element(pipeline, "source"), *sink = element(pipeline, "sink");
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    gsize offset, length;
    while (scanf("%zu %zu", &offset, &length) == 2) {
        if (length > chunk_size || offset > chunk_size - length)
            FAIL("the frame is not in the chunk");
        GstBuffer *buffer = gst_buffer_new();
        gst_buffer_append_memory(buffer, part(offset, length));
        if (gst_app_src_push_buffer(GST_APP_SRC(source), buffer) != GST_FLOW_OK)
            FAIL("the pipeline takes no frame");
        GstSample *sample = gst_app_sink_pull_sample(GST_APP_SINK(sink));
        if (!sample)
            FAIL("the frame did not arrive");
        report(sample);
        gst_sample_unref(sample);
    }
    gst_app_src_end_of_stream(GST_APP_SRC(source));
    gst_element_set_state(pipeline, GST_STATE_NULL);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        FAIL("usage: frames produce|consume FILE SIZE");
    gst_init(NULL, NULL);
    chunk_fd = open(argv[2], O_RDWR | O_CLOEXEC);
    if (chunk_fd < 0)
        FAIL("%s: %s", argv[2], strerror(errno));
    chunk_size = strtoull(argv[3], NULL, 10);
    if (strcmp(argv[1], "produce") == 0)
        produce();
    else
        consume();
    return 0;
}
