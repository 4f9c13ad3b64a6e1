/*
 * x86-64 registers.
 *
 *   dump     PTRACE_GETREGS (when the task stopped), NT_X86_XSTATE
 *   restore  NT_X86_XSTATE, then PTRACE_SETREGS and the signal mask, when the stub is gone
 *
 * XSAVE's standard format is kept by component in the image; where a component lies in the
 * buffer is the processor's word (CPUID leaf 0xd), not a constant.
 */
#include <cpuid.h>
#include <elf.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "task/regs.h"

#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE 2
#endif

#define CS_COMPAT		0x23	/* the code segment of 32-bit programs */
#define XSTATE_BYTES_MAX	16384u
#define FX_BYTES		512u
#define XSTATE_BV_OFF		512u
#define XCOMP_BV_OFF		520u
#define SW_FEATURES_OFF		464u	/* features the kernel presents; arch/x86 ptrace layout */

#define PKRU			9u
#define PKRU_INITIAL		0x55555554u	/* of new threads: only the first key may be used */

/* The image's components: XSAVE number, and the field that holds it. */
struct component {
	unsigned int number;
	const char *name;
	size_t bytes;
	size_t n_off, p_off;	/* of the count and pointer in UserX86XsaveEntry */
	size_t elem_bytes;
};

#define COMPONENT(nr, name, size, field)					\
	{ nr, name, size, offsetof(UserX86XsaveEntry, n_##field),			\
	  offsetof(UserX86XsaveEntry, field),					\
	  sizeof(*((UserX86XsaveEntry *)NULL)->field) }

static const struct component components[] = {
	COMPONENT(2, "AVX", 256, ymmh_space),
	COMPONENT(3, "MPX", 64, bndreg_state),
	COMPONENT(4, "MPX", 64, bndcsr_state),
	COMPONENT(5, "AVX-512", 64, opmask_reg),
	COMPONENT(6, "AVX-512", 512, zmm_upper),
	COMPONENT(7, "AVX-512", 1024, hi16_zmm),
	COMPONENT(PKRU, "protection keys", 8, pkru),
};
#define X87_AND_SSE	3ull

uint64_t xstate_here(void)
{
	unsigned int eax, ebx, ecx, edx;

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE))
		return X87_AND_SSE;
	__asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
	return eax | (uint64_t)edx << 32;
}

/*
 * In bytes; 0: the processor has it not. Asked for once: a virtual machine's host answers each of these
 * instructions itself, which takes microseconds: as much as reading a thread's registers does.
 */
static unsigned int component_offset(const struct component *c)
{
	static unsigned int offsets[ARRAY_SIZE(components)];
	static bool asked;
	unsigned int eax, ebx, ecx, edx;

	for (size_t i = 0; !asked && i < ARRAY_SIZE(components); i++)
		if (__get_cpuid_count(0xd, components[i].number, &eax, &ebx, &ecx, &edx) && eax)
			offsets[i] = ebx;
	asked = true;
	return offsets[c - components];
}

static size_t *component_count(const UserX86XsaveEntry *x, const struct component *c)
{
	return (size_t *)((char *)x + c->n_off);
}

static void **component_data(const UserX86XsaveEntry *x, const struct component *c)
{
	return (void **)((char *)x + c->p_off);
}

/* The machine of the image had it. */
static bool component_is_there(const UserX86XsaveEntry *x, const struct component *c)
{
	return *component_count(x, c) * c->elem_bytes == c->bytes;
}

uint64_t xstate_unsaved(uint64_t in_use)
{
	in_use &= ~X87_AND_SSE;
	for (size_t i = 0; i < ARRAY_SIZE(components); i++)
		in_use &= ~(1ull << components[i].number);
	return in_use;
}

