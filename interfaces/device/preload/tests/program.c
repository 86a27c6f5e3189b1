/*
 * A program that uses the published interface of /dev/cma and nothing else, for the tests of the
 * preload library. Each scenario is a word on the command line; one that fails prints the line and
 * exits with 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAGIC 0x634d6142u
#define DEVICE "/dev/cma"
#define PAGE 4096ul
#define MIB (1ul << 20)

/* Layout A, of the first four published versions. */
struct request_a {
    uint32_t magic;
    char name[17];
    char type[17];
    uint16_t pad;
    uint64_t size;
    uint64_t alignment;
    uint64_t start;
};

/* Layout B, of the last two published versions. */
struct request_b {
    uint32_t magic;
    uint32_t type;
    uint64_t size;
    uint64_t alignment;
    uint64_t start;
    char spec[32];
};

#define ALLOC_A _IOWR('p', 0, struct request_a)
#define ALLOC_B _IOWR('p', 0, struct request_b)

_Static_assert(sizeof(struct request_a) == 64, "layout A has 64 bytes");
_Static_assert(sizeof(struct request_b) == 64, "layout B has 64 bytes");

static const char *self;

#define CHECK(what)                                                                           \
    do {                                                                                      \
        if (!(what)) {                                                                        \
            fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #what, strerror(errno));          \
            exit(1);                                                                          \
        }                                                                                     \
    } while (0)

/* Checks that a call fails with an errno. */
#define FAILS(call, with)                                                                     \
    do {                                                                                      \
        errno = 0;                                                                            \
        CHECK((long)(call) == -1);                                                            \
        CHECK(errno == (with));                                                               \
    } while (0)

static struct request_a a(const char *name, const char *type, uint64_t size, uint64_t alignment)
{
    struct request_a request = { .magic = MAGIC, .size = size, .alignment = alignment };
    strcpy(request.name, name);
    strcpy(request.type, type);
    return request;
}

static struct request_b b(uint32_t type, const char *spec, uint64_t size, uint64_t alignment)
{
    struct request_b request = { .magic = MAGIC, .type = type, .size = size, .alignment = alignment };
    /* A text that fills the field has no terminating zero. */
    memcpy(request.spec, spec, strnlen(spec, sizeof request.spec));
    return request;
}

static int device(void)
{
    int fd = open(DEVICE, O_RDWR);
    CHECK(fd >= 0);
    return fd;
}

/* Allocates a chunk in layout A and returns its address. */
static uint64_t alloc(int fd, uint64_t size)
{
    struct request_a request = a("camera", "", size, 0);
    CHECK(ioctl(fd, ALLOC_A, &request) == 0);
    return request.start;
}

