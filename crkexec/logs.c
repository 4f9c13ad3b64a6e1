/*
 * Every run but a check leaves a log, and a timer may run one every day: the newest stay. Upgrades that
 * took place are counted for themselves: many refused runs do not push out the log of the last one.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/lock.h"
#include "crkexec/logs.h"
#include "crkexec/paths.h"
#include "util/io.h"
#include "util/log.h"

static const char *const suffixes[] = { ".log", "-early.log", "-adopt.log" };

struct run {
	char id[LOCK_ID_BYTES];
	struct timespec newest;		/* of its files */
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

static int take_file(struct runs *l, int dirfd, const char *name)
{
	char id[LOCK_ID_BYTES] = "";
	struct run *run;
	struct stat st;
	size_t i = 0;

	memcpy(id, name, MIN(strlen(name), sizeof(id) - 1));
	if (!lock_id_is_valid(id))
		return 0;
	while (i < ARRAY_SIZE(suffixes) && strcmp(name + strlen(id), suffixes[i]))
		i++;
	if (i == ARRAY_SIZE(suffixes) || fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	run = run_of(l, id);
	if (!run)
		return -ENOMEM;
	run->took_place |= i > 0;
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
static void remove_run(int dirfd, const struct run *run)
{
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		_cleanup_free_ char *name = str_fmt("%s%s", run->id, suffixes[i]);

		if (name)
			unlinkat(dirfd, name, 0);
	}
}

/* The new one's place is left free. */
static int trim(DIR *d)
{
	size_t kept[2] = { 1, 0 };	/* by took_place */
	struct runs l = { 0 };
	struct dirent *e;
	int r = 0;

	while (r == 0 && (e = readdir(d)))
		r = take_file(&l, dirfd(d), e->d_name);
	if (l.n)
		qsort(l.v, l.n, sizeof(*l.v), newest_first);
	for (size_t i = 0; i < l.n && r == 0; i++)
		if (++kept[l.v[i].took_place] > LOGS_KEPT)
			remove_run(dirfd(d), &l.v[i]);
	free(l.v);
	return r;
}

int logs_open(const char *dir, const char *id)
{
	_cleanup_free_ char *name = str_fmt("%s.log", id);
	_cleanup_closedir_ DIR *d = NULL;
	int fd, r = name ? make_dirs(dir) : -ENOMEM;

	if (r < 0)
		return log_err(r, "cannot make %s", dir);
	d = opendir(dir);
	r = d ? trim(d) : neg_errno();
	if (r < 0)
		return log_err(r, "cannot look through %s", dir);
	fd = openat(dirfd(d), name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? log_err(neg_errno(), "cannot open the log %s/%s", dir, name) : fd;
}
