/* A failing disk and a clock that is wrong, for tests: a library that is loaded before libc (ld.so(8), LD_PRELOAD).
 *
 * FAULTS names a folder, and what goes wrong is what files it holds:
 *   fsync        fsync and fdatasync fail with EIO
 *   fsync-once   the next one does, and those after it succeed, as Linux has it (fsync(2))
 *   read-only    writes fail with EROFS
 *   slow-clock   the clock on the wall is an hour behind
 * The disk is that of the files whose path holds FAULTS_FILE. With FAULTS_KILL=n the process is killed at its n-th
 * fsync of such a file, before it (n > 0) or after it (n < 0). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int path_of(const char *fault, char *path, size_t length)
{
	const char *folder = getenv("FAULTS");
	return folder && snprintf(path, length, "%s/%s", folder, fault) < (int)length;
}

static int is_on(const char *fault)
{
	char path[4096];
	return path_of(fault, path, sizeof path) && access(path, F_OK) == 0;
}

/* Whoever removes the file has the fault. */
static int takes(const char *fault)
{
	char path[4096];
	return path_of(fault, path, sizeof path) && unlink(path) == 0;
}

static int concerns(int fd)
{
	const char *part = getenv("FAULTS_FILE");
	char link[64], target[4096];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, target, sizeof target - 1);
	if (!part || length < 0)
		return 0;
	target[length] = 0;
	return strstr(target, part) != NULL;
}

static int sync_with(long call, int fd)
{
	static int count;
	if (!concerns(fd))
		return syscall(call, fd);
	int saved = errno;
	if (takes("fsync-once") || is_on("fsync")) {
		errno = EIO;
		return -1;
	}
	errno = saved;
	const char *kills = getenv("FAULTS_KILL");
	int at = kills ? atoi(kills) : 0;
	int now = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
	if (at > 0 && now == at)
		raise(SIGKILL);
	int result = syscall(call, fd);
	if (at < 0 && now == -at)
		raise(SIGKILL);
	return result;
}

int fsync(int fd) { return sync_with(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_with(SYS_fdatasync, fd); }

static int is_refused(int fd)
{
	int saved = errno;
	if (is_on("read-only") && concerns(fd)) {
		errno = EROFS;
		return 1;
	}
	errno = saved;
	return 0;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset)
{
	return is_refused(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, count, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return pwrite64(fd, bytes, count, offset); }

ssize_t write(int fd, const void *bytes, size_t count)
{
	return is_refused(fd) ? -1 : syscall(SYS_write, fd, bytes, count);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
	int result = syscall(SYS_clock_gettime, clock, time);
	if (result == 0 && clock == CLOCK_REALTIME) {
		int saved = errno;
		if (is_on("slow-clock"))
			time->tv_sec -= 3600;
		errno = saved;
	}
	return result;
}
