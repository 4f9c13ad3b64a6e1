/*
 * Front and worker. The front holds the terminal and waits; the worker, in a session of its
 * own, runs the phases.
 *
 *   the front gets SIGINT, SIGTERM, SIGHUP   it says "stop" through a pipe, the worker undoes
 *   ... which were ignored (nohup)           it goes on
 *   the front is killed                      the pipe closes, the worker undoes
 *   the worker is killed                     the front undoes, by the undo log
 *   both are killed                          the guard unit undoes (guard.c)
 *
 * Dump processes of a killed worker become the front's children and are waited for first.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "crkexec/commands.h"
#include "crkexec/lock.h"
#include "crkexec/paths.h"
#include "util/io.h"
#include "util/log.h"

/* An orphaned dump takes seconds; one that hangs must not hang the recovery. */
#define ORPHAN_SECONDS	60
#define KILLED_SECONDS	5
#define LOCK_TRIES	20

static int say(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int say(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("crkexec: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	return status;
}

static int make_id(char *id)
{
	uint64_t v;

	if (getrandom(&v, sizeof(v), 0) != sizeof(v))
		return -EIO;
	snprintf(id, LOCK_ID_BYTES, "%016llx", (unsigned long long)v);
	return 0;
}

/* A guard that has nothing to do holds the lock for a moment after each upgrade. */
static int take_lock(void)
{
	int fd = -EWOULDBLOCK;

	for (int i = 0; i < LOCK_TRIES && fd == -EWOULDBLOCK; i++) {
		pid_t pid = 0;
		char id[LOCK_ID_BYTES];

		if (i)
			usleep(50000);
		fd = lock_take(false);
		if (fd == -EWOULDBLOCK && lock_holder(&pid, id) > 0 && pid > 0 && kill(pid, 0) == 0)
			break;
	}
	return fd;
}

static int refuse_second(void)
{
	char id[LOCK_ID_BYTES];
	pid_t pid = 0;

	if (lock_holder(&pid, id) > 0 && pid)
		return say(EXIT_FAILURE, "another upgrade is under way: pid %d, id %s", pid, id);
	return say(EXIT_FAILURE, "another crkexec holds %s/lock", CRKEXEC_RUN_DIR);
}

static void __attribute__((noreturn)) worker(const struct options *opt, const char *id, int life_fd)
{
	struct upgrade u;
	sigset_t none;
	int status = EXIT_FAILURE;

	setsid();
	prctl(PR_SET_NAME, "crkexec-worker");
	signal(SIGPIPE, SIG_IGN);
	/* Ends by the pipe, after undoing, not by a signal that meant the front. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Linux kills big ones first; this one holds the machine's services. */
	(void)!write_file_at(AT_FDCWD, "/proc/self/oom_score_adj", "-900");
	if (upgrade_init(&u, opt, id, life_fd) < 0)
		say(EXIT_FAILURE, "cannot begin: %s",
		    *log_first_error() ? log_first_error() : "out of memory");
	else
		status = upgrade_main(&u);
	upgrade_done(&u);
	exit(status);
}

/* A blocked signal waits for us even if nohup(1), say, had it ignored: so that one is left out. */
static void front_signals(sigset_t *set)
{
	static const int stops[] = { SIGINT, SIGTERM, SIGHUP };

	sigemptyset(set);
	sigaddset(set, SIGCHLD);
	for (size_t i = 0; i < ARRAY_SIZE(stops); i++) {
		struct sigaction sa;

		if (sigaction(stops[i], NULL, &sa) == 0 && sa.sa_handler != SIG_IGN)
			sigaddset(set, stops[i]);
	}
}

/* Reaps until the worker has ended; its wait status. */
static int wait_worker(pid_t pid, int pipe_fd)
{
	sigset_t set;
	int signo, status;

	front_signals(&set);
	for (;;) {
		pid_t got = waitpid(pid, &status, WNOHANG);

		if (got == pid)
			return status;
		if (sigwait(&set, &signo) != 0 || signo == SIGCHLD)
			continue;
		/* It has just ended if this fails; the next turn sees it. */
		(void)!write(pipe_fd, "x", 1);
		say(0, "stopping, what was done is being undone ...");
	}
}

/* 0: no child is left. */
static int reap_orphans(int seconds)
{
	for (int i = 0; i < seconds * 20; i++) {
		pid_t got = waitpid(-1, NULL, WNOHANG);

		if (got < 0)
			return 0;
		if (got == 0)
			usleep(50000);
	}
	return -ETIMEDOUT;
}

/* A dump that ends after the recovery would freeze its service again, as it found it. */
static void wait_orphans(pid_t worker)
{
	if (reap_orphans(ORPHAN_SECONDS) == 0)
		return;
	kill(-worker, SIGKILL);	/* its session's first group, and they are in no other */
	(void)!reap_orphans(KILLED_SECONDS);
}

static int after_kill(const char *id, pid_t worker, int status, const char *phase)
{
	int r;

	/* Nothing is said before: standard error may be a file, its file system frozen. */
	wait_orphans(worker);
	log_init(LOGLEVEL_WARN, -1);
	r = recover_upgrade(id);
	say(0, "the worker was killed by signal %d in phase %s", WTERMSIG(status), phase);
	if (r < 0)
		return say(EXIT_NOT_UNDONE, "NOT everything could be undone: %s; crkexec-guard-%s tries again, "
			   "see `crkexec status`", strerror(-r), id);
	return say(EXIT_FAILURE, "Nothing was changed: the services run as before.");
}

static void block_signals(void)
{
	sigset_t set;

	front_signals(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* Ignored, as whoever calls us may have left it, it would not tell that the worker has ended. */
	signal(SIGCHLD, SIG_DFL);
	/* While it is stopped, nobody would undo what a killed worker has left. */
	signal(SIGTSTP, SIG_IGN);
}

static int begin_failed(const char *dir)
{
	say(0, "cannot begin: %s", strerror(errno));
	rmdir(dir);
	return EXIT_FAILURE;
}

static int front(const struct options *opt, const char *id, const char *dir)
{
	_cleanup_free_ char *phase = NULL, *path = str_fmt("%s/phase", dir);
	int p[2], status;
	pid_t pid;

	if (!path || pipe2(p, O_CLOEXEC) < 0)
		return begin_failed(dir);
	block_signals();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid = fork();
	if (pid < 0)
		return begin_failed(dir);
	if (pid == 0) {
		close(p[1]);
		worker(opt, id, p[0]);
	}
	close(p[0]);
	status = wait_worker(pid, p[1]);
	if (WIFEXITED(status)) {
		close(p[1]);
		/* What could not be undone has been said; the guard finds it here and tries again. */
		if (WEXITSTATUS(status) != EXIT_NOT_UNDONE && remove_tree(dir) < 0)
			say(0, "cannot remove %s", dir);
		return WEXITSTATUS(status);
	}
	if (read_file_at(AT_FDCWD, path, 64, &phase, NULL) < 0)
		phase = NULL;
	return after_kill(id, pid, status, phase ? phase : "?");
}

int command_upgrade(const struct options *opt)
{
	_cleanup_free_ char *dir = NULL;
	char id[LOCK_ID_BYTES], old[LOCK_ID_BYTES];
	int fd, status;

	if (geteuid() != 0)
		return say(EXIT_FAILURE, "only root can replace the kernel");
	fd = take_lock();
	if (fd == -EWOULDBLOCK)
		return refuse_second();
	if (fd < 0)
		return say(EXIT_FAILURE, "cannot take the lock %s/lock: %s", CRKEXEC_RUN_DIR,
			   strerror(-fd));
	if (recover_all(old) < 0) {
		lock_drop(&fd);
		return say(EXIT_FAILURE, "not all of the interrupted upgrade %s could be undone; put right what "
			   "is named above, then try again. To forget about it: rm -r %s/%s", old,
			   CRKEXEC_RUN_DIR, old);
	}
	if (*old)
		say(0, "undid what the interrupted upgrade %s had left", old);
	if (make_id(id) < 0 || lock_write(fd, id) < 0 ||
	    !(dir = str_fmt("%s/%s", CRKEXEC_RUN_DIR, id)) || mkdir(dir, 0700) < 0)
		status = say(EXIT_FAILURE, "cannot make a directory in %s: %s", CRKEXEC_RUN_DIR,
			     strerror(errno));
	else
		status = front(opt, id, dir);
	lock_drop(&fd);
	return status;
}
