/*
 * x86-64: the stub, and how registers carry a system call.
 *
 * The stub walks r13 calls at r12 (72 bytes each: number, six arguments, result, address to
 * copy the result to) and ends in int3. syscall clobbers rcx and r11 only.
 */
#include "remote/remote.h"

__asm__(".section .rodata\n"
	".globl stub_begin, stub_end\n"
	"stub_begin:\n"
	"1:	test	%r13, %r13\n"
	"	jz	3f\n"
	"	mov	(%r12), %rax\n"
	"	mov	8(%r12), %rdi\n"
	"	mov	16(%r12), %rsi\n"
	"	mov	24(%r12), %rdx\n"
	"	mov	32(%r12), %r10\n"
	"	mov	40(%r12), %r8\n"
	"	mov	48(%r12), %r9\n"
	"	syscall\n"
	"	mov	%rax, 56(%r12)\n"
	"	mov	64(%r12), %rcx\n"
	"	test	%rcx, %rcx\n"
	"	jz	2f\n"
	"	mov	%rax, (%rcx)\n"
	"2:	add	$72, %r12\n"
	"	dec	%r13\n"
	"	jmp	1b\n"
	"3:	int3\n"
	"stub_end:\n"
	".text\n");

_Static_assert(sizeof(struct batch_call) == 72, "the stub steps by 72 bytes");

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

int64_t code_find_syscall(const uint8_t *code, size_t bytes)
{
	for (size_t i = 0; i + 1 < bytes; i++)
		if (code[i] == 0x0f && code[i + 1] == 0x05)
			return (int64_t)i;
	return -ENOENT;
}
