/* The front of crkexec: which signals stop an upgrade, and what it says when it cannot begin. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "crkexec/commands.h"
#include "crkexec/lock.h"
#include "crkexec/paths.h"
#include "unit.h"
#include "util/io.h"

/* A machine with a systemd that never answers: the worker waits in its first phase. */
static void silent_systemd(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/private" };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("crk-unit", "/run", "tmpfs", 0, NULL) < 0 ||
	    mount("crk-unit", "/sys/fs/cgroup", "cgroup2", 0, NULL) < 0)
		unit_skip("no /run of its own: %s", strerror(errno));
	ASSERT_OK(make_dirs("/run/systemd/system"));
	ASSERT_OK(bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
	ASSERT_OK(listen(fd, 8));
}

static pid_t start(enum verb verb, int err_fd)
{
	struct options opt = { .verb = verb };
	pid_t pid = fork();

	if (pid == 0) {
		/* With a parent in another group of the session it can be stopped as from a shell. */
		setpgid(0, 0);
		dup2(err_fd, STDERR_FILENO);
		if (strv_add(&opt.services, "crk-unit") < 0)
			_exit(99);
		_exit(command_upgrade(&opt));
	}
	ASSERT_OK(pid);
	return pid;
}

/* By then the front waits for signals. */
static void wait_plan(void)
{
	for (int i = 0; i < 1000; i++) {
		char id[LOCK_ID_BYTES], path[64], text[8] = "";
		pid_t pid;
		int fd;

		usleep(10000);
		if (lock_holder(&pid, id) <= 0 || !pid)
			continue;
		snprintf(path, sizeof(path), "/run/crkexec/%s/phase", id);
		fd = open(path, O_RDONLY);
		if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && !strcmp(text, "plan"))
			return;
		close(fd);
	}
	unit_fail(__FILE__, __LINE__, "no phase plan");
}

static pid_t child_of(pid_t pid)
{
	char path[64], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		unit_skip("no %s", path);
	close(fd);
	return atoi(text);
}

/*
 * What the front says when it gets the signal, to which it says first (NULL: nothing), and then its
 * worker is killed.
 */
static void say_after(int signo, const char *first, char *text, size_t bytes)
{
	int p[2], status;
	ssize_t n = 0, got;
	pid_t front;

	alarm(60);

	silent_systemd();
	ASSERT_OK(pipe(p));
	front = start(VERB_CHECK, p[1]);
	signal(SIGCHLD, SIG_DFL);	/* a test may have ignored it, for the front */
	close(p[1]);
	wait_plan();
	ASSERT_OK(kill(front, signo));
	memset(text, 0, bytes);
	while (first && !strstr(text, first)) {
		got = read(p[0], text + n, bytes - 1 - (size_t)n);
		ASSERT_LT(0, got);
		n += got;
	}
	ASSERT_OK(kill(child_of(front), SIGKILL));
	while ((got = read(p[0], text + n, bytes - 1 - (size_t)n)) > 0)
		n += got;
	text[n] = '\0';
	ASSERT_EQ(waitpid(front, &status, 0), front);
	ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE);
	ASSERT_CONTAINS(text, "killed by signal 9 in phase plan");
	ASSERT_EQ(access("/run/crkexec", F_OK), -1);
}

TEST("a terminal that hangs up stops the upgrade")
{
	char text[4096];

	signal(SIGHUP, SIG_DFL);	/* also below nohup(1) */
	say_after(SIGHUP, "stopping", text, sizeof(text));
}

TEST("a terminal that hangs up does not stop the upgrade under nohup")
{
	char text[4096];

	signal(SIGHUP, SIG_IGN);
	say_after(SIGHUP, NULL, text, sizeof(text));
	ASSERT(!strstr(text, "stopping"));
}

TEST("control-Z does not stop who would undo")
{
	char text[4096];

	say_after(SIGTSTP, NULL, text, sizeof(text));
}

TEST("the end of the worker is seen also where SIGCHLD was ignored")
{
	char text[4096];

	signal(SIGCHLD, SIG_IGN);
	say_after(SIGTSTP, NULL, text, sizeof(text));
}

TEST("an upgrade that cannot have a log says so once, with the reason, and leaves nothing")
{
	char text[4096] = "", *said;
	int p[2], status;
	ssize_t n = 0, got;
	pid_t front;

	silent_systemd();
	/* Room for its root only. */
	if (mount("crk-unit", "/var/log", "tmpfs", 0, "nr_inodes=1") < 0)
		unit_skip("no /var/log of its own: %s", strerror(errno));
	ASSERT_OK(pipe(p));
	front = start(VERB_UPGRADE, p[1]);
	close(p[1]);
	while ((got = read(p[0], text + n, sizeof(text) - 1 - (size_t)n)) > 0)
		n += got;
	ASSERT_EQ(waitpid(front, &status, 0), front);
	ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE);
	said = strstr(text, "cannot make /var/log/crkexec: No space left on device");
	ASSERT(said && !strstr(said + 1, "cannot make"));
	ASSERT_CONTAINS(text, "Nothing was changed");
	ASSERT_EQ(access("/run/crkexec", F_OK), -1);
}
