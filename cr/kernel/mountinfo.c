#define _GNU_SOURCE
#include <limits.h>
#include <string.h>
#include <sys/mount.h>

#include "kernel/mountinfo.h"
#include "util/io.h"

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif
#ifndef MS_LAZYTIME
#define MS_LAZYTIME (1 << 25)
#endif

struct flag_name {
	const char *name;
	uint32_t flag;
};

static const struct flag_name mount_flags[] = {
	{ "ro", MS_RDONLY },
	{ "nosuid", MS_NOSUID },
	{ "nodev", MS_NODEV },
	{ "noexec", MS_NOEXEC },
	{ "noatime", MS_NOATIME },
	{ "nodiratime", MS_NODIRATIME },
	{ "relatime", MS_RELATIME },
	{ "nosymfollow", MS_NOSYMFOLLOW },
	{ "rw", 0 },
	{ NULL, 0 },
};

static const struct flag_name superblock_flags[] = {
	{ "ro", MS_RDONLY },
	{ "sync", MS_SYNCHRONOUS },
	{ "dirsync", MS_DIRSYNC },
	{ "mand", MS_MANDLOCK },
	{ "lazytime", MS_LAZYTIME },
	{ "rw", 0 },
	{ NULL, 0 },
};

const char *path_below(const char *path, const char *prefix)
{
	size_t n = strlen(prefix);

	if (!strcmp(prefix, "/"))
		return *path == '/' ? path + 1 : NULL;
	if (strncmp(path, prefix, n))
		return NULL;
	if (!path[n])
		return path + n;
	return path[n] == '/' ? path + n + 1 : NULL;
}

bool path_is_normal(const char *path)
{
	if (*path != '/' || strlen(path) >= PATH_MAX)
		return false;
	if (!path[1])
		return true;
	while (*path) {
		const char *name = path + 1;
		size_t n = strcspn(name, "/");

		if (!n || (n == 1 && *name == '.') || (n == 2 && name[0] == '.' && name[1] == '.'))
			return false;
		path = name + n;
	}
	return true;
}

char *path_join(struct arena *a, const char *dir, const char *rest)
{
	if (!*rest)
		return arena_strdup(a, dir);
	return arena_printf(a, "%s/%s", strcmp(dir, "/") ? dir : "", rest);
}

/* The next word of the line, unescaped in place: mountinfo writes blanks as \040. */
static char *next_word(char **line)
{
	char *in = *line, *out = *line, *word = *line;

	if (!*in)
		return NULL;
	while (*in && *in != ' ') {
		if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' &&
		    in[2] >= '0' && in[2] <= '7' && in[3] >= '0' && in[3] <= '7') {
			*out++ = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
			in += 4;
		} else {
			*out++ = *in++;
		}
	}
	*line = *in ? in + 1 : in;
	*out = '\0';
	return word;
}

static bool take_flag(const struct flag_name *names, const char *word, size_t n, uint32_t *flags)
{
	for (; names->name; names++) {
		if (strlen(names->name) == n && !strncmp(names->name, word, n)) {
			*flags |= names->flag;
			return true;
		}
	}
	return false;
}

/* Sorts a comma list into flags and the rest; the rest stays in place. */
static void split_options(char *list, const struct flag_name *names, uint32_t *flags)
{
	char *out = list;

	for (const char *p = list; *p;) {
		size_t n = strcspn(p, ",");
		size_t step = n + (p[n] == ',');

		if (!take_flag(names, p, n, flags)) {
			if (out != list)
				*out++ = ',';
			memmove(out, p, n);
			out += n;
		}
		p += step;
	}
	*out = '\0';
}

static int parse_dev(char *word, uint32_t *ret)
{
	char *colon = strchr(word, ':');
	uint32_t major, minor;
	int r;

	if (!colon)
		return -EBADMSG;
	*colon = '\0';
	r = parse_u32(word, 10, &major);
	if (r < 0)
		return -EBADMSG;
	r = parse_u32(colon + 1, 10, &minor);
	if (r < 0 || major > 0xfff || minor > 0xfffff)
		return -EBADMSG;
	*ret = major << 20 | minor;
	return 0;
}