static int xsave_dump(struct arena *a, const uint8_t *buf, size_t bytes, UserX86FpregsEntry *fp)
{
	UserX86XsaveEntry *x = ARENA_MSG(a, UserX86XsaveEntry, user_x86_xsave_entry);
	uint64_t bv, known;

	if (!x)
		return -ENOMEM;
	memcpy(&bv, buf + XSTATE_BV_OFF, 8);
	memcpy(&known, buf + SW_FEATURES_OFF, 8);
	if (xstate_unsaved(bv & known))
		return log_obstacle("let it finish such computations before, or do not choose the service",
				    "processor state 0x%lx of XSAVE is in use (0x60000: AMX tiles, "
				    "0x80000: APX registers)", xstate_unsaved(bv & known));
	x->xstate_bv = bv;
	for (size_t i = 0; i < ARRAY_SIZE(components); i++) {
		const struct component *c = &components[i];
		unsigned int off = component_offset(c);

		/* The processor may have what the kernel does not use. */
		if (!off || off + c->bytes > bytes || !(known >> c->number & 1))
			continue;
		*component_data(x, c) = arena_memdup(a, buf + off, c->bytes);
		if (!*component_data(x, c))
			return -ENOMEM;
		*component_count(x, c) = c->bytes / c->elem_bytes;
	}
	fp->xsave = x;
	return 0;
}

