#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/progress.h"
#include "util/io.h"

#define CLEAR	"\r\033[K"

void progress_init(struct progress *p, int fd)
{
	const char *term = getenv("TERM");

	memset(p, 0, sizeof(*p));
	p->fd = fd;
	p->kept_fd = -EBADF;
	p->tty = isatty(fd) && term && strcmp(term, "dumb");
}

static void put(struct progress *p, const char *text)
{
	int r = p->quiet ? 0 : write_full(p->fd, text, strlen(text));

	/* A reader that went away must not stop an upgrade; one that is slow may come back. */
	if (r < 0 && r != -EAGAIN)
		p->quiet = true;
}

void progress_hurry(struct progress *p)
{
	_cleanup_close_ int fd = -EBADF, kept = -EBADF;
	struct stat st;
	char path[40];

	/* Opened anew: the flag would hold for everybody who has the terminal from the shell. */
	if (p->kept_fd >= 0 || fstat(p->fd, &st) < 0 || S_ISREG(st.st_mode))
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", p->fd);
	fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	kept = fcntl(p->fd, F_DUPFD_CLOEXEC, 3);
	if (fd >= 0 && kept >= 0 && dup2(fd, p->fd) >= 0)
		p->kept_fd = take_fd(&kept);
}

void progress_no_hurry(struct progress *p)
{
	if (p->kept_fd < 0)
		return;
	(void)!dup2(p->kept_fd, p->fd);
	close_fdp(&p->kept_fd);
	p->kept_fd = -EBADF;
}

void progress_begin(struct progress *p, const char *name, const char *doing)
{
	char line[200];

	snprintf(p->name, sizeof(p->name), "%s", name);
	if (!p->tty)
		return;
	snprintf(line, sizeof(line), CLEAR "  %-10s           %.120s ...", name, doing);
	put(p, line);
}

void progress_detail(struct progress *p, const char *fmt, ...)
{
	char text[160], line[220];
	va_list ap;

	if (!p->tty)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), CLEAR "  %-10s           %s", p->name, text);
	put(p, line);
}

void progress_end(struct progress *p, const char *name, int result, uint64_t usec,
		  const char *detail)
{
	char line[700];

	snprintf(line, sizeof(line), "%s  %-10s %7.3f s%s%s%.500s\n", p->tty ? CLEAR : "", name,
		 (double)usec / 1e6, result < 0 ? "  failed" : "", detail && *detail ? "  " : "",
		 detail ? detail : "");
	put(p, line);
}

void progress_line(struct progress *p, const char *fmt, ...)
{
	char text[1500], line[1600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "%s%s\n", p->tty ? CLEAR : "", text);
	put(p, line);
}

const char *bytes_text(uint64_t bytes)
{
	static const char *const names[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	static char text[4][32];
	static unsigned int at;
	double v = (double)bytes;
	size_t i = 0;
	char *s = text[at++ % ARRAY_SIZE(text)];

	while (v >= 1024 && i < ARRAY_SIZE(names) - 1) {
		v /= 1024;
		i++;
	}
	snprintf(s, sizeof(text[0]), i ? "%.1f %s" : "%.0f %s", v, names[i]);
	return s;
}
