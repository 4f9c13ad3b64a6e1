/*
 * The user namespace: a child of the initial one, with maps written from outside.
 *
 *   dump     /proc/PID/uid_map, gid_map, as we see them: inside, outside, count
 *   restore  a helper unshares it, we write setgroups and the maps, keep a descriptor
 *
 * Ids in images are the inside's. systemd's PrivateUsers=self maps two ids of all to themselves:
 * files of other users show up as "nobody" inside, but the tree's images must keep who it was. An
 * id without a mapping is therefore stored as it is, unless the number is taken inside.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <string.h>

#include "ns/state.h"

#define OVERFLOW_ID	65534u
#define EXTENTS_MAX	340u		/* user_namespaces(7) */

int userns_map_parse(struct arena *a, const char *text, UidGidExtent ***ret, size_t *ret_n)
{
	UidGidExtent **map = NULL;
	size_t n = 0;

	while (*text) {
		UidGidExtent *e = ARENA_MSG(a, UidGidExtent, uid_gid_extent), **slot;
		int used = 0;

		if (!e)
			return -ENOMEM;
		if (sscanf(text, "%u %u %u %n", &e->first, &e->lower_first, &e->count, &used) < 3 ||
		    !used || n >= EXTENTS_MAX)
			return -EBADMSG;
		slot = ARENA_PUSH(a, map, n);
		if (!slot)
			return -ENOMEM;
		*slot = e;
		text += used;
	}
	*ret = map;
	*ret_n = n;
	return 0;
}

char *userns_map_text(UidGidExtent *const *map, size_t n)
{
	char *text = strdup("");

	for (size_t i = 0; text && i < n; i++) {
		char *more = str_fmt("%s%u %u %u\n", text, map[i]->first, map[i]->lower_first,
				     map[i]->count);

		free(text);
		text = more;
	}
	return text;
}

static uint32_t to_inside(UidGidExtent *const *map, size_t n, uint32_t outside)
{
	for (size_t i = 0; i < n; i++)
		if (outside - map[i]->lower_first < map[i]->count)
			return map[i]->first + (outside - map[i]->lower_first);
	for (size_t i = 0; i < n; i++)
		if (outside - map[i]->first < map[i]->count)
			return OVERFLOW_ID;
	return outside;
}

static uint32_t to_outside(UidGidExtent *const *map, size_t n, uint32_t inside)
{
	for (size_t i = 0; i < n; i++)
		if (inside - map[i]->first < map[i]->count)
			return map[i]->lower_first + (inside - map[i]->first);
	return inside;
}

uint32_t dump_uid(struct dump_ctx *ctx, uint32_t outside)
{
	const struct ns_dump *ns = ctx->ns_state;

	if (!ns || !ns->userns || outside == UINT32_MAX)
		return outside;
	return to_inside(ns->userns->uid_map, ns->userns->n_uid_map, outside);
}

uint32_t dump_gid(struct dump_ctx *ctx, uint32_t outside)
{
	const struct ns_dump *ns = ctx->ns_state;

	if (!ns || !ns->userns || outside == UINT32_MAX)
		return outside;
	return to_inside(ns->userns->gid_map, ns->userns->n_gid_map, outside);
}

uint32_t ns_restore_uid(struct restore_ctx *ctx, uint32_t inside)
{
	const struct ns_restore *ns = ctx->ns_state;

	if (!ns || !ns->userns || inside == UINT32_MAX)
		return inside;
	return to_outside(ns->userns->uid_map, ns->userns->n_uid_map, inside);
}

uint32_t ns_restore_gid(struct restore_ctx *ctx, uint32_t inside)
{
	const struct ns_restore *ns = ctx->ns_state;

	if (!ns || !ns->userns || inside == UINT32_MAX)
		return inside;
	return to_outside(ns->userns->gid_map, ns->userns->n_gid_map, inside);
}

bool ns_restore_has_userns(struct restore_ctx *ctx)
{
	const struct ns_restore *ns = ctx->ns_state;

	return ns && ns->userns;
}

static int read_map(struct arena *a, int proc_fd, const char *name, UidGidExtent ***ret,
		    size_t *ret_n)
{
	_cleanup_free_ char *text = NULL;
	int r = read_file_at(proc_fd, name, READ_FILE_MAX, &text, NULL);

	if (r >= 0)
		r = userns_map_parse(a, text, ret, ret_n);
	if (r < 0)
		return log_err(r, "cannot read %s", name);
	return 0;
}

/*
 * Nothing in the images says whether setgroups(2) is allowed inside, so it is told by the map:
 * whole ranges of ids are for containers, which need it; systemd's one or two ids go with
 * "deny". What does not fit is refused on dump.
 */
