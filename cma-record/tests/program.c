// A program whose buffers are known, one part for each test.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, strerror(errno)); \
            abort(); \
        } \
    } while (0)

// Keeps the compiler from leaving out an allocation.
static void *volatile kept;
// A size that no machine has, which the compiler does not check.
static volatile size_t too_much = SIZE_MAX / 2;

static void *block(size_t size)
{
    void *block = malloc(size);
    CHECK(block != NULL);
    kept = block;
    memset(block, 1, size);
    return block;
}

static void heap(void)
{
    void *p = block(10001);
    free(block(4095));
    free(p);
    p = calloc(3, 4001);
    CHECK(p != NULL && ((char *)p)[12002] == 0);
    p = realloc(p, 20001);
    CHECK(p != NULL && realloc(p, too_much) == NULL);
    CHECK(reallocarray(p, too_much, 3) == NULL && errno == ENOMEM);
    p = reallocarray(p, 3, 10001);
    CHECK(p != NULL);
    p = realloc(p, 100);
    p = realloc(p, 40001);
    free(p);
    p = aligned_alloc(8192, 16384);
    CHECK(p != NULL && (uintptr_t)p % 8192 == 0);
    free(p);
    CHECK(posix_memalign(&p, 64, 50001) == 0);
    CHECK(posix_memalign(&p, 3, 50002) == EINVAL);
    free(p);
    free(memalign(128, 60001));
    free(valloc(70001));
    free(pvalloc(70001));
    CHECK(malloc(too_much) == NULL);
    free(NULL);
    errno = 77;
    free(block(5001));
    CHECK(errno == 77);
}

static char *map(void *at, size_t length, int protection, int flags)
{
    char *p = mmap(at, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    CHECK(p != MAP_FAILED);
    kept = p;
    return p;
}

#define RW (PROT_READ | PROT_WRITE)

static void mappings(void)
{
    size_t page = 4096;
    char *reserved = map(NULL, 64 * page, PROT_NONE, 0);
    map(reserved, 16 * page, RW, MAP_FIXED);
    // The middle of it: two parts remain.
    CHECK(munmap(reserved + 4 * page, 2 * page) == 0);
    CHECK(munmap(reserved + 1, page) == -1 && errno == EINVAL);
    // Everything, with a part that was never recorded.
    CHECK(munmap(reserved, 64 * page) == 0);
    char *p = map(NULL, 100 * page - 5, RW, 0);
    p = mremap(p, 100 * page, 200 * page, MREMAP_MAYMOVE);
    CHECK(p != MAP_FAILED);
    CHECK(mremap(p, 200 * page, (size_t)1 << 60, MREMAP_MAYMOVE) == MAP_FAILED);
    // A reservation over it gives it back.
    map(p, 200 * page, PROT_NONE, MAP_FIXED);
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0);
    CHECK(mmap(NULL, 8 * page, PROT_READ, MAP_PRIVATE, file, 0) != MAP_FAILED);
    close(file);
}

static int memory_file(size_t size)
{
    int file = memfd_create("test", MFD_CLOEXEC);
    CHECK(file >= 0 && ftruncate(file, size) == 0);
    return file;
}

static void memory_files(void)
{
    int file = memory_file(300000);
    char *p = mmap(NULL, 300000, RW, MAP_SHARED, file, 0);
    char *q = mmap(NULL, 300000, RW, MAP_SHARED, file, 0);
    CHECK(p != MAP_FAILED && q != MAP_FAILED);
    close(file);
    CHECK(munmap(p, 300000) == 0);
    free(block(11111));
    CHECK(munmap(q, 4096) == 0);
    free(block(22222));
    CHECK(munmap(q + 4096, 300000 - 4096) == 0);
    file = memory_file(400000);
    CHECK(ftruncate(file, 500000) == 0 && ftruncate(file, 500000) == 0);
    // The number of the descriptor is used again without a call that the library sees.
    CHECK(syscall(SYS_close, file) == 0);
    CHECK(memory_file(600000) == file);
    close(file);
}

#define THREADS 8
#define ROUNDS 5000
static void *volatile shelf[64];

static void *work(void *number)
{
    prctl(PR_SET_NAME, (uintptr_t)number % 2 ? "odd one" : "even=1");
    unsigned seed = (uintptr_t)number + 1;
    for (int n = 0; n < ROUNDS; n++) {
        // A block that another thread put there is freed here.
        free(__atomic_exchange_n(&shelf[rand_r(&seed) % 64], malloc(8192), __ATOMIC_ACQ_REL));
    }
    return NULL;
}

