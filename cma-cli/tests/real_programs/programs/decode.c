/*
 * libavcodec decodes into a chunk: decode SIZE
 *
 * The program encodes frames as MPEG-4, which refers to earlier frames, and decodes them twice:
 * into libavcodec's own memory, and into slots of the chunk. Both must have the same bytes. It
 * prints OFFSET STRIDE WIDTH HEIGHT HASH of each plane in the chunk, and waits for a line after
 * each frame.
 */
#include "chunk.h"
#include <libavcodec/avcodec.h>
#include <libavutil/imgutils.h>

#define WIDTH 320
#define HEIGHT 240
#define FRAMES 24
#define SLOTS 8

static uint8_t *chunk;
static size_t chunk_size;
static int is_taken[SLOTS];

static void check(int result, const char *call)
{
    if (result < 0)
        FAIL("%s: %s", call, av_err2str(result));
}

static void release(void *slot, uint8_t *data)
{
    (void)data;
    *(int *)slot = 0;
}

/* Gives a frame a slot of the chunk. */
static int get_slot(AVCodecContext *codec, AVFrame *frame, int flags)
{
    (void)flags;
    int width = frame->width, height = frame->height, align[AV_NUM_DATA_POINTERS];
    avcodec_align_dimensions2(codec, &width, &height, align);
    check(av_image_fill_linesizes(frame->linesize, frame->format, FFALIGN(width, 128)), "linesizes");
    uint8_t *slot = NULL;
    for (size_t i = 0; i < SLOTS && !slot; i++) {
        if (is_taken[i])
            continue;
        is_taken[i] = 1;
        slot = chunk + i * (chunk_size / SLOTS);
        frame->buf[0] = av_buffer_create(slot, chunk_size / SLOTS, release, &is_taken[i], 0);
    }
    if (!slot)
        return AVERROR(ENOMEM);
    int bytes =
        av_image_fill_pointers(frame->data, frame->format, height, slot, frame->linesize);
    if (bytes < 0 || (size_t)bytes + AV_INPUT_BUFFER_PADDING_SIZE > chunk_size / SLOTS)
        return AVERROR(ENOMEM);
    frame->extended_data = frame->data;
    return 0;
}

static AVCodecContext *opened(const AVCodec *codec)
{
    if (!codec)
        FAIL("libavcodec has no MPEG-4");
    AVCodecContext *context = avcodec_alloc_context3(codec);
    context->width = WIDTH;
    context->height = HEIGHT;
    context->pix_fmt = AV_PIX_FMT_YUV420P;
    context->time_base = (AVRational){ 1, 25 };
    context->gop_size = 12;
    context->thread_count = 1;
    return context;
}

/* Draws picture `number`: stripes that move, so that motion has to be predicted. */
static void draw(AVFrame *frame, int number)
{
    check(av_frame_make_writable(frame), "av_frame_make_writable");
    for (int plane = 0; plane < 3; plane++)
        for (int y = 0; y < HEIGHT >> !!plane; y++)
            for (int x = 0; x < WIDTH >> !!plane; x++)
                frame->data[plane][y * frame->linesize[plane] + x] =
                    ((x + 3 * number) / 8 * 40 + y * (plane + 1)) & 0xff;
    frame->pts = number;
}

static AVPacket *packets[FRAMES + 8];
static int packet_count;

static void encode(void)
{
    AVCodecContext *encoder = opened(avcodec_find_encoder(AV_CODEC_ID_MPEG4));
    encoder->bit_rate = 1000000;
    check(avcodec_open2(encoder, NULL, NULL), "avcodec_open2");
    AVFrame *frame = av_frame_alloc();
    frame->format = AV_PIX_FMT_YUV420P;
    frame->width = WIDTH;
    frame->height = HEIGHT;
    check(av_frame_get_buffer(frame, 0), "av_frame_get_buffer");
    for (int number = 0; number <= FRAMES; number++) {
        if (number < FRAMES)
            draw(frame, number);
        check(avcodec_send_frame(encoder, number < FRAMES ? frame : NULL), "avcodec_send_frame");
        for (;;) {
            AVPacket *packet = av_packet_alloc();
            int result = avcodec_receive_packet(encoder, packet);
            if (result == AVERROR(EAGAIN) || result == AVERROR_EOF) {
                av_packet_free(&packet);
                break;
            }
            check(result, "avcodec_receive_packet");
            packets[packet_count++] = packet;
        }
    }
    av_frame_free(&frame);
    avcodec_free_context(&encoder);
}

/* The hash of the visible bytes of a plane. */
static uint64_t plane_hash(const AVFrame *frame, int plane)
{
    uint64_t hash = EMPTY_HASH;
    for (int y = 0; y < HEIGHT >> !!plane; y++)
        hash = hashed(hash, frame->data[plane] + y * frame->linesize[plane], WIDTH >> !!plane);
    return hash;
}

static void print_place(const AVFrame *frame, int plane)
{
    const uint8_t *data = frame->data[plane];
    if (data < chunk || data >= chunk + chunk_size)
        FAIL("a plane is not in the chunk");
    printf("%zu %d %d %d %016lx\n", (size_t)(data - chunk), frame->linesize[plane],
           WIDTH >> !!plane, HEIGHT >> !!plane, plane_hash(frame, plane));
}

/* Decodes all packets, and writes or compares the hashes of the planes. */
static int decode(uint64_t (*hashes)[3], int into_chunk)
{
    AVCodecContext *decoder = opened(avcodec_find_decoder(AV_CODEC_ID_MPEG4));
    if (into_chunk)
        decoder->get_buffer2 = get_slot;
    check(avcodec_open2(decoder, NULL, NULL), "avcodec_open2");
    if (!(decoder->codec->capabilities & AV_CODEC_CAP_DR1))
        FAIL("the decoder takes no memory of its caller");
    AVFrame *frame = av_frame_alloc();
    int decoded = 0;
    for (int i = 0; i <= packet_count; i++) {
        check(avcodec_send_packet(decoder, i < packet_count ? packets[i] : NULL), "send_packet");
        for (;;) {
            int result = avcodec_receive_frame(decoder, frame);
            if (result == AVERROR(EAGAIN) || result == AVERROR_EOF)
                break;
            check(result, "avcodec_receive_frame");
            for (int plane = 0; plane < 3; plane++) {
                uint64_t hash = plane_hash(frame, plane);
                if (into_chunk && hash != hashes[decoded][plane])
                    FAIL("frame %d is decoded differently into the chunk", decoded);
                hashes[decoded][plane] = hash;
                if (into_chunk)
                    print_place(frame, plane);
            }
            char line[16];
            fflush(stdout);
            if (into_chunk && !fgets(line, sizeof line, stdin))
                FAIL("nobody takes the frame");
            decoded++;
            av_frame_unref(frame);
        }
    }
    av_frame_free(&frame);
    avcodec_free_context(&decoder);
    return decoded;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        FAIL("usage: decode SIZE");
    struct cma_chunk *handle;
    chunk_size = strtoull(argv[1], NULL, 10);
    chunk = map_chunk("codec", chunk_size, &handle);
    av_log_set_level(AV_LOG_ERROR);
    encode();
    static uint64_t hashes[FRAMES + 8][3];
    if (decode(hashes, 0) != FRAMES || decode(hashes, 1) != FRAMES)
        FAIL("frames are missing");
    CHECK(cma_chunk_free(handle));
    return 0;
}
