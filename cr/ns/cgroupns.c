/*
 * A cgroup namespace of a process of the tree: which groups show as "/" in it. CRIU's form: in each set of
 * cgroup.img, how many bytes of a path the namespace hides (cgns_prefix).
 *
 *   dump     a helper enters it and reads /proc/PID/cgroup: the host's path less that is the root
 *   restore  a helper goes to those groups and unshares; the namespace keeps where it was
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <string.h>

#include "ns/cgroup_state.h"
#include "ns/state.h"

#define TEXT_MAX	(16u << 10)

struct inside_view {
	int fd;
	pid_t pid;
	struct {
		size_t bytes;
		char text[TEXT_MAX];
	} reply;
};

static int read_inside(void *arg, struct ns_reply *reply)
{
	struct inside_view *v = arg;
	_cleanup_free_ char *text = NULL, *path = str_fmt("/proc/%d/cgroup", v->pid);
	int r;

	if (!path)
		return -ENOMEM;
	if (setns(v->fd, CLONE_NEWCGROUP) < 0)
		return neg_errno();
	r = read_file_at(AT_FDCWD, path, TEXT_MAX - 1, &text, &v->reply.bytes);
	if (r < 0)
		return r;
	memcpy(v->reply.text, text, v->reply.bytes);
	reply->data = &v->reply;
	reply->bytes = sizeof(v->reply);
	return 0;
}

/* Its groups as they show inside. */
static int inside_set(struct arena *a, const struct dump_process *p, struct cg_set *ret)
{
	_cleanup_free_ struct inside_view *v = calloc(1, sizeof(*v));
	_cleanup_helper_ struct ns_helper h = NS_HELPER_INIT;
	_cleanup_close_ int fd = openat(p->proc_fd, "ns/cgroup", O_RDONLY | O_CLOEXEC);
	int r;

	if (!v)
		return log_err(-ENOMEM, "cgroup namespace of %d", p->pid);
	if (fd < 0)
		return log_err(neg_errno(), "cannot open the cgroup namespace of %d", p->pid);
	v->fd = fd;
	v->pid = p->pid;
	r = ns_helper_start(&h, read_inside, v);
	if (r >= 0)
		r = ns_helper_read(&h, &v->reply, sizeof(v->reply));
	if (r >= 0)
		r = v->reply.bytes < TEXT_MAX ? cgroup_parse(a, v->reply.text, ret) : -EBADMSG;
	return r < 0 ? log_err(r, "cannot read the cgroup namespace of %d", p->pid) : 0;
}

/* The root that makes `outside` show as `inside`. */
static int root_of(struct arena *a, const char *outside, const char *inside, const char **ret)
{
	size_t n = strlen(outside), k = strcmp(inside, "/") ? strlen(inside) : 0;
	char *root;

	if (str_starts(inside, "/..") || k > n || strcmp(outside + n - k, inside + (k ? 0 : 1)))
		return -EXDEV;
	root = arena_strdup(a, n - k ? outside : "/");
	if (root && n - k)
		root[n - k] = '\0';
	*ret = root;
	return root ? 0 : -ENOMEM;
}

int cgroupns_roots(struct arena *a, const struct dump_process *p, struct cg_set *ret)
{
	_cleanup_free_ char *text = NULL;
	struct cg_set inside;
	int r = read_file_at(p->proc_fd, "cgroup", READ_FILE_MAX, &text, NULL);

	if (r >= 0)
		r = cgroup_parse(a, text, ret);
	if (r < 0)
		return log_err(r, "cannot read the control groups of %d", p->pid);
	r = inside_set(a, p, &inside);
	for (size_t i = 0; r >= 0 && i < ret->n; i++) {
		const char *path = cgroup_path_in(&inside, ret->members[i].name);

		r = path ? root_of(a, ret->members[i].path, path, &ret->members[i].path) : -EBADMSG;
		if (r == -EXDEV)
			return log_obstacle("let its first process stay in the namespace's groups",
					    "it has left the groups that its cgroup namespace shows (%s)",
					    path);
		if (r < 0)
			return log_err(r, "cannot find the roots of the cgroup namespace of %d", p->pid);
	}
	return r;
}

struct member {
	void *groups;
	const struct restore_process *p;
};

static int go_and_unshare(void *arg, struct ns_reply *reply _unused_)
{
	const struct member *m = arg;
	int r = cgroup_restore_go_to_ns_root(m->groups, m->p);

	if (r < 0)
		return r;
	return unshare(CLONE_NEWCGROUP) < 0 ? neg_errno() : 0;
}

int cgroupns_make(struct restore_ctx *ctx, const struct restore_process *p, uint32_t id _unused_, int *ret_fd)
{
	_cleanup_helper_ struct ns_helper h = NS_HELPER_INIT;
	struct member m = { ctx->cgroup_state, p };
	int r;

	if (!ctx->cgroup_state)
		return log_fail(-EINVAL, "a cgroup namespace cannot be made without its control groups (--manage-cgroups)");
	r = ns_helper_start(&h, go_and_unshare, &m);
	if (r >= 0)
		r = ns_helper_open(&h, "ns/cgroup", ret_fd);
	return r < 0 ? log_err(r, "cannot make a cgroup namespace") : 0;
}
