/*
 * The dump's stub and zone: see orphan.h.
 *
 * Order matters wherever the engine may die between two ptrace calls: what is saved is
 * written before the registers point at the stub, the mask is closed after that and opened
 * before they point back. The stub closes and opens it by itself.
 */
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "remote/orphan.h"
#include "util/io.h"
#include "util/log.h"

#define STUB_BYTES	((size_t)(orphan_end - orphan_begin))
#define CODE_BYTES	((size_t)(orphan_saved - orphan_begin))
#define STUB_ALIGN	16u
#define VDSO_BYTES_MAX	(64u << 10)

/* Ignored by default, without any effect but that. SIGCONT would end a job-control stop. */
static const int harmless_signals[] = { SIGURG, SIGWINCH, SIGCHLD };

static uint64_t bit(int signal)
{
	return 1ull << (signal - 1);
}

int64_t orphan_find_room(const uint8_t *vdso, size_t bytes, unsigned int *ret_n)
{
	const Elf64_Ehdr *eh = (const void *)vdso;
	uint64_t end = sizeof(*eh);

	if (bytes < sizeof(*eh) || memcmp(eh->e_ident, ELFMAG, SELFMAG) ||
	    eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_phentsize != sizeof(Elf64_Phdr) ||
	    eh->e_phoff > bytes || eh->e_phnum > (bytes - eh->e_phoff) / sizeof(Elf64_Phdr))
		return -EBADMSG;
	end = MAX(end, eh->e_phoff + eh->e_phnum * sizeof(Elf64_Phdr));
	for (unsigned int i = 0; i < eh->e_phnum; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, vdso + eh->e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_offset > bytes || ph.p_filesz > bytes - ph.p_offset ||
		    ph.p_vaddr > bytes || ph.p_memsz > bytes - ph.p_vaddr)
			return -EBADMSG;
		end = MAX(end, MAX(ph.p_offset + ph.p_filesz, ph.p_vaddr + ph.p_memsz));
	}
	end = ROUND_UP(end, STUB_ALIGN);
	*ret_n = end <= bytes ? (unsigned int)MIN((bytes - end) / STUB_BYTES, (uint64_t)REMOTE_STUBS) : 0;
	return *ret_n ? (int64_t)end : -ENOSPC;
}

/*
 * What shall be there when we go. An earlier engine that was killed has left its stub: then
 * what the kernel has there, if the engine's own vDSO is the same before all stubs, or nothing.
 */
static void stub_before(uint8_t *before, const uint8_t *vdso, size_t stubs, size_t at)
{
	const uint8_t *own = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);

	memcpy(before, vdso + at, STUB_BYTES);
	if (memcmp(before, orphan_begin, CODE_BYTES))
		return;
	if (own && !memcmp(own, vdso, stubs))
		memcpy(before, own + at, STUB_BYTES);
	else
		memset(before, 0, STUB_BYTES);
}

static int stub_put(struct remote *r, struct task *leader, uint64_t start, uint64_t end)
{
	_cleanup_free_ uint8_t *vdso = NULL;
	size_t bytes = MIN(end - start, (uint64_t)VDSO_BYTES_MAX);
	int64_t at;
	int e;

	vdso = malloc(bytes);
	r->stub_before = malloc(REMOTE_STUBS * STUB_BYTES);
	if (!vdso || !r->stub_before)
		return -ENOMEM;
	e = remote_read(leader, start, vdso, bytes);
	if (e < 0)
		return log_err(e, "task %d: cannot read its vDSO", leader->tid);
	at = orphan_find_room(vdso, bytes, &r->n_stubs);
	if (at < 0)
		return log_err((int)at, "task %d: its vDSO at 0x%lx-0x%lx has no room for a stub",
			       leader->tid, start, end);
	for (unsigned int i = 0; i < r->n_stubs; i++) {
		size_t off = i * STUB_BYTES;

		stub_before(r->stub_before + off, vdso, (size_t)at, (size_t)at + off);
		memcpy(vdso + at + off, orphan_begin, STUB_BYTES);
	}
	r->stub = start + (uint64_t)at;
	e = remote_write(leader, r->stub, vdso + at, r->n_stubs * STUB_BYTES);
	return e < 0 ? log_err(e, "task %d: cannot write to its vDSO", leader->tid) : 0;
}

int remote_map_private(struct remote *r, struct task *leader, uint64_t vdso_start,
		       uint64_t vdso_end)
{
	int64_t res;
	int e;

	r->mirror = malloc(ZONE_BYTES);
	if (!r->mirror)
		return -ENOMEM;
	e = stub_put(r, leader, vdso_start, vdso_end);
	if (e >= 0)
		e = orphan_map_zone(leader, &res);
	if (e < 0)
		return e;
	/* mlockall(MCL_FUTURE), and no CAP_IPC_LOCK. */
	if (res == -EAGAIN)
		return log_obstacle("raise its limit before (LimitMEMLOCK=, prlimit --memlock)",
				    "all its memory is locked, and RLIMIT_MEMLOCK leaves no room for the "
				    "dump's 0x%x bytes", ZONE_BYTES);
	if (res < 0 && res > -4096)
		return log_err((int)res, "task %d: cannot map the call zone", leader->tid);
	r->zone = (uint64_t)res;
	r->zone_bytes = ZONE_BYTES;
	r->keeper = r->n_stubs > 1 ? leader->tid : 0;
	return 0;
}

