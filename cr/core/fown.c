/*
 * Who gets SIGIO from a file (F_SETOWN, F_SETSIG), and the status flags of fcntl(F_SETFL).
 *
 *   dump     F_GETOWN_EX, F_GETSIG, F_GETOWNER_UIDS on our duplicate
 *   restore  F_SETSIG, F_SETOWN_EX under the setter's ids, F_SETFL
 *
 * The kernel remembers the ids of whoever sets the owner and checks them with every signal: set
 * by root, the file could signal processes that it could not before.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "core/files.h"
#include "core/pids.h"

#ifndef F_GETOWNER_UIDS
#define F_GETOWNER_UIDS 17
#endif

#define SETFL_MASK (O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME)

/* The pid that goes to the image; 0 when the owner is not of the tree. */
static uint32_t owner_virtual(struct dump_ctx *ctx, const struct f_owner_ex *o)
{
	const struct dump_process *p = dump_process_find(ctx, o->pid);

	switch (o->type) {
	case F_OWNER_PGRP:
		return dump_pgid_virtual(ctx, o->pid);
	case F_OWNER_TID:
		return dump_pid_virtual(ctx, o->pid);
	default:
		return p ? p->pid_virtual : 0;
	}
}

int dump_fown(struct dump_ctx *ctx, struct dump_file *f, FownEntry **ret)
{
	FownEntry *e = ARENA_MSG(&ctx->arena, FownEntry, fown_entry);
	struct f_owner_ex o = { 0 };
	uint32_t uids[2] = { 0 };
	int sig;

	if (!e)
		return log_err(-ENOMEM, "owner of %s", f->link);
	*ret = e;
	/* O_PATH and files without descriptor know no owner. */
	if (f->flags & O_PATH || f->t_fd < 0)
		return 0;
	sig = fcntl(f->fd, F_GETSIG);
	if (sig < 0 || fcntl(f->fd, F_GETOWN_EX, &o) < 0)
		return log_err(neg_errno(), "cannot read the SIGIO owner of %s", f->link);
	e->signum = (uint32_t)sig;
	if (!o.pid)
		return 0;
	e->pid = owner_virtual(ctx, &o);
	if (!e->pid) {
		log_warn("the SIGIO owner %d of %s is not in the tree: it comes back without",
			 o.pid, f->link);
		return 0;
	}
	e->pid_type = (uint32_t)o.type;
	if (fcntl(f->fd, F_GETOWNER_UIDS, uids) < 0)
		return log_err(neg_errno(), "cannot read the SIGIO owner's ids of %s", f->link);
	e->uid = dump_uid(ctx, uids[0]);
	e->euid = dump_uid(ctx, uids[1]);
	return 0;
}

static int set_owner(int fd, const FownEntry *fown)
{
	struct f_owner_ex o = { .type = (int)fown->pid_type, .pid = (pid_t)fown->pid };
	bool other = fown->uid || fown->euid;
	int r = 0;

	if (fown->pid_type > F_OWNER_PGRP || fown->pid > INT32_MAX)
		return -EBADMSG;
	/* The saved set-user-id stays 0: the way back. Raw calls: this thread only. */
	if (other && syscall(SYS_setresuid, fown->uid, fown->euid, 0) < 0)
		return neg_errno();
	if (fcntl(fd, F_SETOWN_EX, &o) < 0)
		r = neg_errno();
	if (other && syscall(SYS_setresuid, 0, 0, 0) < 0)
		abort();	/* half an identity is no state to go on in */
	/* Changing ids takes the dumpable flag, and with it the tasks' pidfd_getfd(2) on us. */
	if (other && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 && !r)
		r = neg_errno();
	return r;
}

int restore_flags_fown(int fd, uint32_t flags, const FownEntry *fown)
{
	int now, want, r;

	if (flags & O_PATH)
		return 0;
	if (fown && fown->signum) {
		if (fown->signum > 64)
			return -EBADMSG;
		if (fcntl(fd, F_SETSIG, (int)fown->signum) < 0)
			return neg_errno();
	}
	if (fown && fown->pid) {
		r = set_owner(fd, fown);
		if (r < 0)
			return r;
	}
	now = fcntl(fd, F_GETFL);
	if (now < 0)
		return neg_errno();
	want = (now & ~SETFL_MASK) | (int)(flags & SETFL_MASK);
	if (want != now && fcntl(fd, F_SETFL, want) < 0)
		return neg_errno();
	return 0;
}
