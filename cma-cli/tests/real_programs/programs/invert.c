/*
 * Inverts a frame that another process filled: invert, with a Unix socket as standard input
 *
 * The socket delivers one descriptor, and the frame's offset and length in the file. The program
 * checks the frame's bytes, inverts each, and answers with their hash.
 */
#include "common.h"
#include <sys/socket.h>

int main(void)
{
    uint64_t place[2];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } beside;
    struct iovec text = { place, sizeof place };
    struct msghdr message = { .msg_iov = &text, .msg_iovlen = 1, .msg_control = &beside,
                              .msg_controllen = sizeof beside };
    struct cmsghdr *header;
    if (recvmsg(0, &message, MSG_CMSG_CLOEXEC) != sizeof place || !(header = CMSG_FIRSTHDR(&message)))
        FAIL("no frame came");
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    struct stat file;
    if (fstat(fd, &file) != 0 || place[0] + place[1] > (uint64_t)file.st_size)
        FAIL("the frame is not in the file");
    uint8_t *chunk = mmap(NULL, file.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (chunk == MAP_FAILED)
        FAIL("mmap: %s", strerror(errno));
    uint8_t *frame = chunk + place[0];
    for (uint64_t i = 0; i < place[1]; i++) {
        if (frame[i] != (uint8_t)(i * 7 + i / 251))
            FAIL("byte %lu is %u", i, frame[i]);
        frame[i] = ~frame[i];
    }
    uint64_t hash = hashed(EMPTY_HASH, frame, place[1]);
    if (send(0, &hash, sizeof hash, 0) != sizeof hash)
        FAIL("send: %s", strerror(errno));
    return 0;
}
