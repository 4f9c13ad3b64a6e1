#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "crkexec/lock.h"
#include "crkexec/manifest.h"
#include "crkexec/paths.h"
#include "util/io.h"

#define LOCK_PATH	CRKEXEC_RUN_DIR "/lock"

bool lock_id_is_valid(const char *id)
{
	return strlen(id) == LOCK_ID_BYTES - 1 &&
	       strspn(id, "0123456789abcdef") == LOCK_ID_BYTES - 1;
}

/* The last holder removes the file: a lock on a removed one is worth nothing. */
static bool is_current(int fd)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(LOCK_PATH, &b) == 0 && a.st_ino == b.st_ino &&
	       a.st_dev == b.st_dev;
}

int lock_take(bool wait)
{
	for (;;) {
		_cleanup_close_ int fd = -EBADF;
		int r = make_dirs(CRKEXEC_RUN_DIR);

		if (r < 0)
			return r;
		fd = open(LOCK_PATH, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0) {
			/* Its directory was removed in between. */
			if (errno == ENOENT)
				continue;
			return neg_errno();
		}
		while (flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB)) < 0)
			if (errno != EINTR)
				return neg_errno();
		if (!is_current(fd))
			continue;
		/* Who held it and was killed has signed it. */
		if (ftruncate(fd, 0) < 0)
			return neg_errno();
		return take_fd(&fd);
	}
}

int lock_write(int fd, const char *id)
{
	_cleanup_free_ char *text = str_fmt("%d %s\n", getpid(), id);

	if (!text)
		return -ENOMEM;
	if (ftruncate(fd, 0) < 0)
		return neg_errno();
	return pwrite_full(fd, text, strlen(text), 0);
}

void lock_drop(int *fd)
{
	if (*fd < 0)
		return;
	unlink(LOCK_PATH);
	rmdir(CRKEXEC_RUN_DIR);
	close(*fd);
	*fd = -EBADF;
}

int lock_holder(pid_t *ret_pid, char *ret_id)
{
	_cleanup_close_ int fd = open(LOCK_PATH, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	char text[64] = "", id[LOCK_ID_BYTES] = "";
	int pid = 0;

	*ret_pid = 0;
	ret_id[0] = '\0';
	if (fd < 0)
		return errno == ENOENT ? 0 : neg_errno();
	if (flock(fd, LOCK_SH | LOCK_NB) == 0)
		return 0;
	if (pread(fd, text, sizeof(text) - 1, 0) > 0 && sscanf(text, "%d %16s", &pid, id) == 2 &&
	    lock_id_is_valid(id)) {
		*ret_pid = pid;
		memcpy(ret_id, id, sizeof(id));
	}
	return 1;
}
