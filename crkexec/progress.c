#include <stdarg.h>
#include <string.h>

#include "crkexec/progress.h"
#include "util/io.h"

#define CLEAR	"\r\033[K"

void progress_init(struct progress *p, int fd)
{
	const char *term = getenv("TERM");

	memset(p, 0, sizeof(*p));
	p->fd = fd;
	p->tty = isatty(fd) && term && strcmp(term, "dumb");
}

static void put(struct progress *p, const char *text)
{
	/* A reader that went away must not stop an upgrade. */
	if (!p->quiet && write_full(p->fd, text, strlen(text)) < 0)
		p->quiet = true;
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
