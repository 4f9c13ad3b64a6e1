/*
 * System V IPC made again.
 *
 * shmget(2), semget(2) and msgget(2) take the id, sequence number included, from
 * /proc/sys/kernel/{shm,sem,msg}_next_id (CONFIG_CHECKPOINT_RESTORE), unless somebody is faster. The
 * creator, who keeps rights for good, is who calls: a child of the engine takes that identity.
 *
 * On the machine of the dump an object outlives its processes, so it may still be there. It is
 * taken over only if key and creator are the same and nobody lives who used it last.
 */
#include <grp.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "ns/ipc_state.h"
#include "ns/ns.h"

#define TRIES	20

int ipc_desc_check(const char *what, const IpcDescEntry *d, uint32_t mode_known)
{
	if (d->id > INT32_MAX || d->mode & ~mode_known)
		return log_fail(-EBADMSG, "ipcns-%s: object %u of mode 0%o is malformed", what, d->id,
				d->mode);
	return 0;
}

struct child {
	ipc_child_fn fn;
	const void *arg;
	bool is_other;
	uid_t uid;
	gid_t gid;
};

/* Huge pages are not for every user. */
static int keep_ipc_lock(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &head, data) < 0)
		return neg_errno();
	data[0].effective = data[0].permitted & 1u << CAP_IPC_LOCK;
	return syscall(SYS_capset, &head, data) < 0 ? neg_errno() : 0;
}

static int child_run(const struct child *c)
{
	int r = 0;

	if (c->is_other && (setgroups(0, NULL) < 0 || setresgid(c->gid, c->gid, c->gid) < 0 ||
			    prctl(PR_SET_KEEPCAPS, 1) < 0 || setresuid(c->uid, c->uid, c->uid) < 0))
		return neg_errno();
	if (c->is_other)
		r = keep_ipc_lock();
	return r < 0 ? r : c->fn(c->arg);
}

/* A change of identity would cost the engine its parent-death signal. */
int ipc_in_child(struct restore_ctx *ctx, const IpcDescEntry *as, ipc_child_fn fn, const void *arg)
{
	int *ret = mmap(NULL, sizeof(*ret), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct child c = { .fn = fn, .arg = arg, .is_other = as };
	int status, r;
	pid_t pid;

	if (ret == MAP_FAILED)
		return neg_errno();
	if (as) {
		c.uid = ns_restore_uid(ctx, as->cuid);
		c.gid = ns_restore_gid(ctx, as->cgid);
	}
	*ret = -EIO;
	pid = fork();
	if (!pid) {
		*ret = child_run(&c);
		_exit(0);
	}
	if (pid < 0)
		*ret = neg_errno();
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	r = *ret;
	munmap(ret, sizeof(*ret));
	return r;
}

/* What was not used up would be the number of the next object that anybody makes. */
static void use_up_next_id(const struct ipc_maker *m)
{
	int id = m->get_any();

	if (id >= 0)
		m->remove(id);
}

int ipc_make(struct restore_ctx *ctx, const struct ipc_maker *m, const IpcDescEntry *d, const void *arg)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", d->id);
	for (unsigned int n = 0; n < TRIES; n++) {
		int id, r;

		r = write_filef(text, "/proc/sys/kernel/%s_next_id", m->what);
		if (r < 0)
			return log_err(r, "cannot write /proc/sys/kernel/%s_next_id", m->what);
		id = ipc_in_child(ctx, d, m->get, arg);
		if (id < 0)
			use_up_next_id(m);
		if (id == -EEXIST)
			return log_fail(id, "its key 0x%08x belongs to another one", d->key);
		if (id < 0)
			return log_err(id, "cannot make it");
		if ((uint32_t)id == d->id)
			return 0;
		m->remove(id);
	}
	return log_fail(-EEXIST, "its id is in use");
}

int ipc_same_object(struct restore_ctx *ctx, const struct ipc_perm *perm, const IpcDescEntry *d)
{
	if ((uint32_t)perm->__key == d->key && perm->cuid == ns_restore_uid(ctx, d->cuid) &&
	    perm->cgid == ns_restore_gid(ctx, d->cgid))
		return 0;
	return log_fail(-EEXIST, "its id belongs to another one (key 0x%08x, made by %u:%u)",
			(unsigned int)perm->__key, perm->cuid, perm->cgid);
}

int ipc_leave_out(void)
{
	log_warn("it is left out: only its owner's user id tied it to the tree");
	return 0;
}

int ipc_unused(pid_t pid, char tool, int id)
{
	if (!ipc_pid_is_alive(pid))
		return 0;
	return log_fail(-EBUSY, "process %d (%s) was the last to use it and still runs; end it, or remove the object with: ipcrm -%c %d",
			pid, ipc_comm(pid), tool, id);
}

struct restore_process *ipc_process(struct restore_ctx *ctx, uint32_t pid)
{
	struct restore_process *p = pid ? restore_process_find(ctx, pid) : NULL;

	return p && p->alive ? p : NULL;
}

/* The number in the images' names; 0: there are none. */
static uint32_t images_of(struct restore_ctx *ctx)
{
	const TaskKobjIdsEntry *ids = ns_restore_has_ipcns(ctx) ? ctx->procs[0].ids :
				      ctx->inventory->root_ids;

	return ids && ids->has_ipc_ns_id ? ids->ipc_ns_id : 0;
}

int ipc_huge_pages(struct restore_ctx *ctx, uint64_t need[64])
{
	uint32_t id = images_of(ctx);

	return id ? ipc_shm_huge_pages(ctx, id, need) : 0;
}

int ipc_restore(struct restore_ctx *ctx)
{
	uint32_t id = images_of(ctx);
	int r;

	if (!id)
		return 0;
	r = ipc_shm_restore(ctx, id);
	if (r >= 0)
		r = ipc_sem_restore(ctx, id);
	return r < 0 ? r : ipc_msg_restore(ctx, id);
}

int ipc_restore_users(struct restore_ctx *ctx)
{
	int r = ipc_sem_restore_users(ctx);

	return r < 0 ? r : ipc_msg_restore_users(ctx);
}

int ipc_restore_late(struct restore_ctx *ctx)
{
	return ipc_shm_restore_late(ctx);
}

void ipc_restore_done(struct restore_ctx *ctx, bool failed)
{
	/* By number, in the host's namespace: not those of a namespace that ends with the tree. */
	if (!failed || ns_restore_has_ipcns(ctx))
		return;
	ipc_shm_remove(ctx);
	ipc_sem_remove(ctx);
	ipc_msg_remove(ctx);
}
