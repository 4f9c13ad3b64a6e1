/*
 * One line per event, one write per line, to the log file (or stderr).
 *
 * Low layers return errno and stay silent; kinds, tasks and core log once, at
 * the place that knows the object; commands print the outcome. An error is
 * logged and returned in one statement:
 *
 *	return log_err(r, "cannot read %s", path);
 *
 * LOG_SCOPE() names the object for every line logged while its scope lives;
 * scopes nest: "task 712: fd 5: cannot ...: Permission denied".
 */
#ifndef CR_UTIL_LOG_H
#define CR_UTIL_LOG_H

#include "util/macro.h"

/* CRIU's numbers: -v sets them. */
enum log_level { LOGLEVEL_NONE, LOGLEVEL_ERROR, LOGLEVEL_WARN, LOGLEVEL_INFO, LOGLEVEL_DEBUG };

/* fd is borrowed and must stay open; -1 means stderr. */
void log_init(enum log_level level, int fd);
enum log_level log_level_get(void);

/* The text of the first error logged since log_init(), "" if none. Static storage. */
const char *log_first_error(void);
/* It has been dealt with: the next one is the first. */
void log_first_error_forget(void);

/* Error of a call: appends ": strerror". Returns r (negative) so it can be returned. */
int log_err(int r, const char *fmt, ...) _printf_(2, 3);
/* Error without an errno worth printing; returns r. */
int log_fail(int r, const char *fmt, ...) _printf_(2, 3);
void log_warn(const char *fmt, ...) _printf_(1, 2);
void log_info(const char *fmt, ...) _printf_(1, 2);
void log_debug(const char *fmt, ...) _printf_(1, 2);

/*
 * An obstacle: something that cannot be checkpointed. Collected for `cr check`
 * and the caller's report (see log_obstacles_set()), logged as an error.
 * Returns -EOPNOTSUPP. what: the object; remedy: what the operator can do.
 */
int log_obstacle(const char *remedy, const char *fmt, ...) _printf_(2, 3);
typedef void (*log_obstacle_fn)(void *arg, const char *scope, const char *what,
				const char *remedy);
void log_obstacles_set(log_obstacle_fn fn, void *arg);

struct log_scope {
	size_t len;	/* length of the prefix before this scope */
};
struct log_scope log_scope_push(const char *fmt, ...) _printf_(1, 2);
void log_scope_pop(struct log_scope *s);

#define LOG_SCOPE_CAT2(a, b)	a##b
#define LOG_SCOPE_CAT(a, b)	LOG_SCOPE_CAT2(a, b)
#define LOG_SCOPE(...)								\
	_cleanup_(log_scope_pop) _unused_ struct log_scope			\
		LOG_SCOPE_CAT(_log_scope_, __COUNTER__) = log_scope_push(__VA_ARGS__)

#endif
