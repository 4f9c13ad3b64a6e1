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

static const struct cg_set *set_by_id(const struct cg_restore *cg, uint32_t id)
{
	if (!id || id == cg->own_id)
		return &cg->own;
	for (size_t i = 0; i < cg->n; i++)
		if (cg->sets[i].id == id)
			return &cg->sets[i];
	return NULL;
}

struct cg_hierarchy *cgroup_hierarchy(struct cg_restore *cg, const char *name)
{
	for (size_t i = 0; i < cg->n_hierarchies; i++)
		if (cgroup_names_equal(cg->hierarchies[i].name, name))
			return &cg->hierarchies[i];
	return NULL;
}

/* The path of --cgroup-root [CTRL:]/PATH for this hierarchy, NULL: none. */
static const char *new_root(const struct cr_opts *opts, const char *name)
{
	for (size_t i = opts->n_cgroup_roots; i-- > 0;) {
		const char *spec = opts->cgroup_roots[i], *slash = strchr(spec, '/');
		size_t n = (size_t)(slash - spec);

		if (!n || cgroup_is_called(name, spec, n - 1))
			return slash;
	}
	return NULL;
}

const char *cgroup_new_path(struct cg_restore *cg, const char *name, const char *path,
			    const char *old_root)
{
	const char *to = new_root(cg->opts, name);
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

/*
 * The hierarchy's name as it is here. A named one (name=...) that is not here is made: it binds no controller,
 * so nobody else notices.
 */
static int find_name(struct cg_restore *cg, const CgMemberEntry *c, const char **ret)
{
	struct cg_hierarchy *h = cgroup_hierarchy(cg, c->name);

	*ret = h ? h->name : c->name;
	if (h || !cgroup_may_make(cg) || !c->path[1] || !str_starts(c->name, "name=") || strchr(c->name, ',') ||
	    cg->n_hierarchies >= CG_HIERARCHIES_MAX)
		return 0;
	h = &cg->hierarchies[cg->n_hierarchies++];
	*h = (struct cg_hierarchy){ .name = c->name, .root = "/", .fd = cgroup_mount_v1(c->name) };
	return h->fd < 0 ? log_err(h->fd, "cannot make the cgroup hierarchy '%s'", c->name) : 0;
}

static int read_set(struct cg_restore *cg, const CgSetEntry *e, const CgSetEntry *root)
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
		r = find_name(cg, c, &m->name);
		if (r < 0)
			return r;
		m->path = cgroup_new_path(cg, m->name, c->path, old_root);
		m->ns_prefix = 0;
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

static int read_sets(struct cg_restore *cg, const CgroupEntry *e, const CgSetEntry *root)
{
	if (e->n_sets > SETS_MAX)
		return log_fail(-EBADMSG, "cgroup.img: %zu sets", e->n_sets);
	for (size_t i = 0; i < e->n_sets; i++) {
		int r = read_set(cg, e->sets[i], root);

		if (r < 0)
			return r;
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
	cg->hierarchies = arena_alloc(cg->a, CG_HIERARCHIES_MAX * sizeof(*cg->hierarchies));
	if (!cg->hierarchies)
		return log_err(-ENOMEM, "cannot restore control groups");
	for (size_t i = 0; i < cg->own.n; i++) {
		struct cg_hierarchy *h = &cg->hierarchies[cg->n_hierarchies++];

		*h = (struct cg_hierarchy){ .name = cg->own.members[i].name, .root = "/" };
		cgroup_find_mount(&mounts, h);
	}
	return 0;
}

static int prepare(struct restore_ctx *ctx, struct cg_restore *cg, const CgroupEntry *e)
{
	const CgSetEntry *root = root_set(e, ctx);
	int r = find_hierarchies(cg);

	if (r >= 0)
		r = read_sets(cg, e, root);
	return r < 0 ? r : cgroup_make_all(cg, e, root);
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
	*cg = (struct cg_restore){ .a = &ctx->arena, .opts = ctx->opts, .mode = mode,
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
	struct cg_hierarchy *h = cgroup_hierarchy(cg, "");
	_cleanup_close_ int dir = -EBADF;
	int fd;

	if (!path_is_normal(path))
		return -EBADMSG;
	if (!h || h->fd < 0)
		return -ENOENT;
	dir = cgroup_make_dirs(cg, h, path);
	if (dir < 0)
		return dir;
	fd = openat(dir, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	return fd < 0 ? neg_errno() : fd;
}

void cgroup_restore_done(void *state, bool failed)
{
	struct cg_restore *cg = state;

	if (cg && failed)
		cgroup_remove_made(cg);
	else if (cg)
		cgroup_freeze_again(cg);
	for (size_t i = 0; cg && i < cg->n_hierarchies; i++)
		close_fdp(&cg->hierarchies[i].fd);
	if (cg)
		cg->n_hierarchies = 0;
}

static int move(struct cg_restore *cg, const struct cg_member *m, pid_t id, bool thread)
{
	struct cg_hierarchy *h = cgroup_hierarchy(cg, m->name);
	const char *file = thread ? *m->name ? "tasks" : "cgroup.threads" : "cgroup.procs";
	_cleanup_close_ int fd = -EBADF;
	char text[16];
	int r;

	if (!h || h->fd < 0)
		return m->path[1] ? log_fail(-ENOENT, "there is no cgroup hierarchy '%s'", m->name) : 0;
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

int cgroup_restore_go_to_ns_root(void *state, const struct restore_process *p)
{
	struct cg_restore *cg = state;
	const CoreEntry *core = p->core;
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