bool remote_lane(struct remote *r, unsigned int number, struct remote *ret)
{
	const unsigned int first = r->keeper ? 1 : 0;

	if (number >= REMOTE_LANES || first + number >= r->n_stubs)
		return false;
	*ret = *r;
	ret->whole = r;
	ret->zone_bytes = ZONE_BYTES / REMOTE_LANES;
	ret->zone += number * ret->zone_bytes;
	ret->mirror += number * ret->zone_bytes;
	ret->stub += (first + number) * STUB_BYTES;
	return true;
}

int remote_unmap(struct remote *r, struct task *leader)
{
	const uint64_t arg[6] = { r->zone, ZONE_BYTES };
	int64_t res = 0;
	int e = 0, w = 0;

	if (r->zone)
		e = orphan_call(leader, &res, SYS_munmap, arg, false);
	r->zone = 0;
	r->keeper = 0;
	/* If the call went wrong the task may still stand in the stub. */
	if (r->stub && e >= 0)
		w = remote_write(leader, r->stub, r->stub_before, r->n_stubs * STUB_BYTES);
	r->stub = 0;
	if (e < 0)
		return e;
	return w < 0 ? w : (int)res;
}

/* Signals in the thread's own queue and its process's. */
static uint64_t signals_pending(const struct task *t)
{
	uint64_t set = 0;

	for (unsigned int queue = 0; queue < 2; queue++) {
		struct __ptrace_peeksiginfo_args args = { .off = 0, .flags = queue, .nr = 1 };
		siginfo_t si;

		for (; ptrace(PTRACE_PEEKSIGINFO, t->tid, &args, &si) == 1; args.off++)
			if (si.si_signo >= 1 && si.si_signo <= 64)
				set |= bit(si.si_signo);
	}
	return set;
}

/*
 * One that is not waiting already: ours would be merged with that, and both be lost. Best one
 * without a handler, which would run if we died.
 */
static int signal_choose(const struct task *t)
{
	const uint64_t pending = signals_pending(t);
	const uint64_t bad[] = { pending | t->remote->caught, pending };

	for (size_t k = 0; k < ARRAY_SIZE(bad); k++)
		for (size_t i = 0; i < ARRAY_SIZE(harmless_signals); i++)
			if (!(bad[k] & bit(harmless_signals[i])))
				return harmless_signals[i];
	return harmless_signals[0];
}

/* The keeper's is its own, also where nobody has lanes. */
static uint64_t stub_of(const struct task *t)
{
	const struct remote *r = t->remote;

	return r->stub + (r->keeper && !r->whole && t->tid != r->keeper ? STUB_BYTES : 0);
}

static int save_put(struct task *t, int signal)
{
	struct orphan_save s;

	arch_orphan_save(&s, &t->regs);
	s.mask = t->sigmask;
	s.mask_asking = ~bit(signal);
	s.mask_all = ~0ull;
	s.signal = (uint32_t)signal;
	s.trap_if_refused = !t->filters_suspended;
	return remote_write(t, stub_of(t) + CODE_BYTES, &s, sizeof(s));
}

/* The stop was for somebody else's signal: it goes back into the queue. */
static int signal_requeue(struct task *t, int signal)
{
	const uint64_t all = ~0ull;
	int status, r;

	if (ptrace(PTRACE_SETSIGMASK, t->tid, 8, &all) < 0 ||
	    ptrace(PTRACE_INTERRUPT, t->tid, 0, 0) < 0 ||
	    ptrace(PTRACE_CONT, t->tid, 0, signal) < 0)
		return neg_errno();
	r = task_wait(t, &status);
	if (r < 0)
		return r;
	return status >> 16 == PTRACE_EVENT_STOP ? 0 : -EIO;
}

uint64_t orphan_mask_asking(const struct task *t)
{
	return stub_of(t) + CODE_BYTES + offsetof(struct orphan_save, mask_asking);
}

uint64_t orphan_mask_all(const struct task *t)
{
	return stub_of(t) + CODE_BYTES + offsetof(struct orphan_save, mask_all);
}

static bool at_end(const struct task *t, const struct user_regs_struct *regs)
{
	return arch_regs_ip(regs) == stub_of(t) + (size_t)(orphan_stopped - orphan_begin);
}

static bool is_pending(pid_t tid, int signal)
{
	static const char *const keys[] = { "SigPnd:", "ShdPnd:" };
	_cleanup_free_ char *text = NULL;
	bool pending = false;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	if (read_file_at(AT_FDCWD, path, READ_FILE_MAX, &text, NULL) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *at = strstr(text, keys[i]);

		pending |= at && strtoull(at + strlen(keys[i]), NULL, 16) >> (signal - 1) & 1;
	}
	return pending;
}

