/*
 * rseq registrations of two threads; the second is caught inside a critical section and must
 * come out of it through its abort handler. The first has its time slice extended, where the kernel does so.
 */
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/rseq.h>

#include "maker.h"

static pthread_barrier_t before;
static volatile int stop, aborted, inside;

static struct rseq *area(void)
{
	return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

/* Loops inside the section until stop is set; the kernel aborts it when the thread is disturbed. */
static void loop_in_section(void)
{
	struct rseq *rs = area();

	__asm__ volatile (
		".pushsection __rseq_cs, \"aw\"\n"
		".balign 32\n"
		"9:\n"
		".long 0, 0\n"
		".quad 1f, 2f - 1f, 4f\n"
		".popsection\n"
		"leaq 9b(%%rip), %%rax\n"
		"movq %%rax, %[cs]\n"
		"1:\n"
		"movl $1, %[inside]\n"
		"cmpl $0, %[stop]\n"
		"je 1b\n"
		"2:\n"
		"jmp 3f\n"
		".byte 0x0f, 0xb9, 0x3d\n"	/* ud1, so that the signature is no code */
		".long 0x53053053\n"
		"4:\n"
		"addl $1, %[aborted]\n"
		"3:\n"
		: [cs] "=m" (rs->rseq_cs), [inside] "=m" (inside), [aborted] "+m" (aborted)
		: [stop] "m" (stop)
		: "rax", "memory", "cc");
}

static void *second(void *arg)
{
	int n = 0;

	(void)arg;
	pthread_barrier_wait(&before);
	while (!stop) {
		inside = 0;
		loop_in_section();
		n++;
	}
	/* Each way out of the section but the last is an abort. */
	if (n - aborted > 1)
		maker_fail("%d rounds, only %d aborts", n, aborted);
	return NULL;
}

int main(int argc, char **argv)
{
	int cpu, extended;
	pthread_t t;

	maker_begin(argc, argv);
	if (!__rseq_size)
		maker_skip("the C library did not register rseq");
	/* PR_RSEQ_SLICE_EXTENSION, _SET: Linux 7.0. */
	if (maker_sets_up() && !maker_is_plain())
		prctl(79, 2, 1, 0, 0);
	extended = prctl(79, 1, 0, 0, 0);
	pthread_barrier_init(&before, NULL, 2);
	MAKER_MUST(!pthread_create(&t, NULL, second, NULL));
	pthread_barrier_wait(&before);
	while (!inside)
		;
	maker_ready();
	maker_wait();
	/* It may not have had its turn yet. */
	for (int try = 0; try < 5000 && !aborted; try++)
		usleep(1000);
	if (!aborted)
		maker_fail("the critical section was not aborted");
	/* Registered still: the kernel keeps the number of the CPU in the area. */
	cpu = (int)area()->cpu_id;
	if (cpu < 0)
		maker_fail("cpu_id is %d", cpu);
	MAKER_SAME("PR_RSEQ_SLICE_EXTENSION", prctl(79, 1, 0, 0, 0), extended);
	/* The C library's own registration is refused a second time as busy, not as a new one. */
	if (syscall(SYS_rseq, area(), 32, 0, 0x53053053) != -1 ||
	    (errno != EBUSY && errno != EINVAL))
		maker_fail("rseq was not registered any more: %s", strerror(errno));
	stop = 1;
	pthread_join(t, NULL);
	maker_ok();
}
