/*
 * Control groups, restore: groups are made where the mode allows it, tasks are moved from outside
 * by writing their ids to cgroup.procs.
 *
 * A task is born in its parent's groups. It is moved while it is alone in its process, before it
 * has any memory, so that everything it gets is charged to the right group.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "ns/cgroup_state.h"

#define SETS_MAX 65536u

/* A group that was not there. */
struct cg_made {
	const struct cg_hierarchy *h;
	char *path;
};

struct cg_restore {
	struct arena *a;
	int mode;
	uint32_t own_id;		/* inventory.root_cg_set: whoever restores */
	struct cg_set own;		/* where we are now */
	struct cg_set *sets;
	size_t n;
	struct cg_hierarchy *hierarchies;
	size_t n_hierarchies;
	struct cg_made *made;		/* parents before children */
	size_t n_made;
};

static const struct cg_set *set_by_id(const struct cg_restore *cg, uint32_t id)
{
	if (!id || id == cg->own_id)
		return &cg->own;
	for (size_t i = 0; i < cg->n; i++)
		if (cg->sets[i].id == id)
			return &cg->sets[i];
	return NULL;
}

static struct cg_hierarchy *hierarchy_by_name(struct cg_restore *cg, const char *name)
{
	for (size_t i = 0; i < cg->n_hierarchies; i++)
		if (!strcmp(cg->hierarchies[i].name, name))
			return &cg->hierarchies[i];
	return NULL;
}

/* The path of --cgroup-root [CTRL:]/PATH for this hierarchy, NULL: none. */
static const char *new_root(const struct cr_opts *opts, const char *name)
{
	for (size_t i = opts->n_cgroup_roots; i-- > 0;) {
		const char *spec = opts->cgroup_roots[i], *slash = strchr(spec, '/');
		size_t n = (size_t)(slash - spec);

		if (!n || (n - 1 == strlen(name) && !strncmp(spec, name, n - 1)))
			return slash;
	}
	return NULL;
}

/* Below the root task's old group becomes below the new root. */
static const char *rewrite(struct cg_restore *cg, const char *to, const char *path,
			   const char *old_root)
{
	const char *rest = old_root ? path_below(path, old_root) : NULL;

	return to ? path_join(cg->a, to, rest ? rest : path + 1) : path;
}

/* What lies below the namespace's root stays below it, also where --cgroup-root has put it. */
static int ns_prefix(const CgMemberEntry *c, struct cg_member *m)
{
	size_t n = c->has_cgns_prefix ? c->cgns_prefix : 0, all = strlen(c->path), now;

	if (!n)
		return 0;
	if (n > all || n < 2 || (n < all && c->path[n] != '/'))
		return log_fail(-EBADMSG, "cgroup.img: a namespace hides %zu bytes of '%.200s'", n,
				c->path);
	now = strlen(m->path);
	if (now < all - n + 2 || strcmp(m->path + now - (all - n), c->path + n))
		return log_fail(-EINVAL, "--cgroup-root: the cgroup namespace begins above the tree's group");
	m->ns_prefix = now - (all - n);
	return 0;
}

static int read_set(struct cg_restore *cg, const CgSetEntry *e, const CgSetEntry *root,
		    const struct cr_opts *opts)
{
	struct cg_set *s = ARENA_PUSH(cg->a, cg->sets, cg->n);

	if (!s)
		return log_err(-ENOMEM, "cannot read cgroup.img");
	*s = (struct cg_set){ .id = e->id };
	if (e->n_ctls > CG_HIERARCHIES_MAX)
		return log_fail(-EBADMSG, "cgroup.img: set %u names %zu hierarchies", e->id,
				e->n_ctls);
	for (size_t i = 0; i < e->n_ctls; i++) {
		const CgMemberEntry *c = e->ctls[i];
		struct cg_member *m = ARENA_PUSH(cg->a, s->members, s->n);
		const char *old_root = NULL;
		int r;

		if (!m)
			return log_err(-ENOMEM, "cannot read cgroup.img");
		if (!path_is_normal(c->path) || strlen(c->name) > NAME_MAX)
			return log_fail(-EBADMSG, "cgroup.img: set %u: bad path '%.200s'", e->id,
					c->path);
		for (size_t k = 0; root && k < root->n_ctls; k++)
			if (!strcmp(root->ctls[k]->name, c->name))
				old_root = root->ctls[k]->path;
		*m = (struct cg_member){ c->name,
					 rewrite(cg, new_root(opts, c->name), c->path, old_root), 0 };
		if (!m->path || !path_is_normal(m->path))
			return log_fail(-EINVAL, "--cgroup-root: bad path for %s",
					c->name[0] ? c->name : "cgroup2");
		r = ns_prefix(c, m);
		if (r < 0)
			return r;
	}
	return 0;
}