static unsigned char *map(int fd, size_t size)
{
    unsigned char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

/* Whether all 64 MiB of the region can be allocated now. */
static int all_is_free(void)
{
    int fd = device();
    struct request_a request = a("camera", "", 64 * MIB, 0);
    int is_free = ioctl(fd, ALLOC_A, &request) == 0;
    close(fd);
    return is_free;
}

static void wait_until_all_is_free(void)
{
    for (int i = 0; i < 2000 && !all_is_free(); i++)
        usleep(2000);
    CHECK(all_is_free());
}

static void wait_for_success(pid_t child)
{
    int status;
    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

extern int __open_2(const char *, int);
extern int __open64_2(const char *, int);
extern int __openat_2(int, const char *, int);
extern int __openat64_2(int, const char *, int);
extern int __open(const char *, int, ...);
extern int __open64(const char *, int, ...);

static void use(int fd)
{
    CHECK(fd >= 0);
    alloc(fd, PAGE);
    unsigned char *memory = map(fd, PAGE);
    CHECK(memory[0] == 0);
    memory[0] = 1;
    CHECK(munmap(memory, PAGE) == 0);
    CHECK(close(fd) == 0);
}

static void opens(void)
{
    int dev = open("/dev", O_RDONLY | O_DIRECTORY);
    CHECK(dev >= 0);
    use(open(DEVICE, O_RDWR));
    use(open64(DEVICE, O_RDWR));
    use(openat(AT_FDCWD, DEVICE, O_RDWR));
    use(openat64(AT_FDCWD, DEVICE, O_RDWR));
    use(openat(dev, "cma", O_RDWR));
    use(openat(-1, DEVICE, O_RDWR));
    use(__open_2(DEVICE, O_RDWR));
    use(__open64_2(DEVICE, O_RDWR));
    use(__openat_2(AT_FDCWD, DEVICE, O_RDWR));
    use(__openat64_2(dev, "./cma", O_RDWR));
    use(open("/dev/../dev//cma", O_RDWR));
    use(open(DEVICE, O_RDWR | O_CREAT, 0600));
    use(open(DEVICE, O_RDWR | O_NONBLOCK));
    use(__open(DEVICE, O_RDWR));
    use(__open64(DEVICE, O_RDWR));
    use(open(DEVICE, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600));
    use(open(DEVICE, O_RDWR | O_EXCL | O_NOFOLLOW | O_NOCTTY));
    /* The device exists and is no folder. */
    FAILS(open(DEVICE, O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    FAILS(openat(dev, "cma", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    FAILS(open(DEVICE, O_RDWR | O_DIRECTORY), ENOTDIR);
    FAILS(open64(DEVICE, O_RDONLY | O_DIRECTORY), ENOTDIR);
    FAILS(open(DEVICE, O_RDWR | O_DIRECTORY | O_CREAT, 0600), EINVAL);
    CHECK(fopen(DEVICE, "wx") == NULL && errno == EEXIST);
    CHECK(chdir("/dev") == 0);
    use(open("cma", O_RDWR));
    /* The file can allocate; the access mode applies to mmap, see access_modes(). */
    int made[] = { creat(DEVICE, 0600), creat64("cma", 0600) };
    for (size_t i = 0; i < 2; i++) {
        CHECK(made[i] >= 0);
        alloc(made[i], PAGE);
        CHECK(close(made[i]) == 0);
    }
    CHECK(syscall(SYS_access, DEVICE, F_OK) == -1);

    const char *modes[] = { "r", "r+", "w", "w+", "a", "a+", "r+e", "rce", "r+,ccs=latin1" };
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        for (int way = 0; way < 4; way++) {
            FILE *before = fopen("/dev/zero", "r");
            int number = fileno(before);
            CHECK(fgetc(before) == 0);
            if (way < 2)
                fclose(before);
            FILE *file = way == 0 ? fopen(DEVICE, modes[i])
                       : way == 1 ? fopen64(DEVICE, modes[i])
                       : way == 2 ? freopen(DEVICE, modes[i], before)
                                  : freopen64("cma", modes[i], before);
            CHECK(file && fileno(file) == number);
            CHECK(way < 2 || file == before);
            CHECK(!!(fcntl(fileno(file), F_GETFD) & FD_CLOEXEC) == (strcspn(modes[i], "e") < strcspn(modes[i], ",")));
            alloc(fileno(file), PAGE);
            void *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
            if (strchr(modes[i], '+'))
                CHECK(shared != MAP_FAILED && *(char *)shared == 0);
            else
                CHECK(shared == MAP_FAILED && errno == EACCES);
            void *own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fileno(file), 0);
            CHECK((own != MAP_FAILED) == (modes[i][0] == 'r' || strchr(modes[i], '+')));
            CHECK(fclose(file) == 0);
            if (shared != MAP_FAILED)
                munmap(shared, PAGE);
            if (own != MAP_FAILED)
                munmap(own, PAGE);
        }
    }
    /* A stream is closed when reopening it fails. */
    FILE *file = fopen("/dev/zero", "r");
    int number = fileno(file);
    CHECK(freopen(DEVICE, "wx", file) == NULL && errno == EEXIST);
    FAILS(fcntl(number, F_GETFD), EBADF);
    file = fopen(DEVICE, "r+");
    CHECK(file && freopen("/dev/null", "r", file) == file && fgetc(file) == EOF && !ferror(file));
    CHECK(all_is_free());

    int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    close(fd);
    fd = open(DEVICE, O_RDWR);
    CHECK(fcntl(fd, F_GETFD) == 0);
    /* As always, the lowest free descriptor is used. */
    int next = dup(fd);
    close(next);
    CHECK(open(DEVICE, O_RDWR) == next);
}

/* Checks that a status is that of the device. */
static void is_device(const struct stat *status)
{
    CHECK(S_ISCHR(status->st_mode));
    CHECK((status->st_mode & 07777) == 0666);
    CHECK(major(status->st_rdev) == 10 && minor(status->st_rdev) == 255);
    CHECK(status->st_size == 0 && status->st_nlink == 1);
}

extern int __xstat(int, const char *, struct stat *);
extern int __xstat64(int, const char *, struct stat64 *);
extern int __lxstat(int, const char *, struct stat *);
extern int __lxstat64(int, const char *, struct stat64 *);
extern int __fxstat(int, int, struct stat *);
extern int __fxstat64(int, int, struct stat64 *);
extern int __fxstatat(int, int, const char *, struct stat *, int);
extern int __fxstatat64(int, int, const char *, struct stat64 *, int);

#define LOOK(call)                                                                            \
    do {                                                                                      \
        memset(&status, 0xff, sizeof status);                                                 \
        CHECK((call) == 0);                                                                   \
        is_device((struct stat *)&status);                                                    \
    } while (0)

/* Queries of a path before it is opened show the device. */
static void queries(void)
{
    int dev = open("/dev", O_RDONLY | O_DIRECTORY), fd = device();
    struct stat status;
    struct stat64 *large = (struct stat64 *)&status;
    CHECK(access(DEVICE, F_OK) == 0);
    CHECK(access(DEVICE, R_OK) == 0);
    CHECK(access(DEVICE, R_OK | W_OK) == 0);
    FAILS(access(DEVICE, X_OK), EACCES);
    FAILS(access(DEVICE, R_OK | X_OK), EACCES);
    FAILS(access(DEVICE, 64), EINVAL);
    CHECK(euidaccess(DEVICE, R_OK | W_OK) == 0);
    CHECK(eaccess(DEVICE, W_OK) == 0);
    FAILS(eaccess(DEVICE, X_OK), EACCES);
    CHECK(faccessat(AT_FDCWD, DEVICE, R_OK, 0) == 0);
    CHECK(faccessat(dev, "cma", W_OK, AT_EACCESS) == 0);
    CHECK(faccessat(dev, "./cma", F_OK, AT_SYMLINK_NOFOLLOW) == 0);
    FAILS(faccessat(dev, "cm", F_OK, 0), ENOENT);
    FAILS(faccessat(fd, "cma", F_OK, 0), ENOTDIR);

    LOOK(stat(DEVICE, &status));
    LOOK(lstat(DEVICE, &status));
    LOOK(stat64("/dev/../dev/cma", large));
    LOOK(lstat64(DEVICE, large));
    LOOK(fstatat(dev, "cma", &status, 0));
    LOOK(fstatat64(AT_FDCWD, DEVICE, large, AT_SYMLINK_NOFOLLOW));
    LOOK(__xstat(1, DEVICE, &status));
    LOOK(__xstat64(0, DEVICE, large));
    LOOK(__lxstat(1, DEVICE, &status));
    LOOK(__lxstat64(1, DEVICE, large));
    LOOK(__fxstatat(1, dev, "cma", &status, 0));
    LOOK(__fxstatat64(1, AT_FDCWD, DEVICE, large, 0));
    FAILS(__xstat(7, DEVICE, &status), EINVAL);
    FAILS(stat(DEVICE, (struct stat *)8), EFAULT);
    FAILS(stat("/dev/cma/", &status), ENOTDIR);
    FAILS(stat("/dev/cma/x", &status), ENOTDIR);
    FAILS(lstat("/dev/cma//", &status), ENOTDIR);
    FAILS(access("/dev/cma/", F_OK), ENOTDIR);
    FAILS(stat("/dev/cm", &status), ENOENT);
    FAILS(stat("/dev/cm/", &status), ENOENT);

    /* A query of a descriptor has the same result as one of the path. */
    struct stat of_path;
    CHECK(stat(DEVICE, &of_path) == 0);
    LOOK(fstat(fd, &status));
    CHECK(status.st_dev == of_path.st_dev && status.st_ino == of_path.st_ino);
    LOOK(fstat64(fd, large));
    LOOK(fstatat(fd, "", &status, AT_EMPTY_PATH));
    LOOK(fstatat64(fd, "", large, AT_EMPTY_PATH));
    LOOK(__fxstat(1, fd, &status));
    LOOK(__fxstat64(1, fd, large));
    LOOK(__fxstatat(1, fd, "", &status, AT_EMPTY_PATH));
    FAILS(fstat(fd, (struct stat *)8), EFAULT);

    char names[64];
    FAILS(getxattr(DEVICE, "system.posix_acl_access", names, sizeof names), ENODATA);
    FAILS(lgetxattr(DEVICE, "security.selinux", names, sizeof names), ENODATA);
    CHECK(listxattr(DEVICE, names, sizeof names) == 0 && llistxattr(DEVICE, NULL, 0) == 0);
    FAILS(lgetxattr("/dev/cm", "security.selinux", names, sizeof names), ENOENT);

    struct statx more;
    for (int way = 0; way < 4; way++) {
        memset(&more, 0xff, sizeof more);
        CHECK((way == 0   ? statx(AT_FDCWD, DEVICE, 0, STATX_BASIC_STATS, &more)
               : way == 1 ? statx(dev, "cma", AT_SYMLINK_NOFOLLOW, STATX_ALL, &more)
               : way == 2 ? statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &more)
                          : statx(fd, DEVICE, AT_EMPTY_PATH, STATX_BASIC_STATS, &more)) == 0);
        CHECK(S_ISCHR(more.stx_mode) && (more.stx_mode & 07777) == 0666);
        CHECK(more.stx_rdev_major == 10 && more.stx_rdev_minor == 255 && more.stx_ino == of_path.st_ino);
    }
    FAILS(statx(AT_FDCWD, "/dev/cm", 0, STATX_BASIC_STATS, &more), ENOENT);

    /* Queries take nothing from the user's limits, and the file is still usable. */
    for (int i = 0; i < 3000; i++)
        CHECK(access(DEVICE, R_OK) == 0);
    alloc(fd, PAGE);
    map(fd, PAGE);
    /* Users who may not connect to the server's socket get EACCES. */
    if (getuid() == 0) {
        char folder[256];
        strcpy(folder, getenv("CMA_SOCKET"));
        CHECK(chmod(folder, 0640) == 0);
        *strrchr(folder, '/') = 0;
        CHECK(chmod(folder, 0711) == 0);
        pid_t child = fork();
        if (child == 0) {
            CHECK(setgid(12345) == 0 && setuid(12345) == 0);
            CHECK(stat(DEVICE, &status) == 0 && S_ISCHR(status.st_mode) && (status.st_mode & 07777) == 0600);
            CHECK(access(DEVICE, F_OK) == 0);
            FAILS(access(DEVICE, R_OK), EACCES);
            FAILS(eaccess(DEVICE, W_OK), EACCES);
            FAILS(open(DEVICE, O_RDWR), EACCES);
            _exit(0);
        }
        wait_for_success(child);
    }
}

/* The access mode is enforced, also in other processes, and for duplicates. */
static void access_modes(void)
{
    static const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR, O_ACCMODE };
    for (size_t i = 0; i < 4; i++) {
        int reads = i == 0 || i == 2, writes = i == 1 || i == 2;
        int fd = open(DEVICE, modes[i]);
        /* The kernel checks the access mode before it calls the driver. */
        void *memory = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
        CHECK(memory == MAP_FAILED && errno == (reads ? EBADFD : EACCES));
        alloc(fd, 2 * PAGE);
        int copy = dup(fd);
        close(fd);
        pid_t child = fork();
        static const int shares[] = { MAP_SHARED, MAP_SHARED_VALIDATE, MAP_PRIVATE };
        static const int protections[] = { PROT_NONE, PROT_READ, PROT_WRITE, PROT_READ | PROT_WRITE };
        for (size_t share = 0; share < 3; share++) {
            for (size_t protection = 0; protection < 4; protection++) {
                int may = reads && (writes || shares[share] == MAP_PRIVATE || !(protections[protection] & PROT_WRITE));
                memory = mmap(NULL, PAGE, protections[protection], shares[share], copy, PAGE);
                CHECK(may ? memory != MAP_FAILED : memory == MAP_FAILED && errno == EACCES);
                if (may && protections[protection] == (PROT_READ | PROT_WRITE))
                    *(volatile char *)memory = 1;
                if (may)
                    munmap(memory, PAGE);
            }
        }
        FAILS(mmap(NULL, 0, PROT_READ, MAP_SHARED, copy, 0), EINVAL);
        FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, copy, 5), EINVAL);
        FAILS(mmap(NULL, PAGE, PROT_READ, 0, copy, 0), EINVAL);
        if (reads)
            FAILS(mmap(NULL, 3 * PAGE, PROT_READ, MAP_SHARED, copy, 0), ENOSPC);
        FAILS(read(copy, &copy, 1), reads ? EINVAL : EBADF);
        FAILS(write(copy, &copy, 1), writes ? EINVAL : EBADF);
        if (child == 0)
            _exit(0);
        wait_for_success(child);
        close(copy);
    }
    /* Also after exec. */
    int fd = open(DEVICE, O_RDONLY);
    alloc(fd, PAGE);
    CHECK(dup2(fd, 200) == 200);
    execl(self, self, "check_access_mode", "200", NULL);
    CHECK(0);
}

