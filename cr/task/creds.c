/*
 * Credentials of a thread: ids, groups, capabilities, securebits, no_new_privs, LSM label.
 *
 *   dump     /proc/PID/task/TID/status; securebits by prctl(2) in the batch
 *   restore  setgroups, securebits that keep capabilities, setres[gu]id, capset in two steps
 *            around ambient raises, bounding drops and the final securebits
 *
 * Ids in images are those inside the tree's user namespace, and the thread is inside it when
 * these calls are made; its groups were set on the way in (ns/), where it was still possible.
 *
 * The order is the trap: ambient capabilities need their inheritable ones first and securebits
 * unlocked, bounding drops and securebits need CAP_SETPCAP, and nothing privileged works after
 * the last capset.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "ns/ns.h"
#include "task/parts.h"

#define GROUPS_MAX	65536u	/* NGROUPS_MAX */
#define CAP_WORDS	2

struct creds_cookie {
	int securebits;
};

struct cap_sets {
	uint64_t inh, prm, eff, bnd, amb;
};

static int put_caps(struct arena *a, uint64_t caps, uint32_t **ret, size_t *ret_n)
{
	uint32_t words[CAP_WORDS] = { (uint32_t)caps, (uint32_t)(caps >> 32) };

	*ret = arena_memdup(a, words, sizeof(words));
	*ret_n = CAP_WORDS;
	return *ret ? 0 : -ENOMEM;
}

static int put_cap_sets(struct arena *a, const struct proc_status *st, CredsEntry *e)
{
	if (put_caps(a, st->cap_inh, &e->cap_inh, &e->n_cap_inh) < 0 ||
	    put_caps(a, st->cap_prm, &e->cap_prm, &e->n_cap_prm) < 0 ||
	    put_caps(a, st->cap_eff, &e->cap_eff, &e->n_cap_eff) < 0 ||
	    put_caps(a, st->cap_bnd, &e->cap_bnd, &e->n_cap_bnd) < 0 ||
	    put_caps(a, st->cap_amb, &e->cap_amb, &e->n_cap_amb) < 0)
		return -ENOMEM;
	return 0;
}

static void put_ids(struct dump_ctx *ctx, const struct proc_status *st, CredsEntry *e)
{
	e->uid = dump_uid(ctx, st->uid[0]);
	e->euid = dump_uid(ctx, st->uid[1]);
	e->suid = dump_uid(ctx, st->uid[2]);
	e->fsuid = dump_uid(ctx, st->uid[3]);
	e->gid = dump_gid(ctx, st->gid[0]);
	e->egid = dump_gid(ctx, st->gid[1]);
	e->sgid = dump_gid(ctx, st->gid[2]);
	e->fsgid = dump_gid(ctx, st->gid[3]);
}

static int creds_dump(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	CredsEntry *e = ARENA_MSG(&ctx->arena, CredsEntry, creds_entry);
	ThreadCoreEntry *tc = part_thread_core(ctx, th);
	const struct proc_status *st;
	int r;

	if (!e || !tc)
		return -ENOMEM;
	r = task_status(ctx, p, th, &st);
	if (r < 0)
		return r;
	put_ids(ctx, st, e);
	if (put_cap_sets(&ctx->arena, st, e) < 0)
		return -ENOMEM;
	e->groups = arena_alloc(&ctx->arena, (st->n_groups + 1) * sizeof(*e->groups));
	if (!e->groups)
		return -ENOMEM;
	for (size_t i = 0; i < st->n_groups; i++)
		e->groups[i] = dump_gid(ctx, st->groups[i]);
	e->n_groups = st->n_groups;
	e->has_no_new_privs = st->no_new_privs != 0;
	e->no_new_privs = st->no_new_privs;
	tc->creds = e;
	return lsm_dump(ctx, p, th, &e->lsm_profile);
}

static int creds_dump_calls(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th,
			    struct batch *b, void **cookie)
{
	struct creds_cookie *c = ARENA_NEW(&ctx->arena, struct creds_cookie);

