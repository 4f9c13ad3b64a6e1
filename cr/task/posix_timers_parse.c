/* The text of /proc/PID/timers: four lines a timer. See proc_pid_timers(5). */
#include <signal.h>
#include <string.h>

#include "task/posix_timers.h"

static int compare_ids(const void *a, const void *b)
{
	uint32_t x = ((const struct posix_timer_line *)a)->id;
	uint32_t y = ((const struct posix_timer_line *)b)->id;

	return (x > y) - (x < y);
}

/* "signal/tid.2634": how, what kind of id, the id. */
static int parse_notify(const char *s, struct posix_timer_line *t)
{
	static const struct { const char *name; int notify; } how[] = {
		{ "signal/pid.", SIGEV_SIGNAL }, { "signal/tid.", SIGEV_THREAD_ID },
		{ "none/pid.", SIGEV_NONE }, { "thread/pid.", SIGEV_THREAD },
	};

	for (size_t i = 0; i < ARRAY_SIZE(how); i++) {
		if (!str_starts(s, how[i].name))
			continue;
		t->notify = how[i].notify;
		return parse_int(s + strlen(how[i].name), &t->target);
	}
	return -EBADMSG;
}

/* "60/00007fff86e452a8" */
static int parse_signal(char *s, struct posix_timer_line *t)
{
	char *slash = strchr(s, '/');

	if (!slash)
		return -EBADMSG;
	*slash = '\0';
	if (parse_int(s, &t->signo) < 0 || parse_u64(slash + 1, 16, &t->sival) < 0)
		return -EBADMSG;
	return 0;
}

/* field: which of the four lines this must be. */
static int parse_timer_line(int field, char *line, struct posix_timer_line *t)
{
	static const char *const keys[] = { "ID: ", "signal: ", "notify: ", "ClockID: " };
	char *value;

	if (!str_starts(line, keys[field]))
		return -EBADMSG;
	value = line + strlen(keys[field]);
	switch (field) {
	case 0:
		return parse_u32(value, 10, &t->id);
	case 1:
		return parse_signal(value, t);
	case 2:
		return parse_notify(value, t);
	default:
		return parse_int(value, &t->clock_id);
	}
}

int posix_timers_parse(const char *text, struct posix_timer_line **ret, size_t *ret_n)
{
	_cleanup_free_ struct posix_timer_line *list = NULL;
	_cleanup_free_ char *copy = strdup(text);
	size_t n_lines = 0, n = 0;
	char *save = NULL;

	if (!copy)
		return -ENOMEM;
	for (const char *s = text; *s; s++)
		n_lines += *s == '\n';
	list = calloc(n_lines / 4 + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (n / 4 >= n_lines / 4 + 1 ||
		    parse_timer_line((int)(n % 4), line, &list[n / 4]) < 0)
			return -EBADMSG;
		n++;
	}
	if (n % 4)
		return -EBADMSG;
	n /= 4;
	qsort(list, n, sizeof(*list), compare_ids);
	for (size_t i = 1; i < n; i++)
		if (list[i].id == list[i - 1].id)
			return -EBADMSG;
	*ret = take_ptr(list);
	*ret_n = n;
	return 0;
}
