/*
 * Control groups, restore: the groups of the image, parents before children, with their settings as the
 * mode says: those that were not there, or all.
 *
 * CRIU saves also the groups below those of the tree, in which nobody is: they are made as well.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "ns/cgroup_state.h"

#define GROUPS_MAX	65536u
#define DEPTH_MAX	64u

struct groups {
	struct cg_group *list;
	size_t n;
};

/* A fresh v1 cpuset is empty and takes no task. */
static void inherit_cpuset(int parent, int dir)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *text = NULL;

		if (read_file_at(parent, files[i], 4096, &text, NULL) < 0)
			continue;
		if (write_file_at(dir, files[i], text) < 0)
			log_warn("cannot set %s of a new group: %s", files[i], strerror(errno));
	}
}

static int open_parent(const struct cg_hierarchy *h, const char *path)
{
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX];

	snprintf(parent, sizeof(parent), "%.*s", slash == path ? 1 : (int)(slash - path), path);
	return cgroup_open_dir(h, parent);
}

/* mkdir(2), and what a failed restore takes back. */
static int make_dir(struct cg_restore *cg, struct cg_hierarchy *h, int parent, const char *path)
{
	struct cg_group *g = ARENA_PUSH(cg->a, cg->made, cg->n_made);

	if (!g)
		return -ENOMEM;
	*g = (struct cg_group){ .h = h, .path = arena_strdup(cg->a, path) };
	if (g->path && !mkdirat(parent, strrchr(path, '/') + 1, 0755))
		return 0;
	cg->n_made--;
	return !g->path ? -ENOMEM : errno == EEXIST ? 0 : neg_errno();
}

static int make_dirs(struct cg_restore *cg, struct cg_hierarchy *h, const char *path)
{
	_cleanup_free_ char *part = NULL;
	const char *slash = strrchr(path, '/');
	_cleanup_close_ int parent = -EBADF;
	int fd = cgroup_open_dir(h, path), r;

	if (fd != -ENOENT || slash == path + strlen(path) - 1)
		return fd;
	part = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	parent = part ? make_dirs(cg, h, part) : -ENOMEM;
	if (parent < 0)
		return parent;
	r = make_dir(cg, h, parent, path);
	if (r < 0)
		return r;
	fd = cgroup_open_dir(h, path);
	if (fd >= 0 && *h->name && strstr(h->name, "cpuset"))
		inherit_cpuset(parent, fd);
	return fd;
}

int cgroup_make_dirs(struct cg_restore *cg, struct cg_hierarchy *h, const char *path)
{
	return cgroup_may_make(cg) ? make_dirs(cg, h, path) : cgroup_open_dir(h, path);
}

static bool was_made(const struct cg_restore *cg, const struct cg_group *g)
{
	for (size_t i = cg->n_made; i-- > 0;)
		if (cg->made[i].h == g->h && !strcmp(cg->made[i].path, g->path))
			return true;
	return false;
}

/* By itself, or by a group above it: who is moved there does not run our calls any more. */
static bool is_frozen(int dir)
{
	_cleanup_free_ char *events = NULL, *state = NULL;

	if (read_file_at(dir, "cgroup.events", 4096, &events, NULL) >= 0)
		return strstr(events, "frozen 1");
	return read_file_at(dir, "freezer.state", 64, &state, NULL) >= 0 && !str_starts(state, "THAWED");
}

/* A group that stood still, by the freezer of v1, when it was saved. */
static int note_frozen(struct cg_restore *cg, const struct cg_group *g)
{
	const CgroupPropEntry *e = cgroup_prop_find(g->dir, "freezer.state");
	struct cg_group *slot;

	if (!e || strcmp(e->value, "FROZEN"))
		return 0;
	slot = ARENA_PUSH(cg->a, cg->frozen, cg->n_frozen);
	if (!slot)
		return log_err(-ENOMEM, "cannot restore control groups");
	*slot = *g;
	return 0;
}

static int make_group(struct cg_restore *cg, const struct cg_group *g)
{
	_cleanup_close_ int fd = cgroup_make_dirs(cg, g->h, g->path);
	bool made;

	if (fd == -ENOENT && !g->needed)
		return 0;
	if (fd == -ENOENT && !cgroup_may_make(cg))
		return log_fail(fd, "cgroup %s (hierarchy '%s') does not exist; "
				"--manage-cgroups=soft would make it", g->path, g->h->name);
	if (fd < 0)
		return log_err(fd, "cannot open cgroup %s (hierarchy '%s')", g->path, g->h->name);
	if (g->needed && is_frozen(fd))
		return log_fail(-EBUSY, "cgroup %s (hierarchy '%s') is frozen: nobody can be restored in it; "
				"thaw it before", g->path, g->h->name);
	made = was_made(cg, g);
	if (!made && cg->mode & CGROUP_STRICT)
		return log_fail(-EEXIST, "cgroup %s (hierarchy '%s') exists already", g->path,
				g->h->name);
	if (!g->dir || (!made && !(cg->mode & (CGROUP_PROPS | CGROUP_FULL))))
		return 0;
	cgroup_props_write(fd, g->path, g->dir);
	return note_frozen(cg, g);
}

static int group_add(struct cg_restore *cg, struct groups *all, const struct cg_group *g)
{
	struct cg_group *slot;

	if (all->n >= GROUPS_MAX)
		return log_fail(-EBADMSG, "cgroup.img: more than %u groups", GROUPS_MAX);
	slot = ARENA_PUSH(cg->a, all->list, all->n);
	if (!slot)
		return log_err(-ENOMEM, "cannot restore control groups");
	*slot = *g;
	return 0;
}

