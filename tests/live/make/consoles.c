/*
 * Terminals that are devices: a virtual console with a session on it, the console, a serial
 * line. Their settings come back, and whose terminal it is.
 */
#include "files_common.h"

#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>

#define VT "/dev/tty61"

static struct device {
	const char *path;
	int fd;
	struct termios was;
} devices[] = { { .path = VT }, { .path = "/dev/console" }, { .path = "/dev/ttyS1" } };

static void session(int fd, int done)
{
	int tty;
	char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	MAKER_MUST(setsid() > 0 && !ioctl(fd, TIOCSCTTY, 0));
	MAKER_MUST((tty = open("/dev/tty", O_RDWR)) >= 0);
	MAKER_MUST(write(done, "1", 1) == 1);
	maker_wait();
	c = tcgetsid(tty) == getpid() && tcgetpgrp(fd) == getpid() ? 'y' : 'n';
	close(tty);
	tty = open("/dev/tty", O_RDWR);
	if (tty < 0)
		c = 'n';
	MAKER_MUST(write(done, &c, 1) == 1);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	int done[2], count, open_ones = 0;
	struct termios now;
	pid_t pid;
	char c;

	maker_begin(argc, argv);
	for (size_t i = 0; i < 3; i++) {
		struct device *d = &devices[i];

		d->fd = open(d->path, O_RDWR | O_NOCTTY | O_NONBLOCK);
		if (d->fd < 0 && i == 0 && (errno == ENOENT || errno == ENXIO))
			maker_skip("no virtual consoles (" VT ": %s)", strerror(errno));
		/* An absent port opens, but has no settings. */
		if (d->fd >= 0 && (tcgetattr(d->fd, &d->was) < 0 || d->was.c_cflag == 0)) {
			close(d->fd);
			d->fd = -1;
		}
		if (d->fd < 0)
			continue;
		open_ones++;
		/* The console is others', too. */
		if (i != 1) {
			d->was.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
			d->was.c_cc[VMIN] = 3;
			cfsetispeed(&d->was, B57600);
			cfsetospeed(&d->was, B57600);
			MAKER_MUST(!tcsetattr(d->fd, TCSANOW, &d->was));
			MAKER_MUST(!tcgetattr(d->fd, &d->was));
		}
	}
	MAKER_MUST(devices[0].fd >= 0 && !pipe(done));
	pid = fork();
	MAKER_MUST(pid >= 0);
	if (!pid)
		session(devices[0].fd, done[1]);
	MAKER_MUST(read(done[0], &c, 1) == 1);
	count = fd_count();

	maker_ready();
	maker_wait();

	MAKER_SAME("number of descriptors", fd_count(), count);
	for (size_t i = 0; i < 3; i++) {
		struct device *d = &devices[i];

		if (d->fd < 0)
			continue;
		if (tcgetattr(d->fd, &now) < 0 || memcmp(&now, &d->was, sizeof(now)))
			maker_fail("%s: other settings", d->path);
		MAKER_SAME("flags", fcntl(d->fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK),
			   O_RDWR | O_NONBLOCK);
	}
	kill(pid, SIGUSR1);
	MAKER_MUST(read(done[0], &c, 1) == 1);
	MAKER_SAME("it is the session's terminal", c, 'y');
	maker_log("%d kinds of devices", open_ones);
	maker_ok();
}