static void check_access_mode(int fd)
{
    /* Before any other call on it. */
    FAILS(write(fd, "x", 1), EBADF);
    FAILS(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
    CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) != MAP_FAILED);
}

extern ssize_t __read_chk(int, void *, size_t, size_t);
extern ssize_t __pread_chk(int, void *, size_t, off_t, size_t);

/* The device has neither read nor write, and an attempt has no effect. */
static void transfers(void)
{
    for (int round = 0; round < 2; round++) {
        int fd = open(DEVICE, O_RDWR | (round ? O_NONBLOCK : 0));
        char bytes[600] = { 0 };
        struct iovec parts[] = { { bytes, 300 }, { bytes + 300, 300 } };
        FAILS(write(fd, bytes, sizeof bytes), EINVAL);
        FAILS(write(fd, bytes, 0), EINVAL);
        FAILS(write(fd, NULL, 1), EINVAL);
        FAILS(writev(fd, parts, 2), EINVAL);
        FAILS(pwrite(fd, bytes, 1, 0), EINVAL);
        FAILS(pwrite64(fd, bytes, 1, 0), EINVAL);
        FAILS(read(fd, bytes, sizeof bytes), EINVAL);
        FAILS(__read_chk(fd, bytes, sizeof bytes, sizeof bytes), EINVAL);
        FAILS(readv(fd, parts, 2), EINVAL);
        FAILS(pread(fd, bytes, 1, 0), EINVAL);
        FAILS(pread64(fd, bytes, 1, 0), EINVAL);
        FAILS(__pread_chk(fd, bytes, 1, 0, sizeof bytes), EINVAL);
        FAILS(preadv(fd, parts, 2, 0), EINVAL);
        FAILS(preadv64(fd, parts, 2, 0), EINVAL);
        FAILS(preadv2(fd, parts, 2, -1, 0), EINVAL);
        FAILS(preadv64v2(fd, parts, 2, 0, 0), EINVAL);
        FAILS(pwritev(fd, parts, 2, 0), EINVAL);
        FAILS(pwritev64(fd, parts, 2, 0), EINVAL);
        FAILS(pwritev2(fd, parts, 2, -1, 0), EINVAL);
        FAILS(pwritev64v2(fd, parts, 2, 0, 0), EINVAL);
        int zero = open("/dev/zero", O_RDWR), both[2];
        CHECK(pipe(both) == 0 && write(both[1], "abc", 3) == 3);
        FAILS(sendfile(fd, zero, NULL, 10), EINVAL);
        FAILS(sendfile64(zero, fd, NULL, 10), EINVAL);
        FAILS(splice(both[0], NULL, fd, NULL, 3, 0), EINVAL);
        FAILS(splice(fd, NULL, both[1], NULL, 3, 0), EINVAL);
        FAILS(copy_file_range(fd, NULL, zero, NULL, 3, 0), EINVAL);
        FAILS(copy_file_range(zero, NULL, fd, NULL, 3, 0), EINVAL);
        FAILS(ftruncate(fd, 0), EINVAL);
        close(zero);
        close(both[0]);
        close(both[1]);
        alloc(fd, PAGE);
        FAILS(write(fd, bytes, 1), EINVAL);
        /* The kernel itself refuses, too; no call blocks, and the chunk stays. */
        FAILS(syscall(SYS_read, fd, bytes, sizeof bytes), EINVAL);
        CHECK(syscall(SYS_write, fd, bytes, sizeof bytes) == -1);
        CHECK(syscall(SYS_sendto, fd, bytes, sizeof bytes, MSG_NOSIGNAL, NULL, 0) == -1);
        FAILS(recv(fd, bytes, sizeof bytes, 0), EINVAL);
        FILE *stream = fdopen(dup(fd), "r+");
        CHECK(fgetc(stream) == EOF && ferror(stream) && errno == EINVAL);
        clearerr(stream);
        CHECK(fputs("text", stream) >= 0);
        FAILS(fflush(stream), EINVAL);
        fclose(stream);
        stream = fdopen(dup(fd), "w");
        CHECK(fputs("text", stream) >= 0);
        FAILS(fclose(stream), EINVAL);
        stream = fdopen(dup(fd), "w");
        setvbuf(stream, NULL, _IONBF, 0);
        errno = 0;
        CHECK(fwrite(bytes, 1, 8, stream) == 0 && errno == EINVAL);
        FAILS(fputc('x', stream), EINVAL);
        CHECK(fclose(stream) == 0);
        CHECK(*map(fd, PAGE) == 0);
        close(fd);
        FAILS(write(fd, bytes, 1), EBADF);
    }
    /* Other files are written and read, also in a process with open files of the device. */
    int pair[2];
    char bytes[8] = { 0 };
    struct iovec part = { bytes, 3 };
    CHECK(pipe(pair) == 0);
    CHECK(write(pair[1], "abc", 3) == 3 && read(pair[0], bytes, 8) == 3 && memcmp(bytes, "abc", 4) == 0);
    CHECK(writev(pair[1], &part, 1) == 3 && readv(pair[0], &part, 1) == 3);
    CHECK(write(pair[1], "abc", 3) == 3 && __read_chk(pair[0], bytes, 8, 8) == 3);
    FAILS(pread(pair[0], bytes, 1, 0), ESPIPE);
    FAILS(preadv(pair[0], &part, 1, 0), ESPIPE);
    CHECK(pwritev2(pair[1], &part, 1, -1, 0) == 3 && preadv2(pair[0], &part, 1, -1, 0) == 3);
    FAILS(read(-1, bytes, 1), EBADF);
    char *volatile nowhere = (char *)8;
    FAILS(write(pair[1], nowhere, 1), EFAULT);
    FILE *file = tmpfile();
    CHECK(pwrite(fileno(file), "text", 4, 2) == 4 && pread64(fileno(file), bytes, 4, 3) == 3);
    CHECK(memcmp(bytes, "ext", 3) == 0);
    part.iov_len = 2;
    CHECK(preadv(fileno(file), &part, 1, 2) == 2 && pwritev(fileno(file), &part, 1, 0) == 2 && bytes[0] == 't');
    CHECK(sendfile(pair[1], fileno(file), NULL, 2) >= 0);
    off64_t from = 2;
    CHECK(splice(fileno(file), &from, pair[1], NULL, 2, 0) == 2 && from == 4);
    FILE *other = tmpfile();
    from = 2;
    CHECK(copy_file_range(fileno(file), &from, fileno(other), NULL, 4, 0) == 4);
    CHECK(fputs("more", file) >= 0 && fputc('x', file) == 'x' && fflush(file) == 0 && fclose(file) == 0);
    FAILS(truncate("/none", 0), ENOENT);
    FAILS(truncate(DEVICE, 0), EINVAL);
    FAILS(truncate64(DEVICE, 0), EINVAL);
}

/* Other paths to the device: symbolic links, O_PATH descriptors, and the links of /proc to
 * descriptors. */
