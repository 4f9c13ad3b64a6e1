/*
 * An IPC namespace of the tree's own: its limits → ipcns-var-N.img. What is in it is ipc_dump.c's
 * and ipc_restore.c's, and kind/mqueue*.c's, as in the host's namespace, only that everything in it is the
 * tree's.
 *
 *   dump     /proc/sys/kernel and fs/mqueue as seen from inside
 *   restore  a helper makes it, owned by the initial user namespace; the engine sets the limits
 *            from inside, before any object is made
 *
 * POSIX message queues are files of the namespace, mounted or not: to list them one is mounted
 * nowhere.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>

#include "ns/ipc.h"
#include "ns/mountapi.h"
#include "ns/state.h"

#define SEM_LIMITS	4u

static const struct limit {
	const char *name;
	size_t offset, has;		/* in IpcVarEntry; has 0: required */
	bool wide;			/* 64 bits */
} limits[] = {
#define LIMIT(n, f)	{ n, offsetof(IpcVarEntry, f), 0, sizeof(((IpcVarEntry *)0)->f) == 8 }
#define OPTIONAL(n, f)	{ n, offsetof(IpcVarEntry, f), offsetof(IpcVarEntry, has_##f), false }
	LIMIT("kernel/msgmax", msg_ctlmax),
	LIMIT("kernel/msgmnb", msg_ctlmnb),
	LIMIT("kernel/msgmni", msg_ctlmni),
	LIMIT("kernel/auto_msgmni", auto_msgmni),
	LIMIT("kernel/shmmax", shm_ctlmax),
	LIMIT("kernel/shmall", shm_ctlall),
	LIMIT("kernel/shmmni", shm_ctlmni),
	LIMIT("kernel/shm_rmid_forced", shm_rmid_forced),
	LIMIT("fs/mqueue/queues_max", mq_queues_max),
	LIMIT("fs/mqueue/msg_max", mq_msg_max),
	LIMIT("fs/mqueue/msgsize_max", mq_msgsize_max),
	OPTIONAL("fs/mqueue/msg_default", mq_msg_default),
	OPTIONAL("fs/mqueue/msgsize_default", mq_msgsize_default),
#undef OPTIONAL
#undef LIMIT
};

/* -ENOENT: this kernel has none of that name. */
static int sysctl_read(const char *name, char **ret)
{
	_cleanup_free_ char *path = str_fmt("/proc/sys/%s", name);
	int r;

	if (!path)
		return -ENOMEM;
	r = read_file_at(AT_FDCWD, path, 4096, ret, NULL);
	if (r >= 0)
		(*ret)[strcspn(*ret, "\n")] = '\0';
	return r;
}

static int limit_read(const struct limit *l, uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;
	int r = sysctl_read(l->name, &text);

	return r < 0 ? r : parse_u64(text, 10, ret);
}

static int semaphore_limits_read(uint32_t sem[SEM_LIMITS])
{
	_cleanup_free_ char *text = NULL;
	int r = sysctl_read("kernel/sem", &text);

	if (r < 0)
		return r;
	return sscanf(text, "%u %u %u %u", &sem[0], &sem[1], &sem[2], &sem[3]) == SEM_LIMITS ?
		0 : -EBADMSG;
}

static int limit_dump(const struct limit *l, IpcVarEntry *e)
{
	char *field = (char *)e + l->offset;
	uint64_t v = 0;
	int r = limit_read(l, &v);

	/* A kernel without message queues: zero, which nobody can set. */
	if (r < 0 && r != -ENOENT)
		return log_err(r, "cannot read /proc/sys/%s", l->name);
	if (!l->wide && v > UINT32_MAX)
		return log_fail(-ERANGE, "/proc/sys/%s is %lu", l->name, v);
	if (l->wide)
		memcpy(field, &v, sizeof(v));
	else
		memcpy(field, &(uint32_t){ (uint32_t)v }, sizeof(uint32_t));
	if (l->has)
		*(protobuf_c_boolean *)((char *)e + l->has) = r >= 0;
	return 0;
}

static int limits_dump(struct dump_ctx *ctx, uint32_t id)
{
	IpcVarEntry e = IPC_VAR_ENTRY__INIT;
	uint32_t sem[SEM_LIMITS];
	int r = semaphore_limits_read(sem);

	if (r < 0)
		return log_err(r, "cannot read /proc/sys/kernel/sem");
	e.sem_ctls = sem;
	e.n_sem_ctls = SEM_LIMITS;
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		r = limit_dump(&limits[i], &e);
		if (r < 0)
			return r;
	}
	return image_write_one(ctx->store, &image_ipcns_var, &e.base, id);
}

static int mqueue_open(int *ret_fd)
{
	_cleanup_close_ int fs = (int)syscall(SYS_fsopen, "mqueue", FSOPEN_CLOEXEC);
	_cleanup_close_ int mnt = -EBADF;
	int fd;

	if (fs < 0)
		return errno == ENODEV ? -ENOENT : neg_errno();
	if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return neg_errno();
	mnt = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	if (mnt < 0)
		return neg_errno();
	fd = openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return neg_errno();
	*ret_fd = fd;
	return 0;
}