static void threads(void)
{
    pthread_t threads[THREADS];
    for (uintptr_t n = 0; n < THREADS; n++)
        CHECK(pthread_create(&threads[n], NULL, work, (void *)n) == 0);
    for (int n = 0; n < THREADS; n++)
        pthread_join(threads[n], NULL);
    for (int n = 0; n < 64; n++)
        free(shelf[n]);
}

static void wait_for(pid_t child)
{
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
}

static void forks(void)
{
    void *inherited = block(10001);
    pid_t child = fork();
    if (child == 0) {
        block(20001);
        free(inherited);
        free(block(30001));
        _exit(0);
    }
    wait_for(child);
    block(40001);
    // A child that the C library's functions for fork do not see.
    child = syscall(SYS_fork);
    if (child == 0) {
        free(inherited);
        block(50001);
        kill(getpid(), SIGKILL);
    }
    wait_for(child);
    // The runner notices the end of a killed process by itself.
    usleep(200000);
    free(inherited);
    block(60001);
}

static char *own_path;

static void execs(void)
{
    block(10001);
    char *arguments[] = {own_path, "exec-end", NULL};
    char *environment[] = {"LD_PRELOAD=", "A=b", NULL};
    execve(own_path, arguments, environment);
    abort();
}

static void exec_end(void)
{
    CHECK(strcmp(getenv("A"), "b") == 0);
    free(block(20001));
    clearenv();
    char *arguments[] = {own_path, "leaf", NULL};
    execvp(own_path, arguments);
    abort();
}

static void leaf(void)
{
    free(block(30001));
}

static void spawns(void)
{
    char *arguments[] = {own_path, "leaf", NULL};
    char *environment[] = {NULL};
    pid_t child;
    block(10001);
    CHECK(posix_spawn(&child, own_path, NULL, NULL, arguments, environment) == 0);
    wait_for(child);
    child = fork();
    if (child == 0) {
        block(15001);
        // A child of vfork has its parent's memory, and its end is not that of its parent.
        pid_t grandchild = vfork();
        if (grandchild == 0) {
            execve("/nowhere", arguments, environment);
            _exit(1);
        }
        wait_for(grandchild);
        free(block(16001));
        _exit(0);
    }
    wait_for(child);
    child = vfork();
    if (child == 0) {
        execve(own_path, arguments, environment);
        _exit(1);
    }
    wait_for(child);
    free(block(40001));
}

static void killed(void)
{
    block(10001);
    block(20001);
    kill(getpid(), SIGKILL);
}

static void closes(void)
{
    syscall(SYS_close_range, 3, ~0U, 0);
    for (int n = 0; n < 20000; n++)
        free(block(10001));
}

static volatile int signals;

static void on_signal(int signal)
{
    (void)signal;
    munmap(map(NULL, 65536, RW, 0), 65536);
    signals++;
}

static void interrupted(void)
{
    signal(SIGALRM, on_signal);
    struct itimerval often = {{0, 100}, {0, 100}};
    setitimer(ITIMER_REAL, &often, NULL);
    while (signals < 500)
        free(block(10001));
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, NULL);
    char text[32];
    (void)!write(1, text, snprintf(text, sizeof text, "%d", signals));
}

static void many(void)
{
    for (int n = 0; n < 20000; n++)
        free(block(10001));
    puts("done");
}

static void daemon_stays(void)
{
    pid_t child = fork();
    if (child == 0) {
        setsid();
        block(10001);
        close(0), close(1), close(2);
        sleep(5);
        _exit(0);
    }
    usleep(300000);
}

int main(int argc, char **argv)
{
    own_path = argv[0];
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"heap", heap},           {"mappings", mappings}, {"memory-files", memory_files},
        {"threads", threads},     {"forks", forks},       {"execs", execs},
        {"exec-end", exec_end},   {"leaf", leaf},         {"spawns", spawns},
        {"killed", killed},       {"closes", closes},     {"interrupted", interrupted},
        {"many", many},           {"daemon", daemon_stays},
    };
    for (size_t n = 0; n < sizeof parts / sizeof *parts; n++) {
        if (argc == 2 && strcmp(argv[1], parts[n].name) == 0) {
            parts[n].run();
            return 0;
        }
    }
    return 64;
}