	(void)p;
	(void)th;
	if (!c)
		return -ENOMEM;
	c->securebits = batch_call(b, SYS_prctl, PR_GET_SECUREBITS);
	*cookie = c;
	return 0;
}

static int creds_dump_results(struct dump_ctx *ctx, struct dump_process *p,
			      struct dump_thread *th, struct batch *b, void *cookie)
{
	(void)ctx;
	(void)p;
	th->core->thread_core->creds->secbits =
		(uint32_t)batch_ret(b, ((struct creds_cookie *)cookie)->securebits);
	return 0;
}

static int get_caps(const char *what, const uint32_t *words, size_t n, uint64_t *ret)
{
	if (n > CAP_WORDS)
		return part_bad("core image: %s capabilities of %zu words", what, n);
	*ret = (n > 0 ? words[0] : 0) | (n > 1 ? (uint64_t)words[1] << 32 : 0);
	return 0;
}

static int get_cap_sets(const CredsEntry *e, struct cap_sets *ret)
{
	if (get_caps("inheritable", e->cap_inh, e->n_cap_inh, &ret->inh) < 0 ||
	    get_caps("permitted", e->cap_prm, e->n_cap_prm, &ret->prm) < 0 ||
	    get_caps("effective", e->cap_eff, e->n_cap_eff, &ret->eff) < 0 ||
	    get_caps("bounding", e->cap_bnd, e->n_cap_bnd, &ret->bnd) < 0 ||
	    get_caps("ambient", e->cap_amb, e->n_cap_amb, &ret->amb) < 0)
		return -EBADMSG;
	if ((ret->eff & ~ret->prm) || (ret->amb & ~(ret->prm & ret->inh)))
		return part_bad("core image: effective or ambient capabilities beyond permitted");
	return 0;
}

/* have: what the thread starts with. Restricts want to it, or refuses. */
static int fit_cap_sets(const struct task_inherit *in, const struct cap_sets *have,
			struct cap_sets *want)
{
	uint64_t lost;

	/* A kernel that knows fewer: "all capabilities" still means all. */
	want->inh &= in->cap_known;
	want->prm &= in->cap_known;
	want->eff &= in->cap_known;
	want->bnd &= in->cap_known;
	want->amb &= in->cap_known;
	lost = (want->prm & ~have->prm) | (want->inh & ~(have->bnd | have->prm));
	if (lost)
		return log_fail(-EPERM, "the task had capabilities that the engine lacks (0x%lx): "
				"run it with them", lost);
	if (want->bnd & ~have->bnd)
		log_warn("capabilities 0x%lx are missing from the bounding set: the task's "
			 "programs cannot gain them by execve", want->bnd & ~have->bnd);
	return 0;
}

static void capset_call(struct batch *b, uint64_t eff, uint64_t prm, uint64_t inh)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ (uint32_t)eff, (uint32_t)prm, (uint32_t)inh },
		{ (uint32_t)(eff >> 32), (uint32_t)(prm >> 32), (uint32_t)(inh >> 32) },
	};

	batch_call(b, SYS_capset, batch_put(b, &head, sizeof(head)),
		   batch_put(b, data, sizeof(data)));
}

