/*
 * A maker: a program that brings itself into a state, waits while it is dumped, killed and
 * restored, and then tells whether the state is still there.
 *
 *	int main(int argc, char **argv)
 *	{
 *		maker_begin(argc, argv);
 *		if (maker_sets_up()) { ... }
 *		maker_ready();
 *		maker_wait();
 *		if (...) maker_fail("the counter is %d", n);
 *		maker_ok();
 *	}
 *
 * argv[1] is a log file: "ready", then "ok" or "FAIL: ..." are appended to it. The runner sends
 * SIGUSR1 when the maker shall look. With MAKER_BLANK in the environment nothing is set up: a
 * runner gives such a process another one's saved state, part by part.
 */
#ifndef TESTS_LIVE_MAKER_H
#define TESTS_LIVE_MAKER_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int maker_log_fd = -1;

__attribute__((unused, format(printf, 1, 2))) static void maker_log(const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n < 0 || n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	if (write(maker_log_fd, line, (size_t)n) != n)
		_exit(3);
}

__attribute__((unused, noreturn, format(printf, 1, 2))) static void maker_fail(const char *fmt, ...)
{
	char text[900];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	maker_log("FAIL: %s", text);
	_exit(1);
}

__attribute__((unused, noreturn)) static void maker_ok(void)
{
	maker_log("ok");
	_exit(0);
}

/* The machine cannot hold this state: the runner reports a skip with the reason. */
__attribute__((unused, noreturn, format(printf, 1, 2))) static void maker_skip(const char *fmt, ...)
{
	char text[900];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	maker_log("SKIP: %s", text);
	_exit(77);
}

/* A set-up call that must work: names the place. */
#define MAKER_MUST(cond)							\
	do {									\
		if (!(cond))							\
			maker_fail("%s:%d: %s: %s", __FILE__, __LINE__, #cond,	\
				   strerror(errno));				\
	} while (0)
#define MAKER_SAME(what, is, should)						\
	do {									\
		long long _is = (long long)(is), _should = (long long)(should);	\
		if (_is != _should)						\
			maker_fail("%s is %lld (0x%llx), not %lld (0x%llx)", what, _is,	\
				   (unsigned long long)_is, _should,		\
				   (unsigned long long)_should);		\
	} while (0)

/* New session, log opened, SIGUSR1 blocked (threads inherit that), modes as they are asked for. */
__attribute__((unused)) static void maker_begin(int argc, char **argv)
{
	sigset_t set;

	if (argc < 2) {
		fprintf(stderr, "usage: %s LOG\n", argv[0]);
		exit(2);
	}
	maker_log_fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0666);
	if (maker_log_fd < 0) {
		perror(argv[1]);
		exit(2);
	}
	setsid();
	umask(022);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

/* For names that others on this machine must not have: the pid, or what a runner in a PID namespace gives. */
__attribute__((unused)) static int maker_number(void)
{
	const char *s = getenv("MAKER_NUMBER");

	return s ? atoi(s) : getpid();
}

__attribute__((unused)) static bool maker_sets_up(void)
{
	return !getenv("MAKER_BLANK");
}

/* Leaves out what CRIU cannot bring back: only for tests/vm/test_interop.py. */
__attribute__((unused)) static bool maker_is_plain(void)
{
	return getenv("MAKER_PLAIN");
}

__attribute__((unused)) static void maker_ready(void)
{
	maker_log("ready");
	if (write(STDOUT_FILENO, "ready\n", 6) != 6)
		_exit(3);
}

/* Until SIGUSR1, through any number of interruptions. */
__attribute__((unused)) static void maker_wait(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	while (sigwaitinfo(&set, NULL) != SIGUSR1)
		if (errno != EINTR)
			_exit(3);
}

/* The number behind "Key:" in /proc/self/task/TID/status; -1 if there is none. */
__attribute__((unused)) static long long maker_status(int tid, const char *key, int base)
{
	char path[64], line[512];
	long long v = -1;
	size_t n = strlen(key);
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
	f = fopen(path, "r");
	MAKER_MUST(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, n) && line[n] == ':')
			v = strtoll(line + n + 1, NULL, base);
	fclose(f);
	return v;
}

/* A short file of /proc/PID; empty if there is none. */
__attribute__((unused)) static void maker_read_proc(int pid, const char *name, char *text, size_t room)
{
	char path[64];
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, room - 1);
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
}

/* Whether a process or thread sits in this call and waits. */
__attribute__((unused)) static bool maker_is_in_call(int tid, long nr)
{
	char text[128];
	long is = -1;

	maker_read_proc(tid, "syscall", text, sizeof(text));
	return sscanf(text, "%ld", &is) == 1 && is == nr;
}

__attribute__((unused)) static void maker_await_call(int tid, long nr)
{
	for (int try = 0; try < 15000; try++) {
		if (maker_is_in_call(tid, nr))
			return;
		usleep(1000);
	}
	maker_fail("process or thread %d does not call number %ld", tid, nr);
}

/* The letter in /proc/PID/stat; 0 if there is none, or if the name is another one (NULL: any). */
__attribute__((unused)) static char maker_state(pid_t pid, const char *name)
{
	char text[512], *begin, *end;

	maker_read_proc(pid, "stat", text, sizeof(text));
	begin = strchr(text, '(');
	end = strrchr(text, ')');
	if (!begin || !end)
		return 0;
	*end = '\0';
	return !name || !strcmp(begin + 1, name) ? end[2] : 0;
}

__attribute__((unused)) static void maker_await_stop(pid_t pid)
{
	for (int try = 0; try < 1000; try++) {
		if (maker_state(pid, NULL) == 'T')
			return;
		usleep(10000);
	}
	maker_fail("process %d is not stopped but %c", pid, maker_state(pid, NULL));
}

/* Shared memory of a family: until it has come that far. */
__attribute__((unused)) static void maker_await(const int *what, int value)
{
	for (int try = 0; try < 60000; try++) {
		if (__atomic_load_n(what, __ATOMIC_ACQUIRE) >= value)
			return;
		usleep(2000);
	}
	_exit(9);
}

/* The status with which a child ends, whenever that is. */
__attribute__((unused)) static void maker_ends_with(pid_t pid, int status)
{
	int is;

	MAKER_MUST(waitpid(pid, &is, 0) == pid);
	MAKER_MUST(WIFEXITED(is) && WEXITSTATUS(is) == status);
}

__attribute__((unused)) static int maker_tid(void)
{
	return (int)syscall(SYS_gettid);
}

#endif
