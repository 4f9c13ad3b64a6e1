/*
 * Namespaces of the tree that somebody else has, too: a process outside of it, or a file that keeps
 * one (ip-netns(8), NetworkNamespacePath=). The tree would come back in a copy of its own, and
 * what connects both sides would be cut without anybody being told.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "ns/state.h"

/* Those that hold objects or processes; names and clocks may be copied. */
static const enum ns_type connecting[] = { NS_IPC, NS_NET, NS_PID };

struct own_ns {
	enum ns_type type;
	uint64_t inode;
	bool told;
};

static bool is_in(int proc, const char *pid, const struct own_ns *ns)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "%.16s/ns/%s", pid, ns_names[ns->type]);
	return !fstatat(proc, path, &st, 0) && st.st_ino == ns->inode;
}

static void name_of(int proc, const char *pid, char *comm, size_t size)
{
	_cleanup_free_ char *text = NULL;
	char path[32];

	snprintf(path, sizeof(path), "%.16s/comm", pid);
	if (read_file_at(proc, path, 64, &text, NULL) < 0)
		text = NULL;
	snprintf(comm, size, "%.*s", text ? (int)strcspn(text, "\n") : 1, text ? text : "?");
}

static int check_process(struct dump_ctx *ctx, int proc, const char *name, struct own_ns *own,
			 size_t n)
{
	int refused = 0, pid;
	char comm[20];

	if (parse_int(name, &pid) < 0 || dump_process_find(ctx, pid))
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (own[i].told || !is_in(proc, name, &own[i]))
			continue;
		own[i].told = true;
		name_of(proc, name, comm, sizeof(comm));
		refused = log_obstacle(own[i].type == NS_PID ? "end it before" :
				       "do without JoinsNamespaceOf=, or stop the other side before",
				       "process %d (%s) outside of the tree is in its %s namespace",
				       pid, comm, ns_names[own[i].type]);
	}
	return refused;
}

static int check_processes(struct dump_ctx *ctx, struct own_ns *own, size_t n)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc");
	const struct dirent *de;
	int refused = 0;

	if (!dir)
		return log_err(neg_errno(), "cannot list processes");
	while ((de = readdir(dir))) {
		int r = check_process(ctx, dirfd(dir), de->d_name, own, n);

		refused = r < 0 ? r : refused;
	}
	return refused;
}

static int check_mounts(struct dump_ctx *ctx, const struct own_ns *own, size_t n)
{
	_cleanup_close_ int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct mount_table t;
	int refused = 0, r;

	if (self < 0)
		return log_err(neg_errno(), "cannot open /proc/self");
	r = mountinfo_read(&ctx->arena, self, &t);
	if (r < 0)
		return log_err(r, "cannot read the mounts of the host");
	for (size_t i = 0; i < t.n; i++)
		for (size_t k = 0; k < n; k++) {
			char root[40];

			snprintf(root, sizeof(root), "%s:[%lu]", ns_names[own[k].type], own[k].inode);
			if (!strcmp(t.mounts[i].fstype, "nsfs") && !strcmp(t.mounts[i].root, root))
				refused = log_obstacle("let the service have one that only it uses, or give a "
						       "network namespace by --external net[INODE]:NAME",
						       "its %s namespace is kept by %s",
						       ns_names[own[k].type],
						       t.mounts[i].mountpoint);
		}
	return refused;
}

static struct own_ns *own_add(struct dump_ctx *ctx, struct own_ns **own, size_t *n, enum ns_type type, uint64_t inode)
{
	struct own_ns *o = ARENA_PUSH(&ctx->arena, *own, *n);

	if (o)
		*o = (struct own_ns){ type, inode, false };
	return o;
}

int ns_dump_check_shared(struct dump_ctx *ctx)
{
	struct own_ns *own = NULL;
	size_t n = 0;
	int r, refused;

	/* Nested in the root's. */
	for (size_t i = 0; i < ctx->ns_by_key.room; i++) {
		const struct ns_seen *s = ctx->ns_by_key.slots[i].val;

		if (s && s->type == NS_PID && s->p && s->p != ctx->procs[0] &&
		    !own_add(ctx, &own, &n, NS_PID, s->inode))
			return -ENOMEM;
	}
	for (size_t i = 0; i < ARRAY_SIZE(connecting); i++) {
		struct stat st;
		char path[32];

		if (!ns_dump_own_id(ctx, connecting[i]) ||
		    (connecting[i] == NS_NET && netns_label(ctx)))
			continue;
		snprintf(path, sizeof(path), "ns/%s", ns_names[connecting[i]]);
		if (fstatat(ctx->procs[0]->proc_fd, path, &st, 0) < 0)
			return log_err(neg_errno(), "cannot read /proc/%d/%s", ctx->procs[0]->pid, path);
		if (!own_add(ctx, &own, &n, connecting[i], st.st_ino))
			return -ENOMEM;
	}
	if (!n)
		return 0;
	refused = check_processes(ctx, own, n);
	if (refused < 0 && refused != -EOPNOTSUPP)
		return refused;
	r = check_mounts(ctx, own, n);
	return r < 0 ? r : refused;
}