/* "shared:N", "master:N", "propagate_from:N", "unbindable", up to the lone "-". */
static int parse_propagation(char **line, struct mount *m)
{
	char *word;

	while ((word = next_word(line))) {
		int r = 0;

		if (!strcmp(word, "-"))
			return 0;
		if (str_starts(word, "shared:")) {
			r = parse_u32(word + 7, 10, &m->shared_id);
			m->flags |= MS_SHARED;
		} else if (str_starts(word, "master:")) {
			r = parse_u32(word + 7, 10, &m->master_id);
			m->flags |= MS_SLAVE;
		} else if (!strcmp(word, "unbindable")) {
			m->flags |= MS_UNBINDABLE;
		}
		if (r < 0)
			return -EBADMSG;
	}
	return -EBADMSG;
}

static int parse_line(char *line, struct mount *m)
{
	static const char deleted[] = "//deleted";
	char *id = next_word(&line), *parent = next_word(&line), *dev = next_word(&line);
	char *root = next_word(&line), *mountpoint = next_word(&line);
	char *options = next_word(&line), *sb_options;
	size_t n;
	int r;

	if (!options || parse_int(id, &m->id) < 0 || parse_int(parent, &m->parent_id) < 0)
		return -EBADMSG;
	r = parse_dev(dev, &m->dev);
	if (r < 0)
		return r;
	n = strlen(root);
	if (n >= sizeof(deleted) - 1 && !strcmp(root + n - (sizeof(deleted) - 1), deleted)) {
		m->deleted = true;
		root[n - (sizeof(deleted) - 1)] = '\0';
	}
	m->root = *root ? root : "/";
	m->mountpoint = mountpoint;
	split_options(options, mount_flags, &m->flags);
	m->idmapped = !strcmp(options, "idmapped");
	r = parse_propagation(&line, m);
	if (r < 0)
		return r;
	m->fstype = next_word(&line);
	m->source = next_word(&line);
	sb_options = next_word(&line);
	if (!sb_options || !path_is_normal(m->mountpoint))
		return -EBADMSG;
	split_options(sb_options, superblock_flags, &m->sb_flags);
	m->options = sb_options;
	return 0;
}

int mountinfo_parse(struct arena *a, const char *text, struct mount_table *ret)
{
	char *copy = arena_strdup(a, text);

	if (!copy)
		return -ENOMEM;
	*ret = (struct mount_table){ 0 };
	while (*copy) {
		char *end = strchrnul(copy, '\n');
		char *next = *end ? end + 1 : end;
		struct mount *m;
		int r;

		*end = '\0';
		if (ret->n >= MOUNTS_MAX)
			return -E2BIG;
		m = ARENA_PUSH(a, ret->mounts, ret->n);
		if (!m)
			return -ENOMEM;
		*m = (struct mount){ 0 };
		r = parse_line(copy, m);
		if (r < 0)
			return r;
		copy = next;
	}
	return 0;
}

int mountinfo_read(struct arena *a, int dirfd, struct mount_table *ret)
{
	_cleanup_free_ char *text = NULL;
	int r = read_file_at(dirfd, "mountinfo", READ_FILE_MAX, &text, NULL);

	if (r < 0)
		return r;
	return mountinfo_parse(a, text, ret);
}

struct mount *mount_by_id(const struct mount_table *t, int id)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->mounts[i].id == id)
			return &t->mounts[i];
	return NULL;
}

bool mount_carries(const struct mount_table *t, const struct mount *x, const struct mount *m)
{
	/* A table of somebody else's may go in circles. */
	for (size_t hops = 0; m && hops <= t->n; m = mount_by_id(t, m->parent_id), hops++)
		if (m == x)
			return true;
	return false;
}