static const CgSetEntry *root_set(const CgroupEntry *e, const struct restore_ctx *ctx)
{
	const CoreEntry *core = ctx->n_procs ? ctx->procs[0].core : NULL;

	for (size_t i = 0; core && core->thread_core && i < e->n_sets; i++)
		if (e->sets[i]->id == core->thread_core->cg_set)
			return e->sets[i];
	return NULL;
}

static int read_sets(struct restore_ctx *ctx, struct cg_restore *cg, const CgroupEntry *e)
{
	const CgSetEntry *root = root_set(e, ctx);

	if (e->n_sets > SETS_MAX)
		return log_fail(-EBADMSG, "cgroup.img: %zu sets", e->n_sets);
	for (size_t i = 0; i < e->n_sets; i++) {
		int r = read_set(cg, e->sets[i], root, ctx->opts);

		if (r < 0)
			return r;
	}
	return 0;
}

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
static int make_dir(struct cg_restore *cg, const struct cg_hierarchy *h, int parent, const char *path)
{
	struct cg_made *m = ARENA_PUSH(cg->a, cg->made, cg->n_made);

	if (!m)
		return -ENOMEM;
	*m = (struct cg_made){ h, arena_strdup(cg->a, path) };
	if (m->path && !mkdirat(parent, strrchr(path, '/') + 1, 0755))
		return 0;
	cg->n_made--;
	return !m->path ? -ENOMEM : errno == EEXIST ? 0 : neg_errno();
}

/* Opens path below h, making what is missing; *ret_made: the last component is new. */
static int make_dirs(struct cg_restore *cg, const struct cg_hierarchy *h, const char *path, bool *ret_made)
{
	char part[PATH_MAX];
	const char *slash = strrchr(path, '/');
	_cleanup_close_ int parent = -EBADF;
	int fd = cgroup_open_dir(h, path), r;
	bool made;

	*ret_made = false;
	if (fd != -ENOENT || slash == path + strlen(path) - 1)
		return fd;
	snprintf(part, sizeof(part), "%.*s", slash == path ? 1 : (int)(slash - path), path);
	parent = make_dirs(cg, h, part, &made);
	if (parent < 0)
		return parent;
	r = make_dir(cg, h, parent, path);
	if (r < 0)
		return r;
	*ret_made = true;
	fd = cgroup_open_dir(h, path);
	if (fd >= 0 && strstr(h->name, "cpuset"))
		inherit_cpuset(parent, fd);
	return fd;
}

static void put_perms(int dirfd, const char *name, const CgroupPerms *p)
{
	if (!p)
		return;
	if (fchownat(dirfd, name, p->uid, p->gid, 0) < 0 ||
	    fchmodat(dirfd, name, p->mode & 07777, 0) < 0)
		log_warn("cannot give a group's %s its owner: %s", name, strerror(errno));
}

/* A limit that cannot be set is told; the tree can run without. */
static void put_properties(int fd, const char *path, const CgroupDirEntry *d)
{
	put_perms(fd, ".", d->dir_perms);
	for (size_t i = 0; i < d->n_properties; i++) {
		const CgroupPropEntry *e = d->properties[i];
		int r;

		if (!cgroup_property_is_known(e->name)) {
			log_debug("cgroup %s: property %.100s left as it is", path, e->name);
			continue;
		}
		if (faccessat(fd, e->name, F_OK, 0) < 0) {
			if (*e->value)
				log_warn("cgroup %s has no %s: its controller is not enabled", path,
					 e->name);
			continue;
		}
		if (*e->value && strcmp(e->name, "cgroup.subtree_control")) {
			r = write_file_at(fd, e->name, e->value);
			if (r < 0)
				log_warn("cgroup %s: cannot set %s to %.100s: %s", path, e->name,
					 e->value, strerror(-r));
		}
		put_perms(fd, e->name, e->perms);
	}
}

static const CgroupDirEntry *find_dir(const CgroupEntry *e, const char *name, const char *path)
{
	for (size_t i = 0; i < e->n_controllers; i++) {
		const CgControllerEntry *c = e->controllers[i];

		for (size_t k = 0; k < c->n_dirs && c->n_cnames; k++)
			if (!strcmp(c->cnames[0], name) && !strcmp(c->dirs[k]->dir_name, path))
				return c->dirs[k];
	}
	return NULL;
}

