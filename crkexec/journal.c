/*
 * journald writes to disk with a delay of minutes, and lines may still wait in its sockets.
 * io.systemd.Journal.Synchronize (what `journalctl --sync` calls, over varlink) answers when
 * all that was sent before has been written and synced.
 */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "crkexec/phases.h"
#include "util/io.h"
#include "util/log.h"

#define JOURNAL_SOCKET	"/run/systemd/journal/io.systemd.journal"

int journal_sync_begin(void)
{
	static const char call[] =
		"{\"method\":\"io.systemd.Journal.Synchronize\",\"parameters\":{}}";
	struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return neg_errno();
	/* A varlink message ends with a NUL. */
	if (send(fd, call, sizeof(call), MSG_NOSIGNAL) != (ssize_t)sizeof(call))
		return neg_errno();
	return take_fd(&fd);
}

int journal_sync_end(int fd, int timeout_msec)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char text[1024];
	ssize_t n = -1;
	int r = 0;

	if (fd < 0)
		return fd;
	r = poll(&p, 1, timeout_msec);
	if (r > 0)
		n = recv(fd, text, sizeof(text) - 1, 0);
	close(fd);
	if (r <= 0 || n <= 0)
		return r == 0 ? -ETIMEDOUT : -EIO;
	text[n] = '\0';
	return strstr(text, "\"error\"") ? -EIO : 0;
}
