/*
 * A workload: sets up what its argument says, writes "ready" to standard output and sleeps.
 * Upon SIGUSR1 it looks whether everything is still there and writes "ok" or what is missing.
 */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void bench_say(const char *text)
{
	if (write(STDOUT_FILENO, text, strlen(text)) < 0)
		_exit(3);
}

static void bench_need(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	_exit(2);
}

/* argv[1], or the default. */
static long bench_begin(int argc, char **argv, long otherwise)
{
	struct rlimit lim;
	sigset_t set;

	/* Threads and children inherit the mask: the signal is for bench_wait(). */
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	return argc > 1 ? strtol(argv[1], NULL, 10) : otherwise;
}

/* After "ready": until the runner asks; for ever after the answer of the caller. */
static void bench_wait(void)
{
	sigset_t set;
	int signo;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	while (sigwait(&set, &signo) != 0 || signo != SIGUSR1)
		;
}

#endif
