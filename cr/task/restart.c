/*
 * Interrupted system calls.
 *
 * Most calls that our stop interrupts return a restart code, and the kernel repeats them by
 * itself. Some return EINTR at once (epoll_wait, semtimedop, sigtimedwait, sockets with SO_RCVTIMEO or
 * SO_SNDTIMEO: signal(7)) even though no handler runs, both for ptrace's interrupt and for the cgroup
 * freezer. No program was ever shown that by a kernel upgrade it should not notice: they get the code of
 * calls that are repeated unless a handler runs. (A socket's time then begins anew; epoll's: epoll_end.c.)
 *
 * On restore the kernel's own restart logic must decide again: a signal that arrives before
 * the call is repeated has to end it (pause, sigsuspend, epoll_wait), or its wake-up is lost. So a
 * task that an image shows on its syscall instruction is put behind it, with the restart
 * code the call would have returned.
 */
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "task/regs.h"

static bool returns_eintr_at_once(uint64_t nr)
{
	switch (nr) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
#ifdef SYS_epoll_pwait2
	case SYS_epoll_pwait2:
#endif
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_rt_sigtimedwait:
	case SYS_io_getevents:
	case SYS_io_pgetevents:
	case SYS_io_uring_enter:
		return true;
	}
	return false;
}

/* Calls that return EINTR at once if their first argument is a socket with a time-out; splice's third may be, too. */
static bool is_for_sockets(uint64_t nr)
{
	switch (nr) {
	case SYS_read:
	case SYS_readv:
	case SYS_preadv2:
	case SYS_write:
	case SYS_writev:
	case SYS_pwritev2:
	case SYS_accept:
	case SYS_accept4:
	case SYS_connect:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
	case SYS_sendfile:
	case SYS_splice:
		return true;
	}
	return false;
}

static bool is_socket(const struct task *t, uint64_t fd)
{
	char path[64], to[16] = "";

	snprintf(path, sizeof(path), "/proc/%d/fd/%u", t->tid, (unsigned int)fd);
	return readlink(path, to, sizeof(to) - 1) > 0 && str_starts(to, "socket:");
}

static bool waits_at_socket(const struct task *t)
{
	const struct user_regs_struct *regs = &t->regs;

	return is_for_sockets(regs->orig_rax) &&
	       (is_socket(t, regs->rdi) || (regs->orig_rax == SYS_splice && is_socket(t, regs->rdx)));
}

/* Is a signal waiting that the task will take as soon as it runs? Then EINTR is the truth. */
static bool signal_waits(const struct task *t)
{
	for (unsigned int flags = 0; flags < 2; flags++) {
		struct __ptrace_peeksiginfo_args args = { .off = 0, .flags = flags, .nr = 1 };
		siginfo_t si;

		while (ptrace(PTRACE_PEEKSIGINFO, t->tid, &args, &si) == 1) {
			if (si.si_signo < 1 || si.si_signo > 64 ||
			    !(t->sigmask >> (si.si_signo - 1) & 1))
				return true;
			args.off++;
		}
	}
	return false;
}

int restart_is_undisturbed(struct task *t)
{
	uint8_t insn[2];
	int r;

	if (t->regs.cs != 0x33 || signal_waits(t))
		return 0;
	/* Only if it sits right behind the instruction: then nothing ran since. */
	r = remote_read(t, t->regs.rip - 2, insn, 2);
	return r < 0 ? r : insn[0] == 0x0f && insn[1] == 0x05;
}

int restart_hide_interrupt(struct dump_thread *th)
{
	struct user_regs_struct *regs = &th->task.regs;
	int r;

	if ((int64_t)regs->orig_rax < 0 || (int64_t)regs->rax != -EINTR ||
	    (!returns_eintr_at_once(regs->orig_rax) && !waits_at_socket(&th->task)))
		return 0;
	r = restart_is_undisturbed(&th->task);
	if (r <= 0)
		return r;
	regs->rax = (uint64_t)-K_ERESTARTNOHAND;
	return 0;
}

/* What an interrupted call of this number returns inside the kernel. */
static int restart_code(uint64_t nr)
{
	switch (nr) {
	case SYS_clone:
	case SYS_clone3:
	case SYS_fork:
	case SYS_vfork:
		return K_ERESTARTNOINTR;
	case SYS_pause:
	case SYS_rt_sigsuspend:
	case SYS_select:
	case SYS_pselect6:
	case SYS_poll:
	case SYS_ppoll:
	case SYS_nanosleep:
	case SYS_clock_nanosleep:
	case SYS_msgsnd:
	case SYS_msgrcv:
		return K_ERESTARTNOHAND;
	}
	return returns_eintr_at_once(nr) ? K_ERESTARTNOHAND : K_ERESTARTSYS;
}

int restart_prepare(struct task *t, uint64_t orig_nr, const int64_t *result)
{
	uint8_t insn[2];
	int r;

	if ((int64_t)orig_nr < 0 || t->regs.rax != orig_nr)
		return 0;
	r = remote_read(t, t->regs.rip, insn, 2);
	if (r < 0 || insn[0] != 0x0f || insn[1] != 0x05)
		return 0;	/* nothing readable there: the task will say so itself */
	t->regs.rip += 2;
	t->regs.rax = result ? (uint64_t)*result : (uint64_t)-restart_code(orig_nr);
	t->regs.orig_rax = orig_nr;
	return 0;
}