/* old_path: as the image names it. */
static int prepare_group(struct cg_restore *cg, const CgroupEntry *e, const struct cg_member *m,
			 const char *old_path)
{
	struct cg_hierarchy *h = hierarchy_by_name(cg, m->name);
	const CgroupDirEntry *d = find_dir(e, m->name, old_path);
	_cleanup_close_ int fd = -EBADF;
	bool may_make = cg->mode & (CGROUP_SOFT | CGROUP_FULL | CGROUP_STRICT), made = false;

	if (!m->path[1])
		return 0;
	if (!h || h->fd < 0)
		return log_fail(-ENOENT, "cgroup %s: the hierarchy '%s' is not mounted; "
				"--manage-cgroups=ignore does without", m->path, m->name);
	fd = may_make ? make_dirs(cg, h, m->path, &made) : cgroup_open_dir(h, m->path);
	if (fd == -ENOENT && !may_make)
		return log_fail(fd, "cgroup %s (hierarchy '%s') does not exist; "
				"--manage-cgroups=soft would make it", m->path, m->name);
	if (fd < 0)
		return log_err(fd, "cannot open cgroup %s (hierarchy '%s')", m->path, m->name);
	if (!made && cg->mode & CGROUP_STRICT)
		return log_fail(-EEXIST, "cgroup %s (hierarchy '%s') exists already", m->path,
				m->name);
	if (d && (made || cg->mode & (CGROUP_PROPS | CGROUP_FULL)))
		put_properties(fd, m->path, d);
	return 0;
}

/* Two sets often share a group: only the first one prepares it. */
static bool was_prepared(const struct cg_restore *cg, size_t set, const struct cg_member *m)
{
	for (size_t i = 0; i < set; i++) {
		const char *path = cgroup_path_in(&cg->sets[i], m->name);

		if (path && !strcmp(path, m->path))
			return true;
	}
	return false;
}