static bool allows_setgroups(UidGidExtent *const *gid_map, size_t n)
{
	uint64_t ids = 0;

	for (size_t i = 0; i < n; i++)
		ids += gid_map[i]->count;
	return ids >= 65536;
}

static int check_setgroups(int proc_fd, const UsernsEntry *e)
{
	bool expected = allows_setgroups(e->gid_map, e->n_gid_map);
	_cleanup_free_ char *text = NULL;
	int r = read_file_at(proc_fd, "setgroups", 64, &text, NULL);

	if (r < 0)
		return log_err(r, "cannot read setgroups of its user namespace");
	if (str_starts(text, "allow") == expected)
		return 0;
	return log_obstacle("use PrivateUsers=self or no PrivateUsers=",
			    "its user namespace has setgroups %s, which its gid_map does not tell",
			    expected ? "denied" : "allowed");
}

int userns_collect(struct dump_ctx *ctx)
{
	struct dump_process *root = ctx->procs[0];
	struct ns_dump *ns = ctx->ns_state;
	UsernsEntry *e;
	int r;

	if (!root->ids || root->ids->user_ns_id == ctx->root_ids->user_ns_id)
		return 0;
	e = ARENA_MSG(&ctx->arena, UsernsEntry, userns_entry);
	if (!e)
		return log_err(-ENOMEM, "cannot save the user namespace");
	r = read_map(&ctx->arena, root->proc_fd, "uid_map", &e->uid_map, &e->n_uid_map);
	if (r < 0)
		return r;
	r = read_map(&ctx->arena, root->proc_fd, "gid_map", &e->gid_map, &e->n_gid_map);
	if (r < 0)
		return r;
	ns->userns = e;
	return check_setgroups(root->proc_fd, e);
}

/* Extents must not overlap or wrap: the kernel would refuse them without saying which. */
static int check_map(const char *name, UidGidExtent *const *map, size_t n)
{
	if (n > EXTENTS_MAX)
		return log_fail(-EBADMSG, "%s has %zu lines, more than %u", name, n, EXTENTS_MAX);
	for (size_t i = 0; i < n; i++) {
		if (!map[i]->count || map[i]->first > UINT32_MAX - map[i]->count ||
		    map[i]->lower_first > UINT32_MAX - map[i]->count)
			return log_fail(-EBADMSG, "%s: bad line %u %u %u", name, map[i]->first,
					map[i]->lower_first, map[i]->count);
	}
	return 0;
}

int userns_read_image(struct restore_ctx *ctx, uint32_t id)
{
	struct ns_restore *ns = ctx->ns_state;
	UsernsEntry *e;
	int r = image_read_one(ctx->store, &ctx->arena, &image_userns, userns_entry, &e, id);

	if (r < 0)
		return r;
	r = check_map("uid_map", e->uid_map, e->n_uid_map);
	if (r >= 0)
		r = check_map("gid_map", e->gid_map, e->n_gid_map);
	if (r < 0)
		return r;
	ns->userns = e;
	return 0;
}

static int unshare_user(void *arg _unused_, struct ns_reply *reply _unused_)
{
	_cleanup_close_ int mnt = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

	/* In a chroot it is refused (EPERM); entering a namespace, also one's own, leaves that. */
	if (mnt < 0 || setns(mnt, CLONE_NEWNS) < 0)
		return log_err(neg_errno(), "cannot leave a chroot");
	return unshare(CLONE_NEWUSER) < 0 ? neg_errno() : 0;
}

static int write_map(pid_t pid, const char *name, UidGidExtent *const *map, size_t n)
{
	_cleanup_free_ char *text = userns_map_text(map, n);
	int r;

	if (!text)
		return -ENOMEM;
	if (!n)
		return 0;
	r = write_filef(text, "/proc/%d/%s", pid, name);
	if (r < 0)
		return log_err(r, "cannot write %s of the new user namespace (%zu lines)", name, n);
	return 0;
}

int userns_build(struct ns_restore *ns)
{
	_cleanup_helper_ struct ns_helper h = NS_HELPER_INIT;
	int r = ns_helper_start(&h, unshare_user, NULL);

	if (r < 0)
		return log_err(r, "cannot make a user namespace");
	if (!allows_setgroups(ns->userns->gid_map, ns->userns->n_gid_map))
		r = write_filef("deny", "/proc/%d/setgroups", h.pid);
	if (r < 0)
		return log_err(r, "cannot write setgroups of the new user namespace");
	r = write_map(h.pid, "uid_map", ns->userns->uid_map, ns->userns->n_uid_map);
	if (r < 0)
		return r;
	r = write_map(h.pid, "gid_map", ns->userns->gid_map, ns->userns->n_gid_map);
	if (r < 0)
		return r;
	r = ns_helper_open(&h, "ns/user", &ns->user_fd);
	if (r < 0)
		return log_err(r, "cannot open the new user namespace");
	return 0;
}