static void links(void)
{
    char folder[] = "/tmp/cma-links-XXXXXX", target[64];
    struct stat status;
    CHECK(mkdtemp(folder) && chdir(folder) == 0);
    CHECK(symlink(DEVICE, "link") == 0 && symlink("link", "second") == 0 && symlink("/dev", "dev") == 0);
    CHECK(symlink("dev/../dev/cma", "third") == 0 && symlink("/dev/cm", "nothing") == 0 && symlink("loop", "loop") == 0);
    static const char *links[] = { "link", "second", "dev/cma", "third", "./second" };
    for (size_t i = 0; i < 5; i++) {
        use(open(links[i], O_RDWR));
        use(open(links[i], O_RDWR | O_CREAT | O_TRUNC, 0600));
        LOOK(stat(links[i], &status));
        CHECK(access(links[i], R_OK | W_OK) == 0);
        FILE *file = fopen(links[i], "r+");
        CHECK(file && fclose(file) == 0);
    }
    CHECK(lstat("link", &status) == 0 && S_ISLNK(status.st_mode));
    CHECK(readlink("link", target, sizeof target) == 8 && memcmp(target, DEVICE, 8) == 0);
    FAILS(open("link", O_RDWR | O_NOFOLLOW), ELOOP);
    FAILS(open("link", O_RDWR | O_NOFOLLOW | O_CREAT, 0600), ELOOP);
    FAILS(open("link", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    FAILS(open("link/", O_RDWR), ENOTDIR);
    FAILS(stat("link/", &status), ENOTDIR);
    FAILS(open("nothing", O_RDWR), ENOENT);
    FAILS(open("loop", O_RDWR), ELOOP);
    FAILS(stat("nothing", &status), ENOENT);
    FAILS(readlink(DEVICE, target, sizeof target), EINVAL);
    FAILS(readlinkat(AT_FDCWD, DEVICE, target, sizeof target), EINVAL);
    FAILS(readlink("/dev/cm", target, sizeof target), ENOENT);

    /* An O_PATH descriptor can be queried only. */
    static const char *paths[] = { DEVICE, "link" };
    for (size_t i = 0; i < 2; i++) {
        FAILS(open(paths[i], O_PATH | O_DIRECTORY), ENOTDIR);
        int path = open(paths[i], O_PATH | O_CLOEXEC);
        CHECK(path >= 0 && fcntl(path, F_GETFD) == FD_CLOEXEC);
        LOOK(fstat(path, &status));
        LOOK(fstatat(path, "", &status, AT_EMPTY_PATH));
        struct request_a request = a("camera", "", PAGE, 0);
        FAILS(ioctl(path, ALLOC_A, &request), EBADF);
        FAILS(read(path, target, 1), EBADF);
        FAILS(write(path, target, 1), EBADF);
        FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, path, 0), EBADF);
        sprintf(target, "/proc/self/fd/%d", path);
        use(open(target, O_RDWR));
        close(path);
    }
    int link = open("link", O_PATH | O_NOFOLLOW);
    CHECK(link >= 0 && fstat(link, &status) == 0 && S_ISLNK(status.st_mode));
    /* Opening the link of a descriptor opens the device again. */
    int fd = device();
    alloc(fd, PAGE);
    sprintf(target, "/dev/fd/%d", fd);
    use(open(target, O_RDWR));
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    sprintf(target, "/proc/self/fd/%d", pair[0]);
    FAILS(open(target, O_RDWR), ENXIO);
    static const char *made[] = { "link", "second", "third", "dev", "nothing", "loop" };
    for (size_t i = 0; i < 6; i++)
        CHECK(unlink(made[i]) == 0);
    CHECK(rmdir(folder) == 0);
}

/* Names are bytes. The map is "caf?=ram;x*=ram;c*=ram;z=ram". */
static void names(void)
{
    static const struct {
        const char *name;
        int why;
    } tries[] = {
        { "caf\xe9", 0 }, { "caf\xc3\xa9", 0 }, { "x\xff\xfe\x80", 0 }, { "x", 0 }, { "c", 0 }, { "cd", 0 }, { "z", 0 },
        { "\xff", ENOENT }, { "z\xff", ENOENT }, { "\xe9z", ENOENT },
    };
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        for (int layout = 0; layout < 2; layout++) {
            struct request_a in_a = a(tries[i].name, "", PAGE, 0);
            struct request_b in_b = b(0, tries[i].name, PAGE, 0);
            int fd = device();
            void *request = layout ? (void *)&in_b : &in_a;
            if (tries[i].why)
                FAILS(ioctl(fd, ALLOC_A, request), tries[i].why);
            else
                CHECK(ioctl(fd, ALLOC_A, request) == 0);
            close(fd);
        }
    }
    /* An unknown region is skipped, whatever its name. */
    int fd = device();
    struct request_b in_b = b(1, "\xff,ram", PAGE, 0);
    CHECK(ioctl(fd, ALLOC_B, &in_b) == 0);
    close(fd);
    fd = device();
    /* An unknown request number is not taken for a name, whatever the map has. */
    static const char *specs[] = { "c", "camera", "camera/frame", "camera/0123456789abcdef", "caf\xe9/\xff\xff\xff\xff\xff" };
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        for (uint32_t type = 2; type < 70000; type = type < 300 ? type + 1 : type * 3 + 1) {
            in_b = b(type, specs[i], PAGE, i % 2 ? 0 : 64 * 1024);
            in_b.start = i % 2 ? 0 : 0x1234567890abcdef;
            FAILS(ioctl(fd, ALLOC_B, &in_b), EINVAL);
        }
    }
    close(fd);
    /* One structure, used for several devices. */
    struct request_a in_a = a("c0123456789abcde", "frame", PAGE, 0);
    static const char *shorter[] = { "caf\xe9", "cam", "xy", "z" };
    for (size_t i = 0; i < 4; i++) {
        strcpy(in_a.name, shorter[i]);
        strcpy(in_a.type, "");
        fd = device();
        CHECK(ioctl(fd, ALLOC_A, &in_a) == 0);
        close(fd);
    }
}

static void layouts(void)
{
    int fd = device();
    struct request_a in_a = a("camera", "frame", 3 * PAGE + 1, 64 * 1024);
    in_a.pad = 77;
    struct request_a before = in_a;
    CHECK(ioctl(fd, ALLOC_A, &in_a) == 0);
    CHECK(in_a.start != 0 && in_a.start % (64 * 1024) == 0);
    before.start = in_a.start;
    CHECK(memcmp(&before, &in_a, sizeof in_a) == 0);
    map(fd, 4 * PAGE);
    close(fd);

    fd = device();
    struct request_b in_b = b(0, "camera/frame", PAGE, 1 * MIB);
    struct request_b before_b = in_b;
    CHECK(ioctl(fd, ALLOC_B, &in_b) == 0);
    CHECK(in_b.start % MIB == 0);
    before_b.start = in_b.start;
    CHECK(memcmp(&before_b, &in_b, sizeof in_b) == 0);
    close(fd);

    /* The type follows the last slash; "typed/fw" has its own region, 8 MiB from 0x80000000 on. */
    fd = device();
    in_b = b(0, "typed/fw/fw", PAGE, 0);
    FAILS(ioctl(fd, ALLOC_B, &in_b), ENOENT);
    in_b = b(0, "typed/fw", PAGE, 0);
    CHECK(ioctl(fd, ALLOC_B, &in_b) == 0);
    CHECK(in_b.start >= 0x80000000 && in_b.start < 0x80800000);
    close(fd);
    fd = device();
    in_a = a("typed", "fw", PAGE, 0);
    CHECK(ioctl(fd, ALLOC_A, &in_a) == 0);
    CHECK(in_a.start >= 0x80000000 && in_a.start < 0x80800000);
    close(fd);

    fd = device();
    in_b = b(1, "none,fw,ram", PAGE, 0);
    CHECK(ioctl(fd, ALLOC_B, &in_b) == 0);
    CHECK(in_b.start >= 0x80000000 && in_b.start < 0x80800000);
    close(fd);

    /* The longest strings. */
    fd = device();
    in_a = a("0123456789abcdef", "fedcba9876543210", PAGE, 0);
    CHECK(ioctl(fd, ALLOC_A, &in_a) == 0);
    close(fd);
    fd = device();
    in_b = b(0, "0123456789abcdef/fedcba987654321", PAGE, 0);
    FAILS(ioctl(fd, ALLOC_B, &in_b), EINVAL);
    in_b = b(0, "0123456789abcdef/fedcba98765432", PAGE, 0);
    CHECK(ioctl(fd, ALLOC_B, &in_b) == 0);
    close(fd);
}

