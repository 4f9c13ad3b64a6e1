/* Runs the registered tests, each in a process of its own, and reports in TAP. */
#define _GNU_SOURCE
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "unit.h"

#define SKIPPED		77
#define SECONDS		120u

static struct unit_test *first, **last = &first;

/* Shared with the process of the running test. */
static struct shared {
	char reason[256];	/* of a skip */
	char tmp[64];		/* its directory, if it asked for one */
} *shared;

void unit_add(struct unit_test *t)
{
	*last = t;
	last = &t->next;
}

void unit_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	printf("# %s:%d: ", file, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	/* Not exit(): leaks of a failed test are of no interest. */
	_exit(1);
}

void unit_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(shared->reason, sizeof(shared->reason), fmt, ap);
	va_end(ap);
	fflush(stdout);
	_exit(SKIPPED);
}

const char *unit_tmpdir(void)
{
	if (!shared->tmp[0]) {
		char path[sizeof(shared->tmp)] = "/tmp/crk-unit.XXXXXX";

		if (!mkdtemp(path))
			unit_fail(__FILE__, __LINE__, "mkdtemp: %s", strerror(errno));
		strcpy(shared->tmp, path);
	}
	return shared->tmp;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	/* What cannot be removed (a mount point) must not stop the rest. */
	if (remove(path))
		printf("# cannot remove %s: %s\n", path, strerror(errno));
	return 0;
}

/* The test's exit status, or 128 + signal, or negative. */
static int run(const struct unit_test *t)
{
	int status;
	pid_t pid;

	memset(shared, 0, sizeof(*shared));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(SECONDS);
		umask(022);
		t->run();
		fflush(stdout);
		/* exit(), for the leak check of a sanitized build. */
		exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	if (shared->tmp[0])
		nftw(shared->tmp, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool is_selected(const struct unit_test *t, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strstr(t->name, argv[i]) || strstr(t->file, argv[i]))
			return true;
	return argc < 2;
}

/* Whether the test failed. */
static bool report(const struct unit_test *t, int n, int status)
{
	if (status == SKIPPED && shared->reason[0]) {
		printf("ok %d - %s # SKIP %s\n", n, t->name, shared->reason);
		return false;
	}
	if (!status) {
		printf("ok %d - %s\n", n, t->name);
		return false;
	}
	if (status > 128)
		printf("# ended by signal %d (%s)%s\n", status - 128, strsignal(status - 128),
		       status - 128 == SIGALRM ? ": took too long" : "");
	printf("not ok %d - %s\n# in %s\n", n, t->name, t->file);
	return true;
}

int main(int argc, char **argv)
{
	int n = 0, failed = 0;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	for (const struct unit_test *t = first; t; t = t->next) {
		if (is_selected(t, argc, argv)) {
			int status = run(t);

			failed += report(t, ++n, status);
		}
	}
	printf("1..%d\n", n);
	/* No test at all is a mistake in the selection, not a success. */
	return failed || !n;
}