/* path: of the image. Those below it, too. */
static int add_dir(struct cg_restore *cg, struct groups *all, struct cg_hierarchy *h, const char *path,
		   const CgroupDirEntry *d, const char *old_root, unsigned int depth)
{
	struct cg_group g = { .h = h, .dir = d };
	int r = 0;

	if (depth > DEPTH_MAX || !path_is_normal(path))
		return log_fail(-EBADMSG, "cgroup.img: bad group '%.200s'", path);
	g.path = cgroup_new_path(cg, h->name, path, old_root);
	if (!g.path || !path_is_normal(g.path))
		return log_fail(-EINVAL, "--cgroup-root: bad path for %s", *h->name ? h->name : "cgroup2");
	if (path[1])
		r = group_add(cg, all, &g);
	for (size_t i = 0; r >= 0 && i < d->n_children; i++) {
		const char *name = d->children[i]->dir_name, *below;

		if (!*name || strchr(name, '/') || strlen(name) > NAME_MAX)
			return log_fail(-EBADMSG, "cgroup.img: bad group '%.200s' in %s", name, path);
		below = path_join(cg->a, path, name);
		r = below ? add_dir(cg, all, h, below, d->children[i], old_root, depth + 1) :
			    log_err(-ENOMEM, "cannot restore control groups");
	}
	return r;
}

/* The hierarchy that has these controllers; NULL: there is none. */
static struct cg_hierarchy *find_controllers(struct cg_restore *cg, const CgControllerEntry *c)
{
	char name[512] = "";
	size_t n = 0;

	for (size_t i = 0; i < c->n_cnames; i++) {
		n += (size_t)snprintf(name + n, sizeof(name) - n, "%s%s", i ? "," : "", c->cnames[i]);
		if (n >= sizeof(name))
			return NULL;
	}
	return c->n_cnames ? cgroup_hierarchy(cg, name) : NULL;
}

static int add_controller(struct cg_restore *cg, struct groups *all, const CgControllerEntry *c,
			  const CgSetEntry *root)
{
	struct cg_hierarchy *h = find_controllers(cg, c);
	const char *old_root = NULL;
	int r = 0;

	/* If tasks were in it, add_set() says so. */
	if (!h || h->fd < 0)
		return 0;
	for (size_t i = 0; root && i < root->n_ctls; i++)
		if (cgroup_names_equal(root->ctls[i]->name, h->name))
			old_root = root->ctls[i]->path;
	for (size_t i = 0; r >= 0 && i < c->n_dirs; i++) {
		const char *name = c->dirs[i]->dir_name, *path;

		/* CRIU leaves the first slash out where runc tells it the root. */
		path = *name == '/' ? name : arena_printf(cg->a, "/%s", name);
		r = path ? add_dir(cg, all, h, path, c->dirs[i], old_root, 0) : -ENOMEM;
	}
	return r;
}

static int add_set(struct cg_restore *cg, struct groups *all, const struct cg_set *set)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < set->n; i++) {
		const struct cg_member *m = &set->members[i];
		struct cg_group g = { .h = cgroup_hierarchy(cg, m->name), .path = m->path, .needed = true };

		if (!m->path[1])
			continue;
		if (!g.h || g.h->fd < 0)
			return log_fail(-ENOENT, "cgroup %s: there is no hierarchy '%s' here; "
					"--manage-cgroups=ignore does without", m->path, m->name);
		r = group_add(cg, all, &g);
	}
	return r;
}

/* By hierarchy and path, so parents before children; what has settings first. */
static int compare(const void *a, const void *b)
{
	const struct cg_group *x = a, *y = b;
	int r = x->h != y->h ? (x->h < y->h ? -1 : 1) : strcmp(x->path, y->path);

	return r ? r : !x->dir - !y->dir;
}

static int make_sorted(struct cg_restore *cg, struct groups *all)
{
	int r = 0;

	for (size_t i = 0, next; r >= 0 && i < all->n; i = next) {
		struct cg_group *g = &all->list[i];

		for (next = i + 1; next < all->n && all->list[next].h == g->h &&
				   !strcmp(all->list[next].path, g->path); next++)
			g->needed |= all->list[next].needed;
		r = make_group(cg, g);
	}
	return r;
}

int cgroup_make_all(struct cg_restore *cg, const CgroupEntry *e, const CgSetEntry *root)
{
	struct groups all = { 0 };
	int r = 0;

	for (size_t i = 0; r >= 0 && i < cg->n; i++)
		r = add_set(cg, &all, &cg->sets[i]);
	for (size_t i = 0; r >= 0 && i < e->n_controllers; i++)
		r = add_controller(cg, &all, e->controllers[i], root);
	if (r < 0)
		return r;
	if (all.n)
		qsort(all.list, all.n, sizeof(*all.list), compare);
	return make_sorted(cg, &all);
}

/* One that somebody else has begun to use meanwhile stays. */
void cgroup_remove_made(struct cg_restore *cg)
{
	while (cg->n_made) {
		const struct cg_group *g = &cg->made[--cg->n_made];
		_cleanup_close_ int parent = open_parent(g->h, g->path);

		if (parent < 0 || unlinkat(parent, strrchr(g->path, '/') + 1, AT_REMOVEDIR) < 0)
			log_warn("cgroup %s, made for this restore, stays: %s", g->path,
				 strerror(parent < 0 ? -parent : errno));
	}
}

void cgroup_freeze_again(struct cg_restore *cg)
{
	for (size_t i = 0; i < cg->n_frozen; i++) {
		const struct cg_group *g = &cg->frozen[i];
		_cleanup_close_ int fd = cgroup_open_dir(g->h, g->path);
		int r = fd < 0 ? fd : write_file_at(fd, "freezer.state", "FROZEN");

		if (r < 0)
			log_warn("cgroup %s, which was frozen, runs: %s", g->path, strerror(-r));
	}
	cg->n_frozen = 0;
}