static void errnos(void)
{
    int fd = device();
    struct request_a in_a = a("camera", "", PAGE, 0);
    struct request_b in_b = b(0, "camera", PAGE, 0);
    void *nowhere = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int number;

    /* Other ioctls, including those of sockets. */
    FAILS(ioctl(fd, _IOWR('p', 1, struct request_a), &in_a), ENOTTY);
    FAILS(ioctl(fd, _IOWR('q', 0, struct request_a), &in_a), ENOTTY);
    FAILS(ioctl(fd, _IOW('p', 0, struct request_a), &in_a), ENOTTY);
    FAILS(ioctl(fd, FIONREAD, &number), ENOTTY);
    FAILS(ioctl(fd, TIOCGWINSZ, &in_a), ENOTTY);
    FAILS(ioctl(fd, 0, NULL), ENOTTY);
    /* A wrong magic number. */
    in_a.magic++;
    FAILS(ioctl(fd, ALLOC_A, &in_a), ENOTTY);
    in_a.magic--;
    /* No argument. */
    FAILS(ioctl(fd, ALLOC_A, NULL), EINVAL);
    /* Strings without an end. */
    memset(in_a.name, 'x', sizeof in_a.name);
    FAILS(ioctl(fd, ALLOC_A, &in_a), EINVAL);
    in_a = a("camera", "", PAGE, 0);
    memset(in_a.type, 'x', sizeof in_a.type);
    FAILS(ioctl(fd, ALLOC_A, &in_a), EINVAL);
    memset(in_b.spec, 'x', sizeof in_b.spec);
    FAILS(ioctl(fd, ALLOC_B, &in_b), EINVAL);
    /* Unknown requests. */
    for (uint32_t type = 2; type < 300; type++) {
        in_b = b(type, "camera", PAGE, 0);
        FAILS(ioctl(fd, ALLOC_B, &in_b), EINVAL);
        in_b = b(type, "camera/frame", PAGE, 0);
        FAILS(ioctl(fd, ALLOC_B, &in_b), EINVAL);
    }
    /* Bad pointers. */
    FAILS(ioctl(fd, ALLOC_A, (void *)8), EFAULT);
    FAILS(ioctl(fd, ALLOC_A, nowhere), EFAULT);
    FAILS(ioctl(fd, ALLOC_A, (void *)-64), EFAULT);
    CHECK(mprotect(nowhere, PAGE, PROT_READ | PROT_WRITE) == 0);
    in_a = a("camera", "", PAGE, 0);
    memcpy((char *)nowhere + PAGE - 32, &in_a, 32);
    FAILS(ioctl(fd, ALLOC_A, (char *)nowhere + PAGE - 32), EFAULT);
    /* Memory that can be read but not written: the chunk is freed again. */
    memcpy(nowhere, &in_a, sizeof in_a);
    CHECK(mprotect(nowhere, PAGE, PROT_READ) == 0);
    FAILS(ioctl(fd, ALLOC_A, nowhere), EFAULT);
    CHECK(all_is_free());
    /* Refusals of the framework. */
    in_a = a("camera", "", 0, 0);
    FAILS(ioctl(fd, ALLOC_A, &in_a), EINVAL);
    in_a = a("camera", "", PAGE, 3);
    FAILS(ioctl(fd, ALLOC_A, &in_a), EINVAL);
    in_a = a("camera", "", 65 * MIB, 0);
    FAILS(ioctl(fd, ALLOC_A, &in_a), ENOMEM);
    in_a = a("camera", "", UINT64_MAX, 0);
    FAILS(ioctl(fd, ALLOC_A, &in_a), EINVAL);
    in_a = a("", "", PAGE, 0);
    FAILS(ioctl(fd, ALLOC_A, &in_a), EINVAL);
    in_a = a("nobody", "", PAGE, 0);
    FAILS(ioctl(fd, ALLOC_A, &in_a), ENOENT);
    in_b = b(1, "", PAGE, 0);
    FAILS(ioctl(fd, ALLOC_B, &in_b), EINVAL);
    in_b = b(1, "none", PAGE, 0);
    FAILS(ioctl(fd, ALLOC_B, &in_b), ENOMEM);
    /* Mapping without a chunk. */
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0), EBADFD);
    FAILS(mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0), EINVAL);

    alloc(fd, 4 * PAGE);
    /* A second chunk is refused before its arguments are checked, but after the ioctl number and
     * magic are. */
    in_a = a("camera", "", PAGE, 0);
    FAILS(ioctl(fd, ALLOC_A, &in_a), EBADFD);
    memset(in_a.name, 'x', sizeof in_a.name);
    FAILS(ioctl(fd, ALLOC_A, &in_a), EBADFD);
    in_b.type = 33;
    FAILS(ioctl(fd, ALLOC_B, &in_b), EBADFD);
    in_a.magic++;
    FAILS(ioctl(fd, ALLOC_A, &in_a), ENOTTY);
    FAILS(ioctl(fd, ALLOC_A, (void *)8), EFAULT);
    FAILS(ioctl(fd, ALLOC_A, nowhere + PAGE), EFAULT);
    FAILS(ioctl(fd, ALLOC_A, NULL), EINVAL);
    FAILS(ioctl(fd, FIONREAD, &number), ENOTTY);
    /* Mapping beyond the chunk. */
    FAILS(mmap(NULL, 5 * PAGE, PROT_READ, MAP_SHARED, fd, 0), ENOSPC);
    FAILS(mmap(NULL, 4 * PAGE + 1, PROT_READ, MAP_SHARED, fd, 0), ENOSPC);
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 4 * PAGE), ENOSPC);
    FAILS(mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 3 * PAGE), ENOSPC);
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 1ul << 40), ENOSPC);
    FAILS(mmap(NULL, 1ul << 46, PROT_READ, MAP_SHARED, fd, 0), ENOSPC);
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 5), EINVAL);
    FAILS(mmap(NULL, PAGE, PROT_READ, 0, fd, 0), EINVAL);
    FAILS(mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0), EINVAL);
    close(fd);
    FAILS(ioctl(fd, ALLOC_A, &in_a), EBADF);
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0), EBADF);

    /* Addresses without memory. */
    fd = device();
    in_a = a("bare", "", PAGE, 0);
    CHECK(ioctl(fd, ALLOC_A, &in_a) == 0);
    FAILS(mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0), ENOSPC);
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0), ENODEV);
}

static void mappings(void)
{
    int fd = device();
    alloc(fd, 16 * PAGE - 1);
    unsigned char *whole = map(fd, 16 * PAGE);
    for (size_t i = 0; i < 16 * PAGE; i++)
        CHECK(whole[i] == 0);
    for (size_t page = 0; page < 16; page++)
        memset(whole + page * PAGE, page + 1, PAGE);
    /* Parts of the chunk, by both names of the call. */
    for (size_t page = 0; page < 16; page++) {
        unsigned char *part = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, page * PAGE);
        CHECK(part != MAP_FAILED && part[0] == page + 1 && part[PAGE - 1] == page + 1);
        part = mmap64(NULL, (16 - page) * PAGE, PROT_READ, MAP_SHARED, fd, page * PAGE);
        CHECK(part != MAP_FAILED && part[0] == page + 1 && part[(16 - page) * PAGE - 1] == 16);
    }
    /* At a fixed address. */
    unsigned char *place = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mmap(place + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 3 * PAGE) == place + PAGE);
    CHECK(place[PAGE] == 4 && place[3 * PAGE - 1] == 5);
    place[PAGE] = 99;
    CHECK(whole[3 * PAGE] == 99);
    FAILS(mmap(place, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0), EEXIST);
    FAILS(mmap(place + 1, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0), EINVAL);
    /* Private: other mappings don't see what is written. */
    unsigned char *own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(own != MAP_FAILED && own[0] == 1);
    own[0] = 50;
    CHECK(whole[0] == 1);
    /* Without access. */
    CHECK(mmap(NULL, PAGE, PROT_NONE, MAP_SHARED, fd, 0) != MAP_FAILED);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0) != MAP_FAILED);
}

/* A file with a chunk; while it is allocated, all_is_free() is false. */
static int holder(void)
{
    int fd = device();
    alloc(fd, MIB);
    CHECK(!all_is_free());
    return fd;
}