static int visit(struct dump_ctx *ctx, struct ns_visit *v)
{
	_cleanup_close_ int fd = -EBADF;

	*v = (struct ns_visit)NS_VISIT_INIT;
	if (!ns_dump_has_ipcns(ctx))
		return 0;
	fd = openat(ctx->procs[0]->proc_fd, "ns/ipc", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return log_err(neg_errno(), "cannot open the ipc namespace of %d", ctx->procs[0]->pid);
	return ns_visit_begin(v, fd, NS_IPC);
}

/* Runs fn in the namespace that the tree is in. */
static int run_inside(struct dump_ctx *ctx, int (*fn)(struct dump_ctx *))
{
	struct ns_visit v;
	int r = visit(ctx, &v), left;

	if (r < 0)
		return r;
	r = fn(ctx);
	left = ns_visit_end(&v);
	return left < 0 ? left : r;
}

static int limits_and_objects(struct dump_ctx *ctx)
{
	int r = ns_dump_has_ipcns(ctx) ? limits_dump(ctx, ns_dump_own_id(ctx, NS_IPC)) : 0;

	return r < 0 ? r : ipc_dump(ctx);
}

bool ns_dump_has_ipcns(struct dump_ctx *ctx)
{
	return ns_dump_own_id(ctx, NS_IPC);
}

int ns_dump_find_semaphores(struct dump_ctx *ctx)
{
	return run_inside(ctx, ipc_find_semaphores);
}

int ns_dump_check_ipc(struct dump_ctx *ctx)
{
	return run_inside(ctx, ipc_check);
}

int ns_dump_ipc(struct dump_ctx *ctx)
{
	return run_inside(ctx, limits_and_objects);
}

int ns_dump_open_mqueues(struct dump_ctx *ctx, int *ret_fd)
{
	struct ns_visit v;
	int r = visit(ctx, &v), left;

	if (r < 0)
		return r;
	r = mqueue_open(ret_fd);
	left = ns_visit_end(&v);
	if (left < 0 && r >= 0)
		close(*ret_fd);
	return left < 0 ? left : r;
}

static int unshare_ipc(void *arg _unused_, struct ns_reply *reply _unused_)
{
	return unshare(CLONE_NEWIPC) < 0 ? neg_errno() : 0;
}

int ipcns_make(struct restore_ctx *ctx _unused_, const struct restore_process *p _unused_, uint32_t id _unused_,
	       int *ret_fd)
{
	_cleanup_helper_ struct ns_helper h = NS_HELPER_INIT;
	int r = ns_helper_start(&h, unshare_ipc, NULL);

	if (r >= 0)
		r = ns_helper_open(&h, "ns/ipc", ret_fd);
	return r < 0 ? log_err(r, "cannot make an ipc namespace") : 0;
}

static int limit_write(const char *name, const char *text)
{
	int r = write_filef(text, "/proc/sys/%s", name);

	return r < 0 ? log_err(r, "cannot set /proc/sys/%s to %s", name, text) : 0;
}

static int limit_restore(const struct limit *l, const IpcVarEntry *e)
{
	const char *field = (const char *)e + l->offset;
	uint64_t want = 0, is;
	char text[24];
	int r;

	if (l->has && !*(const protobuf_c_boolean *)((const char *)e + l->has))
		return 0;
	r = limit_read(l, &is);
	memcpy(&want, field, l->wide ? 8 : 4);	/* little endian, as the images are */
	if (r == -ENOENT && !want)
		return 0;
	if (r < 0)
		return log_err(r, "cannot read /proc/sys/%s", l->name);
	if (want == is)
		return 0;
	snprintf(text, sizeof(text), "%lu", want);
	return limit_write(l->name, text);
}

static int semaphore_limits_restore(const IpcVarEntry *e)
{
	uint32_t is[SEM_LIMITS];
	char text[64];
	int r = semaphore_limits_read(is);

	if (r < 0)
		return log_err(r, "cannot read /proc/sys/kernel/sem");
	if (!memcmp(is, e->sem_ctls, sizeof(is)))
		return 0;
	snprintf(text, sizeof(text), "%u %u %u %u", e->sem_ctls[0], e->sem_ctls[1],
		 e->sem_ctls[2], e->sem_ctls[3]);
	return limit_write("kernel/sem", text);
}

int ipcns_restore(struct restore_ctx *ctx, uint32_t id)
{
	IpcVarEntry *e;
	int r = image_read_one(ctx->store, &ctx->arena, &image_ipcns_var, ipc_var_entry, &e, id);

	if (r < 0)
		return r;
	if (e->n_sem_ctls != SEM_LIMITS)
		return log_fail(-EBADMSG, "ipcns-var-%u.img: %zu limits of semaphores, not %u", id,
				e->n_sem_ctls, SEM_LIMITS);
	r = semaphore_limits_restore(e);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(limits); i++)
		r = limit_restore(&limits[i], e);
	return r;
}

bool ns_restore_has_ipcns(struct restore_ctx *ctx)
{
	/* Before that the images are not read. */
	return ctx->ns_state && ns_own_id(ctx->inventory, ctx->procs[0].ids, NS_IPC);
}