static int prepare_groups(struct cg_restore *cg, const CgroupEntry *e)
{
	for (size_t i = 0; i < cg->n; i++) {
		for (size_t k = 0; k < cg->sets[i].n; k++) {
			const struct cg_member *m = &cg->sets[i].members[k];
			int r;

			if (was_prepared(cg, i, m))
				continue;
			r = prepare_group(cg, e, m, e->sets[i]->ctls[k]->path);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int find_hierarchies(struct cg_restore *cg)
{
	_cleanup_close_ int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	struct mount_table mounts;
	int r;

	if (self < 0)
		return log_err(neg_errno(), "cannot open /proc/self");
	r = mountinfo_read(cg->a, self, &mounts);
	if (r >= 0)
		r = read_file_at(self, "cgroup", READ_FILE_MAX, &text, NULL);
	if (r >= 0)
		r = cgroup_parse(cg->a, text, &cg->own);
	if (r < 0)
		return log_err(r, "cannot read our own control groups");
	for (size_t i = 0; i < cg->own.n; i++) {
		struct cg_hierarchy *h = ARENA_PUSH(cg->a, cg->hierarchies, cg->n_hierarchies);

		if (!h)
			return log_err(-ENOMEM, "cannot restore control groups");
		*h = (struct cg_hierarchy){ .name = cg->own.members[i].name, .root = "/" };
		cgroup_find_mount(&mounts, h);
	}
	return 0;
}

static int prepare(struct restore_ctx *ctx, struct cg_restore *cg, const CgroupEntry *e)
{
	int r = find_hierarchies(cg);

	if (r >= 0)
		r = read_sets(ctx, cg, e);
	return r < 0 ? r : prepare_groups(cg, e);
}

int cgroup_restore_prepare(struct restore_ctx *ctx, void **ret_state)
{
	_cleanup_image_reader_ struct image_reader rd;
	int mode = ctx->opts->cgroup_mode < 0 ? CGROUP_SOFT : ctx->opts->cgroup_mode;
	struct cg_restore *cg;
	CgroupEntry *e;
	int r = image_open_optional(ctx->store, &image_cgroup, &rd);

	*ret_state = NULL;
	if (r < 0)
		return r;
	if (mode == CGROUP_IGNORE)
		return 0;
	r = image_get(&rd, &ctx->arena, cgroup_entry, &e);
	if (r <= 0)
		return r;
	cg = ARENA_NEW(&ctx->arena, struct cg_restore);
	if (!cg)
		return log_err(-ENOMEM, "cannot restore control groups");
	*cg = (struct cg_restore){ .a = &ctx->arena, .mode = mode,
				   .own_id = ctx->inventory->root_cg_set };
	r = prepare(ctx, cg, e);
	if (r < 0) {
		cgroup_restore_done(cg, true);
		return r;
	}
	*ret_state = cg;
	return 0;
}

int cgroup_restore_open_procs(void *state, const char *path)
{
	struct cg_restore *cg = state;
	struct cg_hierarchy *h = hierarchy_by_name(cg, "");
	_cleanup_close_ int dir = -EBADF;
	int fd;
	bool made;

	if (!path_is_normal(path))
		return -EBADMSG;
	if (!h || h->fd < 0)
		return -ENOENT;
	dir = cg->mode & (CGROUP_SOFT | CGROUP_FULL | CGROUP_STRICT) ? make_dirs(cg, h, path, &made)
								      : cgroup_open_dir(h, path);
	if (dir < 0)
		return dir;
	fd = openat(dir, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	return fd < 0 ? neg_errno() : fd;
}

/* One that somebody else has begun to use meanwhile stays. */
static void remove_made(struct cg_restore *cg)
{
	while (cg->n_made) {
		const struct cg_made *m = &cg->made[--cg->n_made];
		_cleanup_close_ int parent = open_parent(m->h, m->path);

		if (parent < 0 || unlinkat(parent, strrchr(m->path, '/') + 1, AT_REMOVEDIR) < 0)
			log_warn("cgroup %s, made for this restore, stays: %s", m->path,
				 strerror(parent < 0 ? -parent : errno));
	}
}

void cgroup_restore_done(void *state, bool failed)
{
	struct cg_restore *cg = state;

	if (cg && failed)
		remove_made(cg);
	for (size_t i = 0; cg && i < cg->n_hierarchies; i++)
		close_fdp(&cg->hierarchies[i].fd);
	if (cg)
		cg->n_hierarchies = 0;
}

static int move(struct cg_restore *cg, const struct cg_member *m, pid_t id, bool thread)
{
	struct cg_hierarchy *h = hierarchy_by_name(cg, m->name);
	const char *file = thread ? *m->name ? "tasks" : "cgroup.threads" : "cgroup.procs";
	_cleanup_close_ int fd = -EBADF;
	char text[16];
	int r;

	if (!h || h->fd < 0)
		return m->path[1] ? log_fail(-ENOENT, "hierarchy '%s' is not mounted", m->name) : 0;
	fd = cgroup_open_dir(h, m->path);
	if (fd < 0)
		return log_err(fd, "cannot open cgroup %s (hierarchy '%s')", m->path, m->name);
	snprintf(text, sizeof(text), "%d", id);
	r = write_file_at(fd, file, text);
	return r < 0 ? log_err(r, "cannot move %d to cgroup %s (hierarchy '%s')", id, m->path,
			       m->name) : 0;
}

static int move_all(struct cg_restore *cg, pid_t id, uint32_t set, uint32_t from, bool thread)
{
	const struct cg_set *to = set_by_id(cg, set), *was = set_by_id(cg, from);

	if (!set || set == from)
		return 0;
	if (!to)
		return log_fail(-EBADMSG, "task %d: cgroup.img has no set %u", id, set);
	for (size_t i = 0; i < to->n; i++) {
		const char *now = cgroup_path_in(was, to->members[i].name);
		int r;

		if (now && !strcmp(now, to->members[i].path))
			continue;
		r = move(cg, &to->members[i], id, thread);
		if (r < 0)
			return r;
	}
	return 0;
}

int cgroup_restore_process(struct restore_ctx *ctx _unused_, void *state, pid_t pid, uint32_t set,
			   uint32_t from)
{
	return state ? move_all(state, pid, set, from, false) : 0;
}

int cgroup_restore_thread(struct restore_ctx *ctx _unused_, void *state, pid_t tid, uint32_t set,
			  uint32_t from)
{
	return state ? move_all(state, tid, set, from, true) : 0;
}

int cgroup_restore_go_to_ns_root(struct restore_ctx *ctx, void *state)
{
	struct cg_restore *cg = state;
	const CoreEntry *core = ctx->procs[0].core;
	uint32_t id = core && core->thread_core ? core->thread_core->cg_set : 0;
	const struct cg_set *set = set_by_id(cg, id);

	if (!set)
		return log_fail(-EBADMSG, "cgroup.img has no set %u", id);
	for (size_t i = 0; i < set->n; i++) {
		const struct cg_member *m = &set->members[i];
		const char *now = cgroup_path_in(&cg->own, m->name);
		char *root = arena_strdup(cg->a, m->ns_prefix ? m->path : "/");
		struct cg_member to = { .name = m->name, .path = root };
		int r;

		if (!root)
			return log_err(-ENOMEM, "control groups");
		if (m->ns_prefix)
			root[m->ns_prefix] = '\0';
		r = now && !strcmp(now, root) ? 0 : move(cg, &to, getpid(), false);
		if (r < 0)
			return r;
	}
	return 0;
}