static void references(void)
{
    int fd = holder();
    int copies[] = { dup(fd), dup2(fd, 100), dup3(fd, 101, O_CLOEXEC), fcntl(fd, F_DUPFD, 102), fcntl(fd, F_DUPFD_CLOEXEC, 103) };
    map(fd, MIB)[5] = 7;
    for (size_t i = 0; i < 5; i++) {
        struct request_a request = a("camera", "", PAGE, 0);
        CHECK(copies[i] >= 0);
        close(fd);
        fd = copies[i];
        CHECK(!all_is_free());
        FAILS(ioctl(fd, ALLOC_A, &request), EBADFD);
        unsigned char *memory = map(fd, MIB);
        CHECK(memory[5] == 7);
        munmap(memory, MIB);
    }
    close(fd);
    /* The first mapping still exists, and is the last reference. */
    CHECK(!all_is_free());
}

static void last_reference(void)
{
    /* After each way to drop the last reference, the memory can be allocated at once. */
    for (int i = 0; i < 50; i++) {
        int fd = holder();
        unsigned char *memory = map(fd, MIB);
        munmap(memory, MIB);
        close(fd);
        CHECK(all_is_free());

        fd = holder();
        memory = map(fd, MIB);
        close(fd);
        CHECK(!all_is_free());
        memory[0] = 1;
        munmap(memory, MIB);
        CHECK(all_is_free());

        fd = holder();
        CHECK(dup2(open("/dev/null", O_RDONLY), fd) == fd);
        CHECK(all_is_free());
        close(fd);
    }
    int first = holder(), second = holder();
    CHECK(second > first);
    CHECK(close_range(first, second, 0) == 0);
    CHECK(all_is_free());
    FILE *file = fopen(DEVICE, "r+");
    alloc(fileno(file), MIB);
    CHECK(!all_is_free());
    fclose(file);
    CHECK(all_is_free());
    /* A descriptor in flight in a socket is a reference. */
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    int fd = holder();
    char space[CMSG_SPACE(sizeof fd)] = { 0 };
    struct iovec byte = { .iov_base = "x", .iov_len = 1 };
    struct msghdr message = { .msg_iov = &byte, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    CHECK(sendmsg(pair[0], &message, 0) == 1);
    close(fd);
    CHECK(!all_is_free());
    char received[1];
    byte.iov_base = received;
    CHECK(recvmsg(pair[1], &message, 0) == 1);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    munmap(map(fd, MIB), MIB);
    close(fd);
    CHECK(all_is_free());
}

static void forks(void)
{
    /* Parent and child share a chunk that was allocated before the fork. */
    int fd = device();
    alloc(fd, MIB);
    unsigned char *memory = map(fd, MIB);
    pid_t child = fork();
    if (child == 0) {
        memory[0] = 1;
        map(fd, MIB)[1] = 2;
        close(fd);
        _exit(0);
    }
    wait_for_success(child);
    CHECK(memory[0] == 1 && memory[1] == 2);
    CHECK(!all_is_free());
    munmap(memory, MIB);
    close(fd);
    CHECK(all_is_free());

    /* And one that the child has allocated. */
    fd = device();
    child = fork();
    if (child == 0) {
        alloc(fd, MIB);
        map(fd, MIB)[9] = 9;
        _exit(0);
    }
    wait_for_success(child);
    struct request_a request = a("camera", "", PAGE, 0);
    FAILS(ioctl(fd, ALLOC_A, &request), EBADFD);
    CHECK(map(fd, MIB)[9] == 9);
    close(fd);

    /* The chunk lives until both have closed the file. */
    fd = holder();
    int go[2];
    CHECK(pipe(go) == 0);
    child = fork();
    if (child == 0) {
        char byte;
        close(go[1]);
        CHECK(read(go[0], &byte, 1) == 0);
        map(fd, MIB)[0] = 1;
        _exit(0);
    }
    close(fd);
    CHECK(!all_is_free());
    close(go[1]);
    wait_for_success(child);
}

/* Parent and children use the same file at the same time, and each gets its own answers. */
static void concurrent_processes(void)
{
    int fd = device();
    alloc(fd, 8 * PAGE);
    unsigned char *memory = map(fd, 8 * PAGE);
    for (size_t page = 0; page < 8; page++)
        memory[page * PAGE] = page;
    pid_t children[4];
    for (int i = 0; i < 4; i++) {
        children[i] = fork();
        if (children[i] != 0)
            continue;
        for (int round = 0; round < 500; round++) {
            struct request_a request = a("camera", "", PAGE, 0);
            size_t page = (i + round) % 8;
            if (round % 3 == 0)
                FAILS(ioctl(fd, ALLOC_A, &request), EBADFD);
            unsigned char *part = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, page * PAGE);
            CHECK(part != MAP_FAILED && part[0] == page);
            munmap(part, PAGE);
        }
        _exit(0);
    }
    for (int i = 0; i < 4; i++)
        wait_for_success(children[i]);
    /* Processes that are killed during a call leave the file usable. */
    for (int i = 0; i < 60; i++) {
        pid_t child = fork();
        if (child == 0)
            for (;;)
                munmap(map(fd, PAGE), PAGE);
        usleep(1000 + 50 * i);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        CHECK(map(fd, 8 * PAGE)[7 * PAGE] == 7);
    }
}

/* Closing a duplicate of the descriptor does not disturb calls in progress. */
static void *closes_copies(void *fd)
{
    for (int round = 0; round < 2000; round++)
        close(dup((int)(uintptr_t)fd));
    return NULL;
}

static void duplicates(void)
{
    int fd = device();
    alloc(fd, PAGE);
    map(fd, PAGE)[0] = 5;
    pid_t children[3];
    for (int i = 0; i < 3; i++) {
        children[i] = fork();
        if (children[i] != 0)
            continue;
        pthread_t closer;
        CHECK(pthread_create(&closer, NULL, closes_copies, (void *)(uintptr_t)fd) == 0);
        for (int round = 0; round < 400; round++) {
            unsigned char *memory = map(fd, PAGE);
            CHECK(memory[0] == 5);
            munmap(memory, PAGE);
        }
        pthread_join(closer, NULL);
        _exit(0);
    }
    for (int i = 0; i < 3; i++)
        wait_for_success(children[i]);
}

/* Processes that are stopped or killed during a call, all at once, delay no other. */
static void stopped(void)
{
    int fd = device();
    alloc(fd, PAGE);
    map(fd, PAGE)[0] = 7;
    for (int round = 0; round < 20; round++) {
        pid_t children[6];
        for (int i = 0; i < 6; i++) {
            children[i] = fork();
            if (children[i] == 0)
                for (;;)
                    munmap(map(fd, PAGE), PAGE);
        }
        usleep(2000 + 100 * round);
        for (int i = 0; i < 6; i++)
            kill(children[i], SIGSTOP);
        for (int i = 0; i < 5; i++) {
            unsigned char *memory = map(fd, PAGE);
            CHECK(memory[0] == 7);
            munmap(memory, PAGE);
        }
        for (int i = 0; i < 6; i++) {
            kill(children[i], SIGKILL);
            waitpid(children[i], NULL, 0);
        }
        CHECK(*map(fd, PAGE) == 7);
    }
    /* A process that is killed while it allocates leaves the file with its chunk, or without one
     * and usable. */
    for (int round = 0; round < 60; round++) {
        int other = device();
        pid_t child = fork();
        if (child == 0) {
            alloc(other, PAGE);
            pause();
        }
        usleep(20 * round);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        struct request_a request = a("camera", "", PAGE, 0);
        if (ioctl(other, ALLOC_A, &request) != 0)
            CHECK(errno == EBADFD);
        CHECK(*map(other, PAGE) == 0);
        close(other);
    }
}

static void exec_scenario(void)
{
    int fd = device();
    alloc(fd, 3 * PAGE);
    strcpy((char *)map(fd, 3 * PAGE) + 2 * PAGE, "from before");
    int closes = open(DEVICE, O_RDWR | O_CLOEXEC);
    alloc(closes, MIB);
    char number[16], other[16];
    sprintf(number, "%d", fd);
    sprintf(other, "%d", closes);
    execl(self, self, "after_exec", number, other, NULL);
    CHECK(0);
}

static void after_exec(int fd, int closed)
{
    struct request_a request = a("camera", "", PAGE, 0);
    FAILS(ioctl(closed, ALLOC_A, &request), EBADF);
    FAILS(ioctl(fd, ALLOC_A, &request), EBADFD);
    unsigned char *part = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 2 * PAGE);
    CHECK(part != MAP_FAILED && strcmp((char *)part, "from before") == 0);
    munmap(part, PAGE);
    close(fd);
    wait_until_all_is_free();
}

