#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "util/log.h"

/* The logger is the one piece of global state of the engine. */
static struct {
	enum log_level level;
	int fd;
	char prefix[256];
	size_t prefix_len;
	char first_error[512];
	log_obstacle_fn obstacle;
	void *obstacle_arg;
} logger = { .level = LOGLEVEL_WARN, .fd = -1 };

void log_init(enum log_level level, int fd)
{
	logger.level = level;
	logger.fd = fd;
	logger.first_error[0] = '\0';
}

enum log_level log_level_get(void)
{
	return logger.level;
}

const char *log_first_error(void)
{
	return logger.first_error;
}

void log_first_error_forget(void)
{
	logger.first_error[0] = '\0';
}

/* Whether the text behind the prefix, of n bytes, is the innermost scope already: a step and a part may both name it. */
static bool is_in_scope(size_t n)
{
	const char *end = logger.prefix + logger.prefix_len;
	size_t before = logger.prefix_len - n - 2;

	return logger.prefix_len >= n + 2 && !memcmp(end - n - 2, end, n) &&
	       (!before || (before >= 2 && !memcmp(logger.prefix + before - 2, ": ", 2)));
}

struct log_scope log_scope_push(const char *fmt, ...)
{
	struct log_scope s = { .len = logger.prefix_len };
	size_t room = sizeof(logger.prefix) - logger.prefix_len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(logger.prefix + logger.prefix_len, room, fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n + 2 < room && !is_in_scope((size_t)n)) {
		memcpy(logger.prefix + logger.prefix_len + n, ": ", 3);
		logger.prefix_len += (size_t)n + 2;
	} else {
		logger.prefix[logger.prefix_len] = '\0';
	}
	return s;
}

void log_scope_pop(struct log_scope *s)
{
	logger.prefix_len = s->len;
	logger.prefix[s->len] = '\0';
}

/* Names of tasks and files are their owners' choice: they shall not write lines of their own. */
static void log_clean(char *s, int n)
{
	for (int i = 0; i < n; i++)
		if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
			s[i] = '?';
}

static void log_line(enum log_level level, int err, const char *fmt, va_list ap)
{
	static const char *const names[] = { "", "Error", "Warn", "", "" };
	char text[1024], line[1400];
	struct timespec ts;
	int n, saved = errno;

	vsnprintf(text, sizeof(text), fmt, ap);
	if (level == LOGLEVEL_ERROR && !logger.first_error[0])
		snprintf(logger.first_error, sizeof(logger.first_error), "%.*s%s%s%s",
			 (int)logger.prefix_len, logger.prefix, text, err ? ": " : "",
			 err ? strerror(-err) : "");
	log_clean(logger.first_error, (int)strlen(logger.first_error));
	if (level > logger.level)
		goto out;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	n = snprintf(line, sizeof(line), "(%02ld.%06ld) %s%s%s%s%s%s\n", (long)ts.tv_sec % 10000,
		     ts.tv_nsec / 1000, names[level], names[level][0] ? ": " : "", logger.prefix,
		     text, err ? ": " : "", err ? strerror(-err) : "");
	if (n >= (int)sizeof(line)) {
		n = sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	log_clean(line, n - 1);
	if (write(logger.fd >= 0 ? logger.fd : STDERR_FILENO, line, (size_t)n) < 0)
		errno = saved;	/* a log that cannot be written must not stop a restore */
out:
	errno = saved;
}

#define LOG_FMT(level, err)				\
	do {						\
		va_list ap;				\
		va_start(ap, fmt);			\
		log_line(level, err, fmt, ap);		\
		va_end(ap);				\
	} while (0)

int log_err(int r, const char *fmt, ...)
{
	LOG_FMT(LOGLEVEL_ERROR, r);
	return r;
}

int log_fail(int r, const char *fmt, ...)
{
	LOG_FMT(LOGLEVEL_ERROR, 0);
	return r;
}

void log_warn(const char *fmt, ...)
{
	LOG_FMT(LOGLEVEL_WARN, 0);
}

void log_info(const char *fmt, ...)
{
	LOG_FMT(LOGLEVEL_INFO, 0);
}

void log_debug(const char *fmt, ...)
{
	if (logger.level >= LOGLEVEL_DEBUG)
		LOG_FMT(LOGLEVEL_DEBUG, 0);
}

void log_obstacles_set(log_obstacle_fn fn, void *arg)
{
	logger.obstacle = fn;
	logger.obstacle_arg = arg;
}

int log_obstacle(const char *remedy, const char *fmt, ...)
{
	char what[768];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (logger.obstacle) {
		char scope[sizeof(logger.prefix)];

		snprintf(scope, sizeof(scope), "%.*s", (int)logger.prefix_len, logger.prefix);
		if (logger.prefix_len >= 2)
			scope[logger.prefix_len - 2] = '\0';
		logger.obstacle(logger.obstacle_arg, scope, what, remedy);
	}
	return log_fail(-EOPNOTSUPP, "%s (%s)", what, remedy);
}
