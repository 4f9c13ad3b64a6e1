/* The lock that all processes of an upgrade hold, and what `crkexec status` makes of it. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "crkexec/commands.h"
#include "crkexec/lock.h"
#include "crkexec/paths.h"
#include "unit.h"
#include "util/io.h"

#define ID	"0123456789abcdef"

static void own_run(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("crk-unit", "/run", "tmpfs", 0, NULL) < 0)
		unit_skip("no /run of its own: %s", strerror(errno));
}

TEST("the lock names the upgrade that holds it")
{
	char id[LOCK_ID_BYTES];
	pid_t pid;
	int fd;

	own_run();
	ASSERT_EQ(lock_holder(&pid, id), 0);
	fd = lock_take(false);
	ASSERT_OK(fd);
	ASSERT_OK(lock_write(fd, ID));
	ASSERT_EQ(lock_take(false), -EWOULDBLOCK);
	ASSERT_EQ(lock_holder(&pid, id), 1);
	ASSERT_EQ(pid, getpid());
	ASSERT_STREQ(id, ID);
	lock_drop(&fd);
	ASSERT_EQ(access("/run/crkexec", F_OK), -1);
}

TEST("who recovers after all of an upgrade was killed is not taken for that upgrade")
{
	char id[LOCK_ID_BYTES];
	int fd, status;
	pid_t pid;

	own_run();
	pid = fork();
	if (pid == 0) {
		fd = lock_take(false);
		raise(fd < 0 || lock_write(fd, ID) < 0 ? SIGTERM : SIGKILL);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	fd = lock_take(true);
	ASSERT_OK(fd);
	ASSERT_EQ(lock_holder(&pid, id), 1);
	ASSERT_EQ(pid, 0);
}

/* Exit status of `crkexec status` with this undo log in the directory of a killed upgrade; NULL: none. */
static int status_with(const char *undo)
{
	struct options opt = { .json = true };

	ASSERT_OK(make_dirs("/run/crkexec/" ID));
	if (undo) {
		int fd = open("/run/crkexec/" ID "/undo", O_WRONLY | O_CREAT | O_TRUNC, 0600);

		ASSERT_OK(write_full(fd, undo, strlen(undo)));
		close(fd);
	}
	return command_status(&opt);
}

TEST("a killed upgrade that has left nothing to undo does not show as interrupted")
{
	own_run();
	ASSERT_OK(mount("crk-unit", "/var/lib", "tmpfs", 0, NULL));
	ASSERT_EQ(status_with(NULL), EXIT_SUCCESS);
	ASSERT_EQ(status_with(""), EXIT_SUCCESS);
	ASSERT_EQ(status_with("start a.service\n"), EXIT_FAILURE);
}