static void *busy(void *number)
{
    unsigned char mine = (unsigned char)(uintptr_t)number;
    for (int round = 0; round < 200; round++) {
        int fd = device();
        size_t pages = 1 + (mine + round) % 7;
        alloc(fd, pages * PAGE);
        unsigned char *memory = map(fd, pages * PAGE);
        for (size_t i = 0; i < pages * PAGE; i++)
            CHECK(memory[i] == 0);
        memset(memory, mine, pages * PAGE);
        for (size_t i = 0; i < pages * PAGE; i++)
            CHECK(memory[i] == mine);
        munmap(memory, pages * PAGE);
        close(fd);
    }
    return NULL;
}

static int shared_fd;

static void *shares(void *number)
{
    size_t page = (uintptr_t)number;
    for (int round = 0; round < 300; round++) {
        unsigned char *part = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, shared_fd, page * PAGE);
        CHECK(part != MAP_FAILED && part[1] == round % 256);
        part[1] = (round + 1) % 256;
        munmap(part, PAGE);
    }
    return NULL;
}

static int winners;

static void *races(void *argument)
{
    (void)argument;
    struct request_a request = a("camera", "", PAGE, 0);
    if (ioctl(shared_fd, ALLOC_A, &request) == 0)
        __atomic_add_fetch(&winners, 1, __ATOMIC_SEQ_CST);
    else
        CHECK(errno == EBADFD);
    return NULL;
}

static void eight(void *(*work)(void *))
{
    pthread_t threads[8];
    for (uintptr_t i = 0; i < 8; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    for (int i = 0; i < 8; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static void threads(void)
{
    eight(busy);
    shared_fd = device();
    alloc(shared_fd, 8 * PAGE);
    eight(shares);
    close(shared_fd);
    for (int round = 0; round < 50; round++) {
        shared_fd = device();
        winners = 0;
        eight(races);
        CHECK(winners == 1);
        close(shared_fd);
    }
    CHECK(all_is_free());
}

static void *maps_some(void *argument)
{
    (void)argument;
    for (int round = 0; round < 50; round++)
        munmap(map(shared_fd, PAGE), PAGE);
    return NULL;
}

/* Two files with chunks, and three connections for this user. */
static void connections_taken(void)
{
    int files[] = { device(), device(), device() };
    alloc(files[0], PAGE);
    alloc(files[1], PAGE);
    struct request_a request = a("camera", "", PAGE, 0);
    FAILS(ioctl(files[2], ALLOC_A, &request), EDQUOT);
    munmap(map(files[0], PAGE), PAGE);
    shared_fd = files[1];
    eight(maps_some);
    close(files[0]);
    alloc(files[2], PAGE);
    /* The connection of a file that was closed is free for the next request. */
    for (int i = 0; i < 200; i++) {
        close(files[2]);
        files[2] = device();
        alloc(files[2], PAGE);
    }
}

/* Threads are in the middle of calls when the process forks; the child has none of them. */
static volatile int running = 1;

static void *maps_on(void *fd)
{
    while (running)
        munmap(map((int)(uintptr_t)fd, PAGE), PAGE);
    return NULL;
}

static void fork_with_threads(void)
{
    int fd = device();
    alloc(fd, PAGE);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, maps_on, (void *)(uintptr_t)fd);
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        if (child == 0) {
            munmap(map(fd, PAGE), PAGE);
            _exit(0);
        }
        wait_for_success(child);
    }
    running = 0;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

static volatile int ticks;
static int tick_fd;

static void tick(int signal)
{
    (void)signal;
    ticks++;
    /* Also in the middle of a call of this thread. */
    struct request_a request = a("camera", "", PAGE, 0);
    int before = errno;
    if (ioctl(tick_fd, ALLOC_A, &request) == 0)
        abort();
    if (errno != EBADFD)
        abort();
    errno = before;
}

static void signals(void)
{
    tick_fd = device();
    alloc(tick_fd, PAGE);
    struct sigaction action = { .sa_handler = tick };
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval often = { { 0, 300 }, { 0, 300 } };
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (int round = 0; round < 500 || ticks < 50; round++) {
        int fd = device();
        alloc(fd, PAGE);
        unsigned char *memory = map(fd, PAGE);
        CHECK(memory[0] == 0);
        memory[0] = 1;
        munmap(memory, PAGE);
        munmap(map(tick_fd, PAGE), PAGE);
        close(fd);
    }
}

static void *opens_fifo(void *path)
{
    open(path, O_RDONLY);
    return NULL;
}

/* Other files behave as without the library. */
static void other_files(void)
{
    struct request_a request = a("camera", "", PAGE, 0);
    int number = -1, pair[2];
    char folder[] = "/tmp/cma-others-XXXXXX", path[64];
    CHECK(mkdtemp(folder));
    FAILS(open(NULL, O_RDONLY), EFAULT);
    FAILS(open((char *)8, O_RDWR), EFAULT);
    FAILS(open((char *)8, O_RDWR | O_CREAT, 0600), EFAULT);
    FAILS(openat(AT_FDCWD, (char *)8, O_RDWR), EFAULT);
    FAILS(open("/dev/cm", O_RDONLY), ENOENT);
    FAILS(open("/dev/cma/", O_RDONLY), ENOTDIR);
    FAILS(open("/dev/cma/x", O_RDWR | O_CREAT, 0600), ENOTDIR);
    FAILS(open("/dev/cma/", O_RDWR | O_CREAT, 0600), EISDIR);
    FAILS(open("/tmp/none/cma", O_RDONLY), ENOENT);
    FAILS(open("cma", O_RDONLY), ENOENT);
    FAILS(open("/", O_WRONLY), EISDIR);
    FAILS(open("", O_RDONLY), ENOENT);
    FAILS(openat(12345, "cma", O_RDONLY), EBADF);
    struct stat status;
    struct statx more;
    FAILS(creat((char *)8, 0600), EFAULT);
    FAILS(access(NULL, F_OK), EFAULT);
    FAILS(access((char *)8, F_OK), EFAULT);
    FAILS(access("", F_OK), ENOENT);
    FAILS(access("cma", F_OK), ENOENT);
    FAILS(faccessat(12345, "cma", F_OK, 0), EBADF);
    FAILS(stat((char *)8, &status), EFAULT);
    FAILS(stat("/dev/null", (struct stat *)8), EFAULT);
    FAILS(lstat("/tmp/none/cma", &status), ENOENT);
    FAILS(fstatat(12345, "cma", &status, 0), EBADF);
    FAILS(fstatat(AT_FDCWD, "", &status, 0), ENOENT);
    CHECK(fstatat(AT_FDCWD, "", &status, AT_EMPTY_PATH) == 0 && S_ISDIR(status.st_mode));
    FAILS(fstat(-1, &status), EBADF);
    FAILS(fstat(12345, &status), EBADF);
    FAILS(statx(AT_FDCWD, "/dev/cm", 0, STATX_BASIC_STATS, &more), ENOENT);
    FAILS(statx(AT_FDCWD, (char *)8, 0, STATX_BASIC_STATS, &more), EFAULT);
    CHECK(stat("/dev/null", &status) == 0 && S_ISCHR(status.st_mode) && minor(status.st_rdev) == 3);
    CHECK(freopen(NULL, "r", fopen("/dev/null", "r+")));
    CHECK(freopen("/none", "r", fopen("/dev/null", "r")) == NULL && errno == ENOENT);
    CHECK(fopen("/none", "r") == NULL && errno == ENOENT);
    CHECK(fopen("/dev/null", "q") == NULL && errno == EINVAL);

    /* A file of that name in another folder is an ordinary file, with the permissions of open(). */
    umask(0);
    sprintf(path, "%s/cma", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK(fd >= 0 && fstat(fd, &status) == 0 && (status.st_mode & 07777) == 0640);
    FAILS(open(path, O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST);
    CHECK(write(fd, "text", 4) == 4);
    char *text = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(text != MAP_FAILED && memcmp(text, "text", 4) == 0);
    CHECK(ioctl(fd, FIONREAD, &number) == 0 && number == 0);
    FAILS(ioctl(fd, ALLOC_A, &request), ENOTTY);
    FILE *file = fopen(path, "r");
    CHECK(file && fgetc(file) == 't' && fclose(file) == 0);
    int temporary = open(folder, O_TMPFILE | O_RDWR, 0604);
    CHECK(temporary >= 0 && fstat(temporary, &status) == 0 && (status.st_mode & 07777) == 0604);

    /* Sockets of the types that the library uses. */
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    CHECK(fstat(pair[0], &status) == 0 && S_ISSOCK(status.st_mode));
    CHECK(statx(pair[0], "", AT_EMPTY_PATH, STATX_BASIC_STATS, &more) == 0 && S_ISSOCK(more.stx_mode));
    CHECK(write(pair[0], "ten bytes!", 10) == 10);
    CHECK(ioctl(pair[1], FIONREAD, &number) == 0 && number == 10);
    FAILS(ioctl(pair[1], ALLOC_A, &request), ENOTTY);
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, pair[1], 0), ENODEV);
    FAILS(ioctl(-1, ALLOC_A, &request), EBADF);
    FAILS(ioctl(12345, FIONREAD, &number), EBADF);
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, -1, 0), EBADF);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    int fd_of_device = device();
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, fd_of_device, 0) != MAP_FAILED);

    /* If a filter refuses a call, the kernel has not read its path. */
    pid_t child = fork();
    if (child == 0) {
        struct sock_filter steps[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_statx, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog filter = { .len = 4, .filter = steps };
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0)
            FAILS(statx(0, NULL, 0, STATX_BASIC_STATS, NULL), EPERM);
        _exit(0);
    }
    wait_for_success(child);

    /* A thread that blocks in open can be cancelled. */
    pthread_t waits;
    void *end;
    sprintf(path, "%s/fifo", folder);
    CHECK(mkfifo(path, 0600) == 0);
    CHECK(pthread_create(&waits, NULL, opens_fifo, path) == 0);
    usleep(20000);
    CHECK(pthread_cancel(waits) == 0);
    CHECK(pthread_join(waits, &end) == 0 && end == PTHREAD_CANCELED);
    unlink(path);
    sprintf(path, "%s/cma", folder);
    unlink(path);
    rmdir(folder);
}