static void caps_calls(struct batch *b, const struct cap_sets *have, const struct cap_sets *want,
		       uint32_t secbits)
{
	capset_call(b, have->prm, have->prm, want->inh);
	batch_call(b, SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (int cap = 0; cap < 64; cap++) {
		uint64_t bit = 1ull << cap;

		if (want->amb & bit)
			batch_call(b, SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
		if (have->bnd & ~want->bnd & bit)
			batch_call(b, SYS_prctl, PR_CAPBSET_DROP, cap);
	}
	batch_call(b, SYS_prctl, PR_SET_SECUREBITS, secbits);
	capset_call(b, want->eff, want->prm, want->inh);
}

static int ids_calls(struct batch *b, const CredsEntry *e)
{
	const uint32_t ids[] = { e->uid, e->euid, e->suid, e->fsuid, e->gid, e->egid, e->sgid,
				 e->fsgid };

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		if (ids[i] == UINT32_MAX)	/* would mean "leave it as it is" */
			return part_bad("core image: user or group id 4294967295");
	batch_call(b, SYS_setresgid, e->gid, e->egid, e->sgid);
	batch_call(b, SYS_setresuid, e->uid, e->euid, e->suid);
	/* These two return the old id, not an error: finish() looks whether they worked. */
	if (e->fsgid != e->egid)
		batch_try(b, SYS_setfsgid, e->fsgid);
	if (e->fsuid != e->euid)
		batch_try(b, SYS_setfsuid, e->fsuid);
	return 0;
}

static int groups_calls(struct restore_ctx *ctx, const CredsEntry *e, struct batch *b)
{
	int r;

	if (e->n_groups > GROUPS_MAX)
		return part_bad("core image: %zu supplementary groups", e->n_groups);
	if (ns_restore_has_userns(ctx))
		return 0;
	r = batch_make_room(b, 128, e->n_groups * sizeof(*e->groups) + (32u << 10));
	if (r < 0)
		return r;
	batch_call(b, SYS_setgroups, e->n_groups,
		   e->n_groups ? batch_put(b, e->groups, e->n_groups * sizeof(*e->groups)) : 0);
	return 0;
}

static int creds_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
			       struct restore_thread *th, struct batch *b)
{
	const CredsEntry *e = th->core->thread_core ? th->core->thread_core->creds : NULL;
	const struct task_inherit *in = task_inherit(ctx);
	struct cap_sets have, want = { 0 };
	int t_fd, r;

	(void)p;
	if (!in)
		return -EIO;
	if (!e)
		return 0;
	if (e->secbits & ~(uint32_t)(SECURE_ALL_BITS | SECURE_ALL_LOCKS))
		return part_bad("core image: securebits 0x%x", e->secbits);
	r = get_cap_sets(e, &want);
	if (r < 0)
		return r;
	have = (struct cap_sets){ .prm = in->cap_prm, .bnd = in->cap_bnd };
	if (ns_restore_has_userns(ctx))	/* entering one gives all capabilities in it */
		have.prm = have.bnd = in->cap_known;
	r = fit_cap_sets(in, &have, &want);
	if (r < 0)
		return r;
	r = groups_calls(ctx, e, b);
	if (r < 0)
		return r;
	r = lsm_restore_open(ctx, e->lsm_profile, b, &t_fd);
	if (r < 0)
		return r;
	batch_call(b, SYS_prctl, PR_SET_SECUREBITS,
		   SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP);
	r = ids_calls(b, e);
	if (r < 0)
		return r;
	caps_calls(b, &have, &want, e->secbits);
	r = lsm_restore_write_calls(ctx, e->lsm_profile, b, t_fd);
	if (r < 0)
		return r;
	if (e->has_no_new_privs && e->no_new_privs)
		batch_call(b, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return 0;
}

static int creds_finish(struct restore_ctx *ctx, struct restore_process *p,
			struct restore_thread *th)
{
	const CredsEntry *e = th->core->thread_core ? th->core->thread_core->creds : NULL;
	_cleanup_proc_status_ struct proc_status st = { 0 };
	_cleanup_close_ int fd = -EBADF;
	char path[32];
	int r;

	(void)p;
	if (!e || (e->fsuid == e->euid && e->fsgid == e->egid))
		return 0;
	snprintf(path, sizeof(path), "/proc/%d", th->task.tid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? neg_errno() : proc_status_read(fd, th->task.tid, &st);
	if (r < 0)
		return log_err(r, "cannot read status of thread %d", th->task.tid);
	if (st.uid[3] != ns_restore_uid(ctx, e->fsuid) ||
	    st.gid[3] != ns_restore_gid(ctx, e->fsgid))
		return log_fail(-EPERM, "thread %d did not get its filesystem ids %u:%u",
				th->task.tid, e->fsuid, e->fsgid);
	return 0;
}

const struct task_part part_creds = {
	.name		= "credentials",
	.stage		= STAGE_LATE,
	.dump		= creds_dump,
	.dump_calls	= creds_dump_calls,
	.dump_results	= creds_dump_results,
	.restore_calls	= creds_restore_calls,
	.finish		= creds_finish,
};