static uint32_t get16(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

/*
 * The FPU's registers; a CPU without XSAVE has only the older form, which is the beginning of
 * the newer. *set tells which one it was.
 */
static int fpregs_get(pid_t tid, struct iovec *iov, int *set)
{
	*set = NT_X86_XSTATE;
	if (ptrace(PTRACE_GETREGSET, tid, *set, iov) == 0)
		return 0;
	*set = NT_PRFPREG;
	if (errno == ENODEV && ptrace(PTRACE_GETREGSET, tid, *set, iov) == 0)
		return 0;
	return neg_errno();
}

static int fpregs_dump(struct arena *a, pid_t tid, UserX86FpregsEntry **ret)
{
	UserX86FpregsEntry *fp = ARENA_MSG(a, UserX86FpregsEntry, user_x86_fpregs_entry);
	_cleanup_free_ uint8_t *buf = calloc(1, XSTATE_BYTES_MAX);
	struct iovec iov = { buf, XSTATE_BYTES_MAX };
	int r, set;

	if (!fp || !buf)
		return -ENOMEM;
	r = fpregs_get(tid, &iov, &set);
	if (r < 0)
		return log_err(r, "cannot read the FPU state");
	fp->cwd = get16(buf);
	fp->swd = get16(buf + 2);
	fp->twd = buf[4];
	fp->fop = get16(buf + 6);
	memcpy(&fp->rip, buf + 8, 8);
	memcpy(&fp->rdp, buf + 16, 8);
	memcpy(&fp->mxcsr, buf + 24, 4);
	memcpy(&fp->mxcsr_mask, buf + 28, 4);
	fp->st_space = arena_memdup(a, buf + 32, 128);
	fp->n_st_space = 32;
	fp->xmm_space = arena_memdup(a, buf + 160, 256);
	fp->n_xmm_space = 64;
	if (!fp->st_space || !fp->xmm_space)
		return -ENOMEM;
	*ret = fp;
	return iov.iov_len > XSTATE_BV_OFF + 64 ? xsave_dump(a, buf, iov.iov_len, fp) : 0;
}

#define EACH_GPREG(X)								\
	X(r15, r15) X(r14, r14) X(r13, r13) X(r12, r12) X(bp, rbp) X(bx, rbx)	\
	X(r11, r11) X(r10, r10) X(r9, r9) X(r8, r8) X(ax, rax) X(cx, rcx)	\
	X(dx, rdx) X(si, rsi) X(di, rdi) X(orig_ax, orig_rax) X(ip, rip)	\
	X(cs, cs) X(flags, eflags) X(sp, rsp) X(ss, ss) X(fs_base, fs_base)	\
	X(gs_base, gs_base) X(ds, ds) X(es, es) X(fs, fs) X(gs, gs)

static int gpregs_dump(struct arena *a, const struct dump_thread *th, UserX86RegsEntry **ret)
{
	UserX86RegsEntry *g = ARENA_MSG(a, UserX86RegsEntry, user_x86_regs_entry);
	struct user_regs_struct u = th->task.regs;

	if (!g)
		return -ENOMEM;
	arch_regs_repeat_call(&u, th->core->thread_core && th->core->thread_core->timeout);
#define X(image, kernel) g->image = u.kernel;
	EACH_GPREG(X)
#undef X
	g->has_mode = true;
	g->mode = u.cs == CS_COMPAT ? USER_X86_REGS_MODE__COMPAT : USER_X86_REGS_MODE__NATIVE;
	*ret = g;
	return 0;
}

static int tls_dump(struct arena *a, ThreadInfoX86 *ti)
{
	/* The three GDT slots matter to 32-bit code only; 64-bit tasks use fs_base. */
	ti->tls = arena_alloc(a, 3 * sizeof(*ti->tls));
	if (!ti->tls)
		return -ENOMEM;
	for (unsigned int i = 0; i < 3; i++) {
		UserDescT *d = ARENA_MSG(a, UserDescT, user_desc_t);

		if (!d)
			return -ENOMEM;
		d->entry_number = 12 + i;
		d->read_exec_only = d->seg_not_present = true;
		ti->tls[i] = d;
	}
	ti->n_tls = 3;
	return 0;
}

int regs_are_64_bit(const struct dump_thread *th)
{
	return th->task.regs.cs != CS_COMPAT ? 0 :
	       log_obstacle("run a 64-bit build of the program", "it runs 32-bit code");
}

int regs_dump(struct dump_ctx *ctx, struct dump_thread *th)
{
	ThreadInfoX86 *ti = th->core->thread_info;
	int r;

	if (!ti)
		ti = th->core->thread_info = ARENA_MSG(&ctx->arena, ThreadInfoX86, thread_info_x86);
	if (!ti)
		return -ENOMEM;
	th->core->mtype = CORE_ENTRY__MARCH__X86_64;
	r = gpregs_dump(&ctx->arena, th, &ti->gpregs);
	if (r < 0)
		return r;
	r = fpregs_dump(&ctx->arena, th->task.tid, &ti->fpregs);
	return r < 0 ? r : tls_dump(&ctx->arena, ti);
}

/*
 * Programs choose their code by what the processor has, so all of it must be here, in use at the dump or
 * not. But nobody uses keys who has not been given any, and Linux knows MPX no more.
 */
static bool component_is_needed(const UserX86XsaveEntry *x, const struct component *c)
{
	if (!component_is_there(x, c))
		return false;
	if (c->number == PKRU)
		return x->xstate_bv & XSTATE_PKRU && x->pkru[0] != PKRU_INITIAL;
	return !!strcmp(c->name, "MPX") || x->xstate_bv >> c->number & 1;
}

int xstate_check(const UserX86XsaveEntry *x, uint64_t here)
{
	for (size_t i = 0; x && i < ARRAY_SIZE(components); i++)
		if (component_is_needed(x, &components[i]) && !(here >> components[i].number & 1))
			return log_fail(-EOPNOTSUPP, "it comes from a processor with %s, which this one has not, "
					"or this kernel does not use (clearcpuid=, nopku, noxsave, "
					"mitigations)", components[i].name);
	return 0;
}

/* Who makes threads of his own sets their segment bases by these instructions if he was told that he may. */
int auxv_check(const MmEntry *mm)
{
	for (size_t i = 0; i + 1 < mm->n_mm_saved_auxv; i += 2)
		if (mm->mm_saved_auxv[i] == AT_HWCAP2 &&
		    mm->mm_saved_auxv[i + 1] & ~getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE)
			return log_fail(-EOPNOTSUPP, "it was told that it may use FSGSBASE, which this processor "
					"has not, or this kernel does not allow (nofsgsbase)");
	return 0;
}

int regs_check(const CoreEntry *core)
{
	const ThreadInfoX86 *ti = core->thread_info;
	int r;

	if (core->mtype != CORE_ENTRY__MARCH__X86_64)
		return log_fail(-EINVAL, "the image is of another architecture (%d)", core->mtype);
	if (!ti || !ti->gpregs || !ti->fpregs)
		return log_fail(-EBADMSG, "core image without registers");
	if (ti->gpregs->has_mode && ti->gpregs->mode != USER_X86_REGS_MODE__NATIVE)
		return log_fail(-EOPNOTSUPP, "32-bit tasks are not supported");
	if (ti->fpregs->n_st_space != 32 || ti->fpregs->n_xmm_space != 64)
		return log_fail(-EBADMSG, "core image with a malformed FPU state");
	r = timeout_check(core);
	return r < 0 ? r : xstate_check(ti->fpregs->xsave, xstate_here());
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

/*
 * The image's components into buf, whose present content tells what the kernel knows. What the image's
 * machine did not have is as nobody has used it; the rights to keys as a new thread has them,
 * since unused means all of them.
 */
static void xsave_fill(uint8_t *buf, size_t bytes, const UserX86XsaveEntry *x)
{
	uint64_t known, now, bv = x ? x->xstate_bv : X87_AND_SSE, have = X87_AND_SSE;

	memcpy(&known, buf + SW_FEATURES_OFF, 8);
	memcpy(&now, buf + XSTATE_BV_OFF, 8);
	for (size_t i = 0; x && i < ARRAY_SIZE(components); i++) {
		const struct component *c = &components[i];
		unsigned int off = component_offset(c);

		if (!component_is_there(x, c) || !off || off + c->bytes > bytes ||
		    !(known >> c->number & 1))
			continue;
		memcpy(buf + off, *component_data(x, c), c->bytes);
		have |= 1ull << c->number;
	}
	bv &= have & known;
	if (!(have & XSTATE_PKRU))
		bv |= now & known & XSTATE_PKRU;
	memcpy(buf + XSTATE_BV_OFF, &bv, 8);
	memset(buf + XCOMP_BV_OFF, 0, 56);
}

static int fpregs_restore(pid_t tid, const UserX86FpregsEntry *fp)
{
	_cleanup_free_ uint8_t *buf = calloc(1, XSTATE_BYTES_MAX);
	struct iovec iov = { buf, XSTATE_BYTES_MAX };
	uint32_t mask;
	int r, set;

	if (!buf)
		return -ENOMEM;
	/* The task's present state gives size and features; SETREGSET wants exactly that size. */
	r = fpregs_get(tid, &iov, &set);
	if (r < 0)
		return log_err(r, "cannot read the FPU state of task %d", tid);
	memcpy(&mask, buf + 28, 4);
	put16(buf, fp->cwd);
	put16(buf + 2, fp->swd);
	put16(buf + 4, fp->twd & 0xff);
	put16(buf + 6, fp->fop);
	memcpy(buf + 8, &fp->rip, 8);
	memcpy(buf + 16, &fp->rdp, 8);
	/* Reserved bits of MXCSR would make the kernel refuse the whole state. */
	memcpy(buf + 24, &(uint32_t){ fp->mxcsr & (mask ? mask : 0xffbf) }, 4);
	memcpy(buf + 32, fp->st_space, 128);
	memcpy(buf + 160, fp->xmm_space, 256);
	if (iov.iov_len > XSTATE_BV_OFF + 64)
		xsave_fill(buf, iov.iov_len, fp->xsave);
	if (ptrace(PTRACE_SETREGSET, tid, set, &iov) < 0)
		return log_err(neg_errno(), "cannot set the FPU state of task %d", tid);
	return 0;
}

int regs_restore(struct restore_thread *th, uint64_t sigmask)
{
	const UserX86RegsEntry *g = th->core->thread_info->gpregs;
	struct user_regs_struct *regs = &th->task.regs;
	int r;

	r = fpregs_restore(th->task.tid, th->core->thread_info->fpregs);
	if (r < 0)
		return r;
#define X(image, kernel) regs->kernel = g->image;
	EACH_GPREG(X)
#undef X
	/* User code and stack segments, whatever an image says. */
	regs->cs = 0x33;
	regs->ss = 0x2b;
	/* A call that has ended keeps its result in rax; one to be repeated: restart.c. */
	regs->orig_rax = (unsigned long long)-1;
	th->task.sigmask = sigmask;
	r = restart_prepare(&th->task, g->orig_ax, th->has_result ? &th->result : NULL);
	if (r >= 0)
		r = task_put_regs(&th->task);
	return r < 0 ? log_err(r, "cannot set the registers of task %d", th->task.tid) : 0;
}