/*
 * SIGSTOP that has come while our calls ran goes back into the queue, where the kernel sees to its order: a SIGCONT takes
 * it out, and one that has come since has done so.
 */
static void stop_requeue(const struct task *t)
{
	if (!is_pending(t->tid, SIGCONT) && kill(t->tid, SIGSTOP) < 0)
		log_warn("task %d was to be stopped (SIGSTOP), and goes on: %s", t->tid, strerror(errno));
}

/* Waits for the stop that the stub asks for, and before that for the batch's own, if it has one. */
static int orphan_wait(struct task *t, const struct orphan_pause *pause, struct user_regs_struct *ret_regs)
{
	struct iovec iov = { ret_regs, sizeof(*ret_regs) };
	const int signal = t->stub_signal;
	bool held_back = false;
	int status, r;

	for (;;) {
		r = task_wait(t, &status);
		if (r < 0)
			return r;
		/* Somebody stops it, which cannot be blocked: after our calls, not in the middle. */
		if (!(status >> 16) && WSTOPSIG(status) == SIGSTOP)
			held_back = true;
		else if (status >> 16 != PTRACE_EVENT_STOP) {
			if (ptrace(PTRACE_GETREGSET, t->tid, NT_PRSTATUS, &iov) < 0)
				return neg_errno();
			if (!pause || status >> 16 || WSTOPSIG(status) != signal || at_end(t, ret_regs))
				break;
			pause->fn(pause->arg);
			pause = NULL;
		}
		log_debug("task %d: stopped inside a batch", t->tid);
		if (ptrace(PTRACE_CONT, t->tid, 0, 0) < 0)
			return neg_errno();
	}
	if (status >> 16 || WSTOPSIG(status) != signal)
		return log_fail(-EFAULT, "task %d: stopped by signal %d in the stub, at 0x%lx of 0x%lx, %zu calls left",
				t->tid, WSTOPSIG(status), arch_regs_ip(ret_regs), stub_of(t),
				arch_regs_batch_left(ret_regs));
	/* It comes unblocked only after the calls: they are all done either way. */
	r = at_end(t, ret_regs) ? 0 : signal_requeue(t, signal);
	if (r >= 0 && held_back)
		stop_requeue(t);
	return r;
}

int orphan_ready(struct task *t)
{
	int r;

	t->stub_signal = signal_choose(t);
	r = save_put(t, t->stub_signal);
	return r < 0 ? log_err(r, "task %d: cannot write to its vDSO", t->tid) : 0;
}

/* Into the stub with these registers: everything about what it does is in them, and they change at once. */
static int stub_enter(struct task *t, struct user_regs_struct *regs)
{
	struct iovec iov = { regs, sizeof(*regs) };
	const uint64_t all = ~0ull;

	if (ptrace(PTRACE_SETREGSET, t->tid, NT_PRSTATUS, &iov) < 0 ||
	    ptrace(PTRACE_SETSIGMASK, t->tid, 8, &all) < 0 ||
	    ptrace(PTRACE_CONT, t->tid, 0, 0) < 0)
		return log_err(neg_errno(), "task %d: cannot start a batch", t->tid);
	return 0;
}

static int stub_wait(struct task *t, const struct orphan_pause *pause, struct user_regs_struct *ret_regs)
{
	int r = orphan_wait(t, pause, ret_regs);

	return r < 0 ? log_err(r, "task %d: lost inside a batch", t->tid) : 0;
}

/*
 * Out of it again, but for the keeper of a zone. One that is stopped by job control would go on standing there
 * if we were killed, for anybody to see: it goes.
 */
static int stub_leave(struct task *t, bool keeps)
{
	int r = keeps && !t->group_stop_signal ? 0 : task_put_regs(t);

	return r < 0 ? log_err(r, "task %d: cannot put registers back", t->tid) : 0;
}

int orphan_start(struct task *t, uint64_t t_calls, size_t n)
{
	struct user_regs_struct regs = t->regs;

	arch_regs_for_batch(&regs, stub_of(t), t_calls, n);
	arch_orphan_release(&regs, remote_whole(t->remote)->zone);
	return stub_enter(t, &regs);
}

int orphan_finish(struct task *t, const struct orphan_pause *pause)
{
	struct user_regs_struct regs;
	int r = stub_wait(t, pause, &regs);

	return r < 0 ? r : stub_leave(t, t->tid == t->remote->keeper);
}

int orphan_call(struct task *t, int64_t *ret_result, uint64_t nr, const uint64_t arg[6], bool maps)
{
	struct user_regs_struct regs = t->regs;
	int r;

	arch_regs_for_syscall(&regs, stub_of(t) + (size_t)(orphan_one - orphan_begin), nr, arg);
	arch_orphan_release(&regs, maps ? ORPHAN_MAPPED : 0);
	r = orphan_ready(t);
	if (r >= 0)
		r = stub_enter(t, &regs);
	if (r >= 0)
		r = stub_wait(t, NULL, &regs);
	*ret_result = (int64_t)arch_orphan_result(&regs);
	return r < 0 ? r : stub_leave(t, maps && t->remote->n_stubs > 1 && (*ret_result >= 0 || *ret_result < -4095));
}
