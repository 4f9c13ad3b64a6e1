/*
 * Every run but a check leaves a log, an upgrade a report and perhaps images, and a timer may run one every
 * day: the newest stay. Logs of upgrades that took place are counted for themselves: many refused runs do
 * not push out that of the last one.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/lock.h"
#include "crkexec/logs.h"
#include "crkexec/paths.h"
#include "util/io.h"
#include "util/log.h"

/* What there is of a run: its id, and one of these behind it. Those behind the first: it took place. */
struct sort {
	const char *const *suffixes;	/* NULL-ended */
	bool directories;
	size_t kept;
	bool more_to_come;		/* of the run that asks: its place is left free */
};

static const struct sort logs = {
	.suffixes = (const char *const[]){ ".log", "-early.log", "-adopt.log", NULL },
	.kept = LOGS_KEPT, .more_to_come = true,
};
static const struct sort reports = {
	.suffixes = (const char *const[]){ ".json", NULL }, .kept = REPORTS_KEPT,
};
static const struct sort images = {
	.suffixes = (const char *const[]){ "", NULL }, .directories = true, .kept = IMAGES_KEPT,
};

struct run {
	char id[LOCK_ID_BYTES];
	struct timespec newest;		/* of what there is of it */
	bool took_place;
};

struct runs {
	struct run *v;
	size_t n;
};

static struct run *run_of(struct runs *l, const char *id)
{
	struct run *v;

	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i].id, id))
			return &l->v[i];
	v = reallocarray(l->v, l->n + 1, sizeof(*v));
	if (!v)
		return NULL;
	l->v = v;
	v += l->n++;
	*v = (struct run){ 0 };
	memcpy(v->id, id, sizeof(v->id));
	return v;
}

static bool is_before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/* current: that run is the newest, whatever the clock has shown. */
static int take_file(struct runs *l, const struct sort *s, int dirfd, const char *name, const char *current)
{
	char id[LOCK_ID_BYTES] = "";
	struct run *run;
	struct stat st;
	size_t i = 0;

	memcpy(id, name, MIN(strlen(name), sizeof(id) - 1));
	if (!lock_id_is_valid(id))
		return 0;
	while (s->suffixes[i] && strcmp(name + strlen(id), s->suffixes[i]))
		i++;
	if (!s->suffixes[i] || fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    S_ISDIR(st.st_mode) != s->directories)
		return 0;
	run = run_of(l, id);
	if (!run)
		return -ENOMEM;
	run->took_place |= i > 0;
	if (!strcmp(id, current))
		st.st_mtim = (struct timespec){ .tv_sec = INT64_MAX };
	if (is_before(&run->newest, &st.st_mtim))
		run->newest = st.st_mtim;
	return 0;
}

static int newest_first(const void *a, const void *b)
{
	const struct run *x = a, *y = b;

	return is_before(&x->newest, &y->newest) - is_before(&y->newest, &x->newest);
}

/* One that cannot be removed is in nobody's way. */
static void remove_run(const struct sort *s, const char *dir, const char *id)
{
	for (size_t i = 0; s->suffixes[i]; i++) {
		_cleanup_free_ char *path = str_fmt("%s/%s%s", dir, id, s->suffixes[i]);

		if (path && s->directories)
			(void)!remove_tree(path);
		else if (path)
			unlink(path);
	}
}

static int trim(const struct sort *s, const char *dir, const char *current)
{
	_cleanup_closedir_ DIR *d = opendir(dir);
	size_t kept[2] = { s->more_to_come, 0 };	/* by took_place */
	struct runs l = { 0 };
	struct dirent *e;
	int r = 0;

	if (!d)
		return neg_errno();
	while (r == 0 && (e = readdir(d)))
		r = take_file(&l, s, dirfd(d), e->d_name, current);
	if (l.n)
		qsort(l.v, l.n, sizeof(*l.v), newest_first);
	for (size_t i = 0; i < l.n && r == 0; i++)
		if (++kept[l.v[i].took_place] > s->kept)
			remove_run(s, dir, l.v[i].id);
	free(l.v);
	return r;
}

int logs_open(const char *dir, const char *id)
{
	_cleanup_free_ char *path = str_fmt("%s/%s.log", dir, id);
	int fd, r = path ? make_dirs(dir) : -ENOMEM;

	if (r < 0)
		return log_err(r, "cannot make %s", dir);
	r = trim(&logs, dir, id);
	if (r < 0)
		return log_err(r, "cannot look through %s", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? log_err(neg_errno(), "cannot open the log %s", path) : fd;
}

int logs_trim_state(const char *dir, const char *id)
{
	_cleanup_free_ char *failed = str_fmt("%s/failed", dir);
	int r = failed ? trim(&reports, dir, id) : -ENOMEM;

	if (r == 0)
		r = trim(&images, failed, id);
	return r == -ENOENT ? 0 : r;
}
