/*
 * After crkexec was killed: what its undo log says is undone. Three callers: the front when its
 * worker died, the guard unit when all of them died, and the next crkexec before it begins.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/commands.h"
#include "crkexec/lock.h"
#include "crkexec/paths.h"
#include "crkexec/undo.h"
#include "util/io.h"
#include "util/log.h"

#define GUARD_LAST_PAUSE	16	/* seconds */

int recover_upgrade(const char *id)
{
	_cleanup_free_ char *dir = str_fmt("%s/%s", CRKEXEC_RUN_DIR, id);
	_cleanup_close_ int dirfd = -EBADF;
	struct undo_log undo = UNDO_LOG_INIT;
	int r;

	if (!dir)
		return -ENOMEM;
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dirfd < 0)
		return errno == ENOENT ? 0 : neg_errno();
	r = undo_open(&undo, dirfd, false);
	if (r == 0)
		r = undo_rewind(&undo, 0, undo_kinds);
	else if (r == -ENOENT)
		r = 0;	/* killed before it had done anything */
	undo_close(&undo);
	/* What could not be undone stays written down. */
	return r < 0 ? r : remove_tree(dir);
}

int recover_pending(char *ret_id)
{
	_cleanup_closedir_ DIR *d = opendir(CRKEXEC_RUN_DIR);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (lock_id_is_valid(e->d_name)) {
			memcpy(ret_id, e->d_name, LOCK_ID_BYTES);
			return 1;
		}
	return 0;
}

int recover_all(char *ret_id)
{
	_cleanup_closedir_ DIR *d = opendir(CRKEXEC_RUN_DIR);
	struct dirent *e;
	int first = 0;

	ret_id[0] = '\0';
	while (d && (e = readdir(d))) {
		int r;

		if (!lock_id_is_valid(e->d_name))
			continue;
		memcpy(ret_id, e->d_name, LOCK_ID_BYTES);
		r = recover_upgrade(e->d_name);
		if (r < 0 && !first)
			first = r;
	}
	return first;
}

/*
 * systemd itself may have been too busy to answer: the guard tries again, for half a minute in
 * all. Then a person is needed, and what is left stays written down for `crkexec recover`.
 */
static int recover_as_guard(char *ret_id)
{
	int r = recover_all(ret_id);

	for (unsigned seconds = 1; r < 0 && seconds <= GUARD_LAST_PAUSE; seconds *= 2) {
		sleep(seconds);
		r = recover_all(ret_id);
	}
	return r;
}

/* With --guard: waits until no process of the upgrade is left. */
int command_recover(const struct options *opt)
{
	char id[LOCK_ID_BYTES];
	int fd = lock_take(opt->guard), r;

	log_init(LOGLEVEL_INFO, STDERR_FILENO);
	if (fd == -EWOULDBLOCK) {
		pid_t pid = 0;

		if (lock_holder(&pid, id) > 0 && pid)
			fprintf(stderr, "crkexec: an upgrade is under way: pid %d\n", pid);
		else
			fprintf(stderr, "crkexec: another crkexec is recovering: see `crkexec status`\n");
		return EXIT_FAILURE;
	}
	if (fd < 0) {
		fprintf(stderr, "crkexec: cannot take the lock: %s\n", strerror(-fd));
		return EXIT_FAILURE;
	}
	r = opt->guard ? recover_as_guard(id) : recover_all(id);
	lock_drop(&fd);
	if (r < 0)
		printf("upgrade %s was interrupted; not all of it could be undone: put right what is named "
		       "above, then `crkexec recover`\n", id);
	else if (*id)
		printf("upgrade %s was interrupted; all of it was undone\n", id);
	else if (!opt->guard)
		printf("There is nothing to recover.\n");
	return r < 0 ? EXIT_NOT_UNDONE : EXIT_SUCCESS;
}
