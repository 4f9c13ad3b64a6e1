/*
 * x86-64: the stubs, and how registers carry a system call.
 *
 * A stub walks r13 calls at r12 (72 bytes each: number, six arguments, result, address to
 * copy the result to). syscall clobbers rcx and r11 only. The restore's ends in int3; the
 * dump's asks for a stop that nobody but a tracer grants, and goes home if there is none.
 */
#include <string.h>
#include <sys/syscall.h>

#include "remote/orphan.h"

#define STUB_LOOP				\
	"1:	test	%r13, %r13\n"		\
	"	jz	3f\n"			\
	"	mov	(%r12), %rax\n"	\
	"	mov	8(%r12), %rdi\n"	\
	"	mov	16(%r12), %rsi\n"	\
	"	mov	24(%r12), %rdx\n"	\
	"	mov	32(%r12), %r10\n"	\
	"	mov	40(%r12), %r8\n"	\
	"	mov	48(%r12), %r9\n"	\
	"	syscall\n"			\
	"	mov	%rax, 56(%r12)\n"	\
	"	mov	64(%r12), %rcx\n"	\
	"	test	%rcx, %rcx\n"		\
	"	jz	2f\n"			\
	"	mov	%rax, (%rcx)\n"	\
	"2:	add	$72, %r12\n"		\
	"	dec	%r13\n"		\
	"	jmp	1b\n"

__asm__(".section .rodata\n"
	".globl stub_begin, stub_end\n"
	"stub_begin:\n"
	STUB_LOOP
	"3:	int3\n"
	"stub_end:\n"
	".text\n");

_Static_assert(sizeof(struct batch_call) == 72, "the stubs step by 72 bytes");

/* rt_sigprocmask(SIG_SETMASK, the mask at `field`, NULL, 8), without touching the flags. */
#define SET_MASK(field)					\
	"	mov	$2, %edi\n"			\
	"	lea	7f+" field "(%rip), %rsi\n"	\
	"	mov	$0, %edx\n"			\
	"	mov	$8, %r10d\n"			\
	"	mov	$14, %eax\n"			\
	"	syscall\n"

/*
 * Offsets from 7: are those of struct orphan_save. Flags and stack pointer come back while
 * everything is blocked (the stack pointer points at the saved flags for two instructions);
 * when the mask is back a handler may run, on the task's own stack, and returns to here.
 */
__asm__(".section .rodata\n"
	".globl orphan_begin, orphan_one, orphan_stopped, orphan_saved, orphan_end\n"
	"orphan_begin:\n"
	STUB_LOOP
	"orphan_one:\n"
	"	syscall\n"
	"	mov	%rax, %r12\n"
	"3:\n"
	SET_MASK("32")
	"	mov	$39, %eax\n"		/* getpid */
	"	syscall\n"
	"	mov	%eax, %ebx\n"
	"	mov	$186, %eax\n"		/* gettid */
	"	syscall\n"
	"	mov	%ebx, %edi\n"
	"	mov	%eax, %esi\n"
	"	mov	7f+168(%rip), %edx\n"
	"	mov	$234, %eax\n"		/* tgkill */
	"	syscall\n"
	"orphan_stopped:\n"
	"	test	%eax, %eax\n"
	"	jz	4f\n"
	"	cmpl	$0, 7f+172(%rip)\n"
	"	je	4f\n"
	"	int3\n"
	"4:\n"
	SET_MASK("40")
	/* The zone in r14, by whoever is the last in it; 1: what orphan_one has mapped. */
	"	test	%r14, %r14\n"
	"	jz	6f\n"
	"	mov	%r14, %rdi\n"
	"	cmp	$1, %r14\n"
	"	jne	5f\n"
	"	mov	%r12, %rdi\n"
	"	cmp	$-4095, %rdi\n"
	"	jae	6f\n"
	"5:	lock decl (%rdi)\n"
	"	jns	6f\n"
	"	mov	$0x100000, %esi\n"
	"	mov	$11, %eax\n"		/* munmap */
	"	syscall\n"
	"6:\n"
	"	lea	7f(%rip), %rsp\n"
	"	popfq\n"
	"	mov	7f+8(%rip), %rsp\n"
	SET_MASK("24")
	"	mov	7f+48(%rip), %rax\n"
	"	mov	7f+56(%rip), %rbx\n"
	"	mov	7f+64(%rip), %rcx\n"
	"	mov	7f+72(%rip), %rdx\n"
	"	mov	7f+80(%rip), %rsi\n"
	"	mov	7f+88(%rip), %rdi\n"
	"	mov	7f+96(%rip), %rbp\n"
	"	mov	7f+104(%rip), %r8\n"
	"	mov	7f+112(%rip), %r9\n"
	"	mov	7f+120(%rip), %r10\n"
	"	mov	7f+128(%rip), %r11\n"
	"	mov	7f+136(%rip), %r12\n"
	"	mov	7f+144(%rip), %r13\n"
	"	mov	7f+152(%rip), %r14\n"
	"	mov	7f+160(%rip), %r15\n"
	"	jmp	*7f+16(%rip)\n"
	"	.balign	8\n"
	"orphan_saved:\n"
	"7:	.skip	176\n"
	"orphan_end:\n"
	".text\n");

