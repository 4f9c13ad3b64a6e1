/* cr/util: what everything else stands on. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "unit.h"
#include "util/arena.h"
#include "util/io.h"
#include "util/log.h"
#include "util/map.h"
#include "util/parallel.h"

TEST("arena memory is zeroed, 16-byte aligned and does not overlap")
{
	struct arena a;
	uint8_t *p[300];

	arena_init(&a);
	for (size_t i = 0; i < ARRAY_SIZE(p); i++) {
		size_t n = i * 37;

		p[i] = arena_alloc(&a, n);
		ASSERT(p[i]);
		ASSERT_EQ((uintptr_t)p[i] % 16, 0);
		for (size_t k = 0; k < n; k++)
			ASSERT_EQ(p[i][k], 0);
		memset(p[i], (int)i, n);
	}
	for (size_t i = 0; i < ARRAY_SIZE(p); i++)
		for (size_t k = 0; k < i * 37; k++)
			ASSERT_EQ(p[i][k], (uint8_t)i);
	arena_done(&a);
	ASSERT(!a.head);
}

TEST("an arena refuses sizes that cannot be")
{
	struct arena a;

	arena_init(&a);
	ASSERT(!arena_alloc(&a, SIZE_MAX));
	ASSERT(!arena_alloc(&a, SIZE_MAX - 8));
	ASSERT(!arena_alloc(&a, SIZE_MAX / 2 + 1));
	ASSERT(arena_alloc(&a, 1 << 20));
	arena_done(&a);
}

TEST("arena strings are copies and end in NUL")
{
	struct arena a;
	char text[] = "redis-server";
	char *p, *q;

	arena_init(&a);
	p = arena_strdup(&a, text);
	q = arena_strndup(&a, text, 5);
	text[0] = 'x';
	ASSERT_STREQ(p, "redis-server");
	ASSERT_STREQ(q, "redis");
	ASSERT_STREQ(arena_printf(&a, "%s-%d", q, 6379), "redis-6379");
	ASSERT_STREQ(arena_strdup(&a, ""), "");
	arena_done(&a);
}

TEST("an array grown in an arena keeps every element")
{
	struct arena a;
	uint32_t *p = NULL, *slot;
	size_t n = 0;

	arena_init(&a);
	for (uint32_t i = 0; i < 10000; i++) {
		slot = ARENA_PUSH(&a, p, n);
		ASSERT(slot);
		*slot = i * 3;
	}
	ASSERT_EQ(n, 10000);
	for (uint32_t i = 0; i < n; i++)
		ASSERT_EQ(p[i], i * 3);
	arena_done(&a);
}

TEST("a map finds what was put, the newest of equal keys, and nothing else")
{
	struct map m = { 0 };
	static int vals[5000];

	ASSERT(!map_get(&m, 0));
	for (uint64_t i = 0; i < ARRAY_SIZE(vals); i++)
		ASSERT_OK(map_put(&m, i * 4096, &vals[i]));
	ASSERT_EQ(m.n, ARRAY_SIZE(vals));
	for (uint64_t i = 0; i < ARRAY_SIZE(vals); i++) {
		ASSERT(map_get(&m, i * 4096) == &vals[i]);
		ASSERT(!map_get(&m, i * 4096 + 1));
	}
	ASSERT_OK(map_put(&m, 8192, &vals[77]));
	ASSERT(map_get(&m, 8192) == &vals[77]);
	ASSERT_EQ(m.n, ARRAY_SIZE(vals));
	ASSERT_OK(map_put(&m, UINT64_MAX, &vals[1]));
	ASSERT(map_get(&m, UINT64_MAX) == &vals[1]);
	map_done(&m);
	ASSERT(!map_get(&m, 0));
}

TEST("numbers are read whole or not at all")
{
	uint64_t u = 1;
	uint32_t v = 1;
	int i = 1;

	ASSERT_OK(parse_u64("18446744073709551615", 10, &u));
	ASSERT(u == UINT64_MAX);
	ASSERT_EQ(parse_u64("18446744073709551616", 10, &u), -ERANGE);
	ASSERT_OK(parse_u64("fF", 16, &u));
	ASSERT_EQ(u, 255);
	ASSERT_EQ(parse_u64("", 10, &u), -EINVAL);
	ASSERT_EQ(parse_u64("-1", 10, &u), -EINVAL);
	ASSERT_EQ(parse_u64(" 1", 10, &u), -EINVAL);
	ASSERT_EQ(parse_u64("+1", 10, &u), -EINVAL);
	ASSERT_EQ(parse_u64("1 ", 10, &u), -EINVAL);
	ASSERT_EQ(parse_u64("a", 10, &u), -EINVAL);
	ASSERT_OK(parse_u32("4294967295", 10, &v));
	ASSERT_EQ(v, UINT32_MAX);
	ASSERT_EQ(parse_u32("4294967296", 10, &v), -ERANGE);
	ASSERT_OK(parse_int("-2147483647", &i));
	ASSERT_EQ(i, -2147483647);
	ASSERT_EQ(parse_int("2147483648", &i), -ERANGE);
	ASSERT_EQ(parse_int("--1", &i), -EINVAL);
	ASSERT_EQ(parse_int("-", &i), -EINVAL);
}

TEST("read_full reads across short reads and tells an early end")
{
	char buf[200000], *big = malloc(sizeof(buf));
	int fd[2];

	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
	memset(big, 'x', sizeof(buf));
	if (!fork()) {
		for (size_t i = 0; i < sizeof(buf); i += 1000)
			if (write_full(fd[1], big + i, 1000) < 0)
				_exit(1);
		_exit(0);
	}
	close(fd[1]);
	ASSERT_OK(read_full(fd[0], buf, sizeof(buf)));
	ASSERT_MEM_EQ(buf, big, sizeof(buf));
	ASSERT_EQ(read_full(fd[0], buf, 1), -ENODATA);
	ASSERT_OK(read_full(fd[0], buf, 0));
	close(fd[0]);
	wait(NULL);
	free(big);
}

TEST("files are written and read at offsets")
{
	char *path = str_fmt("%s/f", unit_tmpdir()), buf[4];
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);

	ASSERT_OK(fd);
	ASSERT_OK(pwrite_full(fd, "abcd", 4, 10));
	ASSERT_OK(pread_full(fd, buf, 4, 10));
	ASSERT_MEM_EQ(buf, "abcd", 4);
	ASSERT_EQ(pread_full(fd, buf, 4, 11), -ENODATA);
	close(fd);
	free(path);
}

TEST("writing to the memory of a process that has ended fails, instead of going on for ever")
{
	char path[32], byte = 0;
	int status, fd;
	pid_t pid = fork();

	ASSERT(pid >= 0);
	if (!pid) {
		pause();
		_exit(0);
	}
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT(fd >= 0);
	ASSERT_OK(pwrite_full(fd, &byte, 1, (off_t)(uintptr_t)&byte));
	ASSERT_OK(kill(pid, SIGKILL));
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT(pwrite_full(fd, &byte, 1, (off_t)(uintptr_t)&byte) < 0);
	ASSERT(pread_full(fd, &byte, 1, (off_t)(uintptr_t)&byte) < 0);
	close(fd);
}

TEST("read_file_at gives whole files, /proc's too, and refuses those beyond the limit")
{
	char *path = str_fmt("%s/f", unit_tmpdir()), *text, *data = malloc(20000);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	size_t n;

	memset(data, 'd', 20000);
	ASSERT_OK(write_full(fd, data, 20000));
	close(fd);
	ASSERT_OK(read_file_at(AT_FDCWD, path, 20000, &text, &n));
	ASSERT_EQ(n, 20000);
	ASSERT_EQ(strlen(text), 20000);
	free(text);
	ASSERT_EQ(read_file_at(AT_FDCWD, path, 19999, &text, &n), -EFBIG);
	ASSERT_EQ(read_file_at(AT_FDCWD, "/nonexistent/file", 100, &text, &n), -ENOENT);
	ASSERT_OK(read_file_at(AT_FDCWD, "/proc/self/stat", 4096, &text, NULL));
	ASSERT_EQ(atoi(text), getpid());
	free(text);
	free(data);
	free(path);
}

TEST("write_file_at writes to an existing file only, write_filef to a composed path")
{
	char *path = str_fmt("%s/f", unit_tmpdir()), *text;

	ASSERT_EQ(write_file_at(AT_FDCWD, path, "1"), -ENOENT);
	close(open(path, O_RDWR | O_CREAT, 0600));
	ASSERT_OK(write_filef("42", "%s/%s", unit_tmpdir(), "f"));
	ASSERT_OK(read_file_at(AT_FDCWD, path, 100, &text, NULL));
	ASSERT_STREQ(text, "42");
	free(text);
	free(path);
}

TEST("readlink_at returns the target as a string")
{
	char *path = str_fmt("%s/l", unit_tmpdir()), *text;

	ASSERT_OK(symlink("pipe:[12345]", path));
	ASSERT_OK(readlink_at(AT_FDCWD, path, &text));
	ASSERT_STREQ(text, "pipe:[12345]");
	free(text);
	ASSERT_EQ(readlink_at(AT_FDCWD, unit_tmpdir(), &text), -EINVAL);
	free(path);
}

static size_t logged(int fd, char *buf, size_t room)
{
	ssize_t n = pread(fd, buf, room - 1, 0);

	ASSERT(n >= 0);
	buf[n] = '\0';
	return (size_t)n;
}

TEST("an error is one line with its scopes and errno, and is returned")
{
	char text[2000];
	int fd = memfd_create("log", 0);

	log_init(LOGLEVEL_WARN, fd);
	{
		LOG_SCOPE("task %d", 712);
		{
			LOG_SCOPE("fd %d", 5);
			ASSERT_EQ(log_err(-EACCES, "cannot open %s", "x"), -EACCES);
		}
		log_warn("odd");
	}
	log_info("not at this level");
	ASSERT_EQ(log_fail(-EBADMSG, "plain"), -EBADMSG);
	logged(fd, text, sizeof(text));
	ASSERT_CONTAINS(text, ") Error: task 712: fd 5: cannot open x: Permission denied\n");
	ASSERT_CONTAINS(text, ") Warn: task 712: odd\n");
	ASSERT_CONTAINS(text, ") Error: plain\n");
	ASSERT(!strstr(text, "level"));
	ASSERT_STREQ(log_first_error(), "task 712: fd 5: cannot open x: Permission denied");
	log_first_error_forget();
	ASSERT_STREQ(log_first_error(), "");
	log_fail(-EIO, "another");
	ASSERT_STREQ(log_first_error(), "another");
	log_init(LOGLEVEL_WARN, fd);
	ASSERT_STREQ(log_first_error(), "");
	close(fd);
}

TEST("a scope inside itself is named once")
{
	log_init(LOGLEVEL_NONE, -1);
	{
		LOG_SCOPE("process %d", 7);
		{
			LOG_SCOPE("process %d", 7);
			LOG_SCOPE("%d", 7);
			LOG_SCOPE("7");
			log_fail(-EIO, "inside");
		}
		ASSERT_STREQ(log_first_error(), "process 7: 7: inside");
		log_first_error_forget();
		log_fail(-EIO, "outside");
		ASSERT_STREQ(log_first_error(), "process 7: outside");
	}
	log_first_error_forget();
	log_fail(-EIO, "after");
	ASSERT_STREQ(log_first_error(), "after");
	log_first_error_forget();
}

TEST("endless texts and scopes are cut, still one line, and scopes unwind")
{
	char text[8000], longer[3000];
	int fd = memfd_create("log", 0);
	size_t n;

	memset(longer, 'y', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	log_init(LOGLEVEL_ERROR, fd);
	for (int i = 0; i < 2; i++) {
		LOG_SCOPE("%s", longer);
		LOG_SCOPE("inner");
		log_fail(-EIO, "%s", longer);
	}
	log_fail(-EIO, "after");
	n = logged(fd, text, sizeof(text));
	ASSERT_EQ(text[n - 1], '\n');
	ASSERT_CONTAINS(text, ") Error: after\n");
	n = 0;
	for (const char *p = text; (p = strchr(p, '\n')); p++)
		n++;
	ASSERT_EQ(n, 3);
	close(fd);
}

static char obstacle[500];

static void take_obstacle(void *arg, const char *scope, const char *what, const char *remedy)
{
	ASSERT(arg == obstacle);
	snprintf(obstacle, sizeof(obstacle), "%s|%s|%s", scope, what, remedy);
}

TEST("an obstacle reaches the collector with its scope and remedy")
{
	log_init(LOGLEVEL_NONE, -1);
	log_obstacles_set(take_obstacle, obstacle);
	{
		LOG_SCOPE("task %d", 3);
		ASSERT_EQ(log_obstacle("close it", "an io_uring (fd %d)", 9), -EOPNOTSUPP);
	}
	ASSERT_STREQ(obstacle, "task 3|an io_uring (fd 9)|close it");
	ASSERT_STREQ(log_first_error(), "task 3: an io_uring (fd 9) (close it)");
	log_obstacles_set(NULL, NULL);
}

struct pieces {
	unsigned char done[64];
	bool own_fails;
};

/* As /proc/PID/mem does it for who is not the tracer. */
static int only_the_caller(void *arg, unsigned int worker, uint64_t off, size_t n)
{
	struct pieces *p = arg;

	ASSERT(n == (off == 63 * 16 ? 7 : 16) && off % 16 == 0);
	if (worker || p->own_fails)
		return -EIO;
	usleep(200);	/* the others have their turn */
	p->done[off / 16]++;
	return 0;
}

TEST("what other threads are refused is done by the caller's own, each piece once")
{
	struct pieces p = { 0 };

	ASSERT_OK(parallel(63 * 16 + 7, 16, only_the_caller, &p));
	for (size_t i = 0; i < 64; i++)
		ASSERT_EQ(p.done[i], 1);
	p.own_fails = true;
	ASSERT_EQ(parallel(63 * 16 + 7, 16, only_the_caller, &p), -EIO);
	ASSERT_OK(parallel(0, 16, only_the_caller, &p));
}
