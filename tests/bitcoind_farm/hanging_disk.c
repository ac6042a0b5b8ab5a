/* A disk that hangs for as long as a file exists: put before the C library by a test. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static void wait_for_disk(void)
{
    const char *hangs = getenv("HEADFRAME_TEST_HANGS");
    while (hangs && access(hangs, F_OK) == 0)
        usleep(1000);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at)
{
    wait_for_disk();
    ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
    return real(fd, bytes, count, at);
}

int fdatasync(int fd)
{
    wait_for_disk();
    int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
    return real(fd);
}