#define AT(field, off) _Static_assert(offsetof(struct orphan_save, field) == (off), #field)
AT(rflags, 0);
AT(rsp, 8);
AT(rip, 16);
AT(mask, 24);
AT(mask_asking, 32);
AT(mask_all, 40);
AT(rax, 48);
AT(r15, 160);
AT(signal, 168);
AT(trap_if_refused, 172);
_Static_assert(ZONE_BYTES == 0x100000, "the stub unmaps that much");
_Static_assert(sizeof(struct orphan_save) == 176, "the stub keeps 176 bytes for it");

#define EFLAGS_TRAP 0x100u
#define EFLAGS_PLAIN 0x202u	/* interrupts on, direction forward, no single step */

void arch_regs_for_batch(struct user_regs_struct *regs, uint64_t stub, uint64_t calls, size_t n)
{
	regs->rip = stub;
	regs->r12 = calls;
	regs->r13 = n;
	regs->orig_rax = (unsigned long long)-1;	/* no restart logic on this stop */
	regs->eflags = EFLAGS_PLAIN;
	/* A 32-bit task runs the 64-bit stub as well, with the 64-bit code segment. */
	regs->cs = 0x33;
}

size_t arch_regs_batch_left(const struct user_regs_struct *regs)
{
	return regs->r13;
}

void arch_regs_for_syscall(struct user_regs_struct *regs, uint64_t insn, uint64_t nr,
			   const uint64_t arg[6])
{
	regs->rip = insn;
	regs->rax = nr;
	regs->orig_rax = (unsigned long long)-1;
	regs->rdi = arg[0];
	regs->rsi = arg[1];
	regs->rdx = arg[2];
	regs->r10 = arg[3];
	regs->r8 = arg[4];
	regs->r9 = arg[5];
	regs->eflags = EFLAGS_PLAIN;
	regs->cs = 0x33;
}

/*
 * The kernel keeps a restart block (what is left of a sleep, the end of a poll). Where it could not be read
 * (task/timeout.c) the call is repeated from its arguments: a sleep that reports what is left sleeps just
 * that, poll and futex begin their timeout anew. Only a call that was continued by
 * restart_syscall(2) before has lost its number: it ends with EINTR.
 */
static void restart_block_undo(struct user_regs_struct *regs, bool end_known)
{
	if (regs->orig_rax == SYS_restart_syscall) {
		regs->rax = (uint64_t)-EINTR;
		return;
	}
	if (regs->orig_rax == SYS_nanosleep && regs->rsi && !end_known)
		regs->rdi = regs->rsi;
	if (regs->orig_rax == SYS_clock_nanosleep && regs->r10 && !end_known)
		regs->rdx = regs->r10;
	regs->rax = regs->orig_rax;
	regs->rip -= 2;
}

void arch_regs_repeat_call(struct user_regs_struct *regs, bool end_known)
{
	if ((int64_t)regs->orig_rax < 0)
		return;
	switch (-(int64_t)regs->rax) {
	case K_ERESTARTSYS:
	case K_ERESTARTNOINTR:
	case K_ERESTARTNOHAND:
		regs->rax = regs->orig_rax;
		regs->rip -= 2;		/* back onto the syscall instruction */
		break;
	case K_ERESTART_RESTARTBLOCK:
		restart_block_undo(regs, end_known);
		break;
	}
}

void arch_orphan_save(struct orphan_save *s, const struct user_regs_struct *regs)
{
	struct user_regs_struct u = *regs;

	/* In the same task, whose restart block is still there: the kernel's own way to go on. */
	if ((int64_t)u.orig_rax >= 0 && (int64_t)u.rax == -K_ERESTART_RESTARTBLOCK) {
		u.rax = SYS_restart_syscall;
		u.rip -= 2;
	}
	arch_regs_repeat_call(&u, true);
	memset(s, 0, sizeof(*s));
	s->rflags = u.eflags & ~(uint64_t)EFLAGS_TRAP;
	s->rsp = u.rsp;
	s->rip = u.rip;
	s->rax = u.rax;
	s->rbx = u.rbx;
	s->rcx = u.rcx;
	s->rdx = u.rdx;
	s->rsi = u.rsi;
	s->rdi = u.rdi;
	s->rbp = u.rbp;
	s->r8 = u.r8;
	s->r9 = u.r9;
	s->r10 = u.r10;
	s->r11 = u.r11;
	s->r12 = u.r12;
	s->r13 = u.r13;
	s->r14 = u.r14;
	s->r15 = u.r15;
}

bool arch_regs_interrupted_call(const struct user_regs_struct *regs)
{
	if ((int64_t)regs->orig_rax < 0)
		return false;
	switch (-(int64_t)regs->rax) {
	case EINTR:
	case K_ERESTARTSYS:
	case K_ERESTARTNOINTR:
	case K_ERESTARTNOHAND:
	case K_ERESTART_RESTARTBLOCK:
		return true;
	}
	return false;
}

bool arch_regs_is_call(const struct user_regs_struct *regs, uint64_t nr, uint32_t arg0)
{
	return arch_regs_interrupted_call(regs) && regs->orig_rax == nr && (uint32_t)regs->rdi == arg0;
}

uint64_t arch_regs_ip(const struct user_regs_struct *regs)
{
	return regs->rip;
}

void arch_orphan_release(struct user_regs_struct *regs, uint64_t t_zone)
{
	regs->r14 = t_zone;
}

uint64_t arch_orphan_result(const struct user_regs_struct *regs)
{
	return regs->r12;
}

int64_t code_find_syscall(const uint8_t *code, size_t bytes)
{
	for (size_t i = 0; i + 1 < bytes; i++)
		if (code[i] == 0x0f && code[i + 1] == 0x05)
			return (int64_t)i;
	return -ENOENT;
}
