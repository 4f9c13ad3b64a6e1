/*
 * A call with a time-out that sleeps has its timer on its kernel stack (struct hrtimer_sleeper,
 * schedule_hrtimeout_range_clock() in kernel/time/): nothing leads there. But what is woken is the task itself, by one
 * function, so it can be told from all else that lies on the stack; and a kernel's frames are always the same.
 */
#include <string.h>

#include "kernel/peek.h"

#define STACK_BYTES	16384u		/* THREAD_SIZE; with KASAN more, but no sleep is that deep */
#define DEPTH_BYTES	2048u		/* measured: 0.3 KiB from where it sleeps, of 0.8 to 1.3 in all */

struct sleeper {
	uint64_t task, function, end;	/* offsets */
};

static int offsets(struct peek *pk, struct sleeper *ret)
{
	int r = peek_inside(pk, 0, "hrtimer_sleeper", "task", &ret->task);

	if (r >= 0)
		r = peek_inside(pk, 0, "hrtimer_sleeper", "timer.function", &ret->function);
	/* What was asked for; until node.expires it may be late. */
	return r < 0 ? r : peek_inside(pk, 0, "hrtimer_sleeper", "timer._softexpires", &ret->end);
}

/* Is the word at this address a sleeper's task? Others point there, too, and what has been one may still lie there. */
static int look(struct peek *pk, const struct sleeper *s, uint64_t task, uint64_t at, uint64_t *ret_end)
{
	uint64_t word, fn;
	char name[32];
	int r = peek_word(pk, at, &word);

	if (r < 0 || word != task)
		return r < 0 ? r : -ENODATA;
	at -= s->task;
	r = peek_word(pk, at + s->function, &fn);
	if (r >= 0)
		r = peek_symbol(pk, fn, name, sizeof(name));
	if (r < 0 || strcmp(name, "hrtimer_wakeup"))
		return -ENODATA;
	return peek_word(pk, at + s->end, ret_end);
}

int peek_sleep_end(struct peek *pk, pid_t tid, uint64_t first, uint64_t last, uint64_t *hint, uint64_t *ret)
{
	uint64_t task, sp, stack, end, found = 0;
	struct sleeper s;
	int r = offsets(pk, &s);

	if (r >= 0)
		r = peek_task(pk, tid, &task);
	if (r >= 0)
		r = peek_member(pk, task, "task_struct", "thread.sp", 8, &sp);
	if (r >= 0)
		r = peek_member(pk, task, "task_struct", "stack", 8, &stack);
	if (r < 0)
		return r;
	if (sp < stack || sp >= stack + STACK_BYTES)
		return -ENODATA;
	if (*hint && look(pk, &s, task, sp + *hint, &end) >= 0 && end >= first && end <= last) {
		*ret = end;
		return 0;
	}
	for (uint64_t at = sp; at < MIN(sp + DEPTH_BYTES, stack + STACK_BYTES); at += 8) {
		r = look(pk, &s, task, at, &end);
		if (r < 0 && r != -ENODATA)
			return r;
		if (r < 0 || end < first || end > last)
			continue;
		if (found)
			return -ENODATA;	/* one of them has been, and nobody can tell which */
		found = at;
		*ret = end;
	}
	if (!found)
		return -ENODATA;
	*hint = found - sp;
	return 0;
}