static void no_server(void)
{
    FAILS(open(DEVICE, O_RDWR), ENODEV);
    FAILS(open(DEVICE, O_RDWR | O_CREAT, 0600), ENODEV);
    FAILS(open(DEVICE, O_RDWR | O_CREAT | O_EXCL, 0600), ENODEV);
    FAILS(open(DEVICE, O_RDWR | O_DIRECTORY), ENODEV);
    FAILS(creat(DEVICE, 0600), ENODEV);
    CHECK(fopen(DEVICE, "r+") == NULL && errno == ENODEV);
    CHECK(fopen(DEVICE, "w") == NULL && errno == ENODEV);
    FILE *file = fopen("/dev/zero", "r");
    int number = fileno(file);
    CHECK(freopen(DEVICE, "w", file) == NULL && errno == ENODEV);
    FAILS(fcntl(number, F_GETFD), EBADF);
    /* No file was created in its place. */
    struct stat status;
    struct statx more;
    FAILS(access(DEVICE, F_OK), ENOENT);
    FAILS(faccessat(AT_FDCWD, DEVICE, R_OK, 0), ENOENT);
    FAILS(euidaccess(DEVICE, R_OK), ENOENT);
    FAILS(stat(DEVICE, &status), ENOENT);
    FAILS(lstat(DEVICE, &status), ENOENT);
    FAILS(statx(AT_FDCWD, DEVICE, 0, STATX_BASIC_STATS, &more), ENOENT);
    FAILS(syscall(SYS_access, DEVICE, F_OK), ENOENT);
}

static void refused(void)
{
    int fd = device();
    struct request_a request = a("camera", "", PAGE, 0);
    FAILS(ioctl(fd, ALLOC_A, &request), EACCES);
    request = a("video", "", 2 * MIB, 0);
    FAILS(ioctl(fd, ALLOC_A, &request), EDQUOT);
    request = a("video", "", MIB, 0);
    CHECK(ioctl(fd, ALLOC_A, &request) == 0);
}

/* The server ends before this scenario reads a line. */
static void server_ends(void)
{
    int with = device(), without = device();
    alloc(with, PAGE);
    unsigned char *memory = map(with, PAGE);
    puts("ready");
    fflush(stdout);
    CHECK(getchar() == '\n');
    struct request_a request = a("camera", "", PAGE, 0);
    memory[0] = 1;
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, with, 0), ENODEV);
    FAILS(ioctl(without, ALLOC_A, &request), ENODEV);
    FAILS(open(DEVICE, O_RDWR), ENODEV);
    struct stat status;
    FAILS(stat(DEVICE, &status), ENOENT);
    CHECK(fstat(with, &status) == 0);
    is_device(&status);
}

/* The server ends and another one starts on its path before this scenario reads a line. */
static void restarted(void)
{
    int with = device(), without = device();
    alloc(with, PAGE);
    unsigned char *memory = map(with, PAGE);
    puts("ready");
    fflush(stdout);
    CHECK(getchar() == '\n');
    struct request_a request = a("camera", "", PAGE, 0);
    memory[0] = 1;
    FAILS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, with, 0), ENODEV);
    FAILS(ioctl(with, ALLOC_A, &request), EBADFD);
    alloc(without, PAGE);
    CHECK(*map(without, PAGE) == 0);
}

/* Memory in pieces of 64 KiB, like huge pages. */
static void pieces(void)
{
    const size_t piece = 64 * 1024;
    int fd = device();
    alloc(fd, 5 * piece + 1);
    unsigned char *whole = map(fd, 6 * piece);
    FAILS(mmap(NULL, 6 * piece + 1, PROT_READ, MAP_SHARED, fd, 0), ENOSPC);
    for (size_t i = 0; i < 6 * piece; i += PAGE)
        memcpy(whole + i, &i, sizeof i);
    for (size_t from = 0; from < 6 * piece; from += PAGE) {
        for (size_t len = PAGE; from + len <= 6 * piece; len += 13 * PAGE) {
            unsigned char *part = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, from);
            CHECK(part != MAP_FAILED);
            for (size_t i = 0; i < len; i += PAGE)
                CHECK(*(size_t *)(part + i) == from + i);
        }
    }
    unsigned char *place = mmap(NULL, 9 * piece, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    place += piece - (uintptr_t)place % piece;
    CHECK(mmap(place, 3 * piece, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 2 * piece) == place);
    CHECK(*(size_t *)(place + piece) == 3 * piece);
    FAILS(mmap(place, 3 * piece, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 2 * piece), EEXIST);
    FAILS(mmap(place + PAGE, 3 * piece, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0), EINVAL);
    CHECK(munmap(whole, 6 * piece) == 0);
    close(fd);
    /* More pieces than one message has descriptors. */
    fd = device();
    alloc(fd, 600 * piece);
    whole = map(fd, 600 * piece);
    for (size_t i = 0; i < 600; i++)
        whole[i * piece] = i;
    unsigned char *part = mmap(NULL, 3 * piece, PROT_READ, MAP_SHARED, fd, 595 * piece);
    CHECK(part != MAP_FAILED && part[0] == 595 % 256 && part[2 * piece] == 597 % 256);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } scenarios[] = {
        { "opens", opens }, { "queries", queries }, { "access_modes", access_modes }, { "transfers", transfers },
        { "names", names }, { "layouts", layouts }, { "errnos", errnos }, { "mappings", mappings },
        { "references", references }, { "last_reference", last_reference }, { "forks", forks },
        { "concurrent_processes", concurrent_processes }, { "exec", exec_scenario }, { "threads", threads },
        { "fork_with_threads", fork_with_threads }, { "signals", signals }, { "other_files", other_files },
        { "no_server", no_server }, { "refused", refused }, { "server_ends", server_ends }, { "pieces", pieces },
        { "links", links }, { "duplicates", duplicates }, { "stopped", stopped }, { "connections_taken", connections_taken },
        { "restarted", restarted },
    };
    self = argv[0];
    CHECK(argc > 1);
    if (argc == 3) {
        check_access_mode(atoi(argv[2]));
        return 0;
    }
    if (argc == 4) {
        after_exec(atoi(argv[2]), atoi(argv[3]));
        return 0;
    }
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        if (strcmp(argv[1], scenarios[i].name) == 0) {
            scenarios[i].run();
            return 0;
        }
    }
    CHECK(!"a known scenario");
}
