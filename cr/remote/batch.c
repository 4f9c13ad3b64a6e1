/*
 * Zones and batches: see remote.h.
 *
 * On dump registers and mask go back into the task after each batch, so that an engine that
 * dies between batches leaves a task that runs on as if nothing had happened (inside one:
 * orphan.h).
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <elf.h>

#include "remote/orphan.h"
#include "util/io.h"
#include "util/log.h"

int remote_read(struct task *t, uint64_t t_addr, void *buf, size_t bytes)
{
	return pread_full(t->remote->mem_fd, buf, bytes, (off_t)t_addr);
}

int remote_write(struct task *t, uint64_t t_addr, const void *buf, size_t bytes)
{
	return pwrite_full(t->remote->mem_fd, buf, bytes, (off_t)t_addr);
}

int remote_open(struct remote *r, pid_t pid)
{
	char path[32];

	r->pid = pid;
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	r->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	return r->mem_fd < 0 ? log_err(neg_errno(), "cannot open %s", path) : 0;
}

void remote_close(struct remote *r)
{
	if (r->mem_fd >= 0)
		close(r->mem_fd);
	r->mem_fd = -EBADF;
	if (!r->shared)
		free(r->mirror);
	r->mirror = NULL;
	free(r->stub_before);
	r->stub_before = NULL;
}

int remote_map_shared(struct remote *r, uint64_t t_addr)
{
	void *p = mmap((void *)t_addr, ZONE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED)
		return neg_errno();
	memcpy(p, stub_begin, (size_t)(stub_end - stub_begin));
	*r = (struct remote){ .mem_fd = -EBADF, .zone = t_addr, .zone_bytes = ZONE_BYTES, .mirror = p,
			      .shared = true };
	return 0;
}

void batch_begin(struct batch *b, struct task *t)
{
	b->task = t;
	b->n_calls = b->data_bytes = 0;
	b->error = 0;
	b->ran = b->running = false;
	b->pause_call = 0;
}

static size_t data_off(const struct remote *r)
{
	return r->zone_bytes / 2;
}

static size_t calls_max(const struct remote *r)
{
	return MIN((data_off(r) - ZONE_CALLS_OFF) / sizeof(struct batch_call), BATCH_CALLS_MAX);
}

static struct batch_call *batch_calls(const struct batch *b)
{
	return (struct batch_call *)(b->task->remote->mirror + ZONE_CALLS_OFF);
}

static uint64_t call_addr(const struct batch *b, int call)
{
	return b->task->remote->zone + ZONE_CALLS_OFF + (uint64_t)call * sizeof(struct batch_call);
}

uint64_t batch_put(struct batch *b, const void *p, size_t bytes)
{
	const struct remote *r = b->task->remote;
	size_t off = data_off(r) + b->data_bytes;

	if (bytes > batch_room_bytes(b)) {
		b->error = -ENOBUFS;
		return 0;
	}
	if (p)
		memcpy(r->mirror + off, p, bytes);
	else
		memset(r->mirror + off, 0, bytes);
	b->data_bytes += ROUND_UP(bytes, 16);
	return r->zone + off;
}

uint64_t batch_str(struct batch *b, const char *s)
{
	return batch_put(b, s, strlen(s) + 1);
}

void *batch_data(struct batch *b, uint64_t t_addr)
{
	return b->task->remote->mirror + (t_addr - b->task->remote->zone);
}

int batch_call_(struct batch *b, const char *name, bool may_fail, uint64_t nr,
		const uint64_t arg[6])
{
	struct batch_call *c;

	if (!batch_room_calls(b)) {
		b->error = -ENOBUFS;
		return 0;
	}
	c = &batch_calls(b)[b->n_calls];
	c->nr = nr;
	memcpy(c->arg, arg, sizeof(c->arg));
	c->ret = -EINPROGRESS;
	c->result_to = 0;
	b->names[b->n_calls] = name;
	b->may_fail[b->n_calls] = may_fail;
	return (int)b->n_calls++;
}

void batch_link_addr(struct batch *b, int from, uint64_t t_addr)
{
	batch_calls(b)[from].result_to = t_addr;
}

void batch_link(struct batch *b, int from, int to, unsigned int arg)
{
	batch_link_addr(b, from, call_addr(b, to) + offsetof(struct batch_call, arg) + 8 * arg);
}

void batch_pause(struct batch *b, void (*fn)(void *arg), void *arg)
{
	int pid = batch_call(b, SYS_getpid), tid = batch_call(b, SYS_gettid);

	batch_call(b, SYS_rt_sigprocmask, SIG_SETMASK, orphan_mask_asking(b->task), 0, 8);
	/* Which signal is known when the batch is run. */
	b->pause_call = batch_try(b, SYS_tgkill, 0, 0, 0);
	batch_link(b, pid, b->pause_call, 0);
	batch_link(b, tid, b->pause_call, 1);
	batch_call(b, SYS_rt_sigprocmask, SIG_SETMASK, orphan_mask_all(b->task), 0, 8);
	b->pause_fn = fn;
	b->pause_arg = arg;
}

int batch_ret_now(const struct batch *b, int call, int64_t *ret)
{
	return remote_read(b->task, call_addr(b, call) + offsetof(struct batch_call, ret), ret,
			   sizeof(*ret));
}

int64_t batch_ret(const struct batch *b, int call)
{
	return batch_calls(b)[call].ret;
}

size_t batch_room_calls(const struct batch *b)
{
	return calls_max(b->task->remote) - b->n_calls;
}

size_t batch_room_bytes(const struct batch *b)
{
	const struct remote *r = b->task->remote;

	return r->zone_bytes - data_off(r) - b->data_bytes;
}

static int transfer_one(struct batch *b, const struct iovec *ours, const struct iovec *theirs, bool to_target)
{
	uint64_t t_addr = (uint64_t)theirs->iov_base;

	return to_target ? remote_write(b->task, t_addr, ours->iov_base, ours->iov_len) :
			   remote_read(b->task, t_addr, ours->iov_base, ours->iov_len);
}

/*
 * Calls and data with one call of ours, unless that is denied to us (a seccomp filter, a kernel without
 * CONFIG_CROSS_MEMORY_ATTACH). The zone is the task's alone: there is no page that this would un-share.
 */
static int batch_transfer(struct batch *b, bool to_target)
{
	struct remote *r = b->task->remote;
	struct remote *whole = remote_whole(r);
	const struct iovec ours[] = {
		{ r->mirror + ZONE_CALLS_OFF, b->n_calls * sizeof(struct batch_call) },
		{ r->mirror + data_off(r), b->data_bytes },
		{ &whole->others, sizeof(whole->others) },
	};
	const struct iovec theirs[] = {
		{ (void *)(r->zone + ZONE_CALLS_OFF), ours[0].iov_len },
		{ (void *)(r->zone + data_off(r)), ours[1].iov_len },
		{ (void *)whole->zone, ours[2].iov_len },
	};
	const size_t parts = to_target ? 3 : 2;
	size_t bytes = 0;
	ssize_t n;
	int e = 0;

	if (r->shared)
		return 0;
	n = to_target ? process_vm_writev(b->task->tid, ours, parts, theirs, parts, 0) :
			process_vm_readv(b->task->tid, ours, parts, theirs, parts, 0);
	for (size_t i = 0; i < parts; i++)
		bytes += ours[i].iov_len;
	if (n == (ssize_t)bytes)
		return 0;
	for (size_t i = 0; e >= 0 && i < parts; i++)
		if (ours[i].iov_len)
			e = transfer_one(b, &ours[i], &theirs[i], to_target);
	return e;
}

static bool is_keeper(const struct task *t)
{
	return t->tid == t->remote->keeper;
}

/* The calls are written right before the task is there: it is counted among those in the zone with them. */
static int start_as_orphan(struct batch *b)
{
	struct task *t = b->task;
	struct remote *whole = remote_whole(t->remote);
	int r = orphan_ready(t);

	if (r < 0)
		return r;
	if (b->pause_call)
		batch_calls(b)[b->pause_call].arg[2] = (uint64_t)t->stub_signal;
	whole->others += !is_keeper(t);
	r = batch_transfer(b, true);
	r = r < 0 ? log_err(r, "task %d: cannot write the call zone", t->tid) : orphan_start(t, call_addr(b, 0), b->n_calls);
	if (r < 0)
		whole->others -= !is_keeper(t);
	return r;
}

static int finish_as_orphan(struct batch *b)
{
	const struct orphan_pause pause = { b->pause_fn, b->pause_arg };
	struct task *t = b->task;
	struct remote *whole = remote_whole(t->remote);
	int r = orphan_finish(t, b->pause_call ? &pause : NULL);

	if (is_keeper(t))
		return r;
	whole->others--;
	return r < 0 ? r : remote_write(t, whole->zone, &whole->others, sizeof(whole->others));
}

/* A task was born by a call of the batch: it stands in its first stop; remember it. */
static int batch_note_birth(struct batch *b)
{
	struct remote *r = b->task->remote;
	struct task born = { 0 };
	unsigned long tid;
	int status, res;

	if (ptrace(PTRACE_GETEVENTMSG, b->task->tid, 0, &tid) < 0)
		return neg_errno();
	if (r->n_born >= ARRAY_SIZE(r->born))
		return -ENOBUFS;
	/* It may be killed in that moment, as any other. */
	born.tid = (pid_t)tid;
	res = task_wait(&born, &status);
	if (res < 0)
		return res;
	r->born[r->n_born++] = born.tid;
	return 0;
}

/* Waits until the int3 at the end; 0, or why not. */
static int batch_wait(struct batch *b)
{
	struct user_regs_struct regs;
	struct iovec iov = { &regs, sizeof(regs) };
	int status, event, r;

	for (;;) {
		r = task_wait(b->task, &status);
		if (r < 0)
			return r;
		event = status >> 16;
		if (event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK ||
		    event == PTRACE_EVENT_VFORK) {
			r = batch_note_birth(b);
			if (r < 0)
				return r;
		} else if (event == PTRACE_EVENT_STOP) {
			log_debug("task %d: event stop inside a batch", b->task->tid);
		} else if (WSTOPSIG(status) == SIGTRAP && !event) {
			return 0;
		} else {
			break;
		}
		if (ptrace(PTRACE_CONT, b->task->tid, 0, 0) < 0)
			return neg_errno();
	}
	if (ptrace(PTRACE_GETREGSET, b->task->tid, NT_PRSTATUS, &iov) < 0)
		return neg_errno();
	r = (int)(b->n_calls - MIN(arch_regs_batch_left(&regs), b->n_calls));
	return log_fail(-EFAULT, "task %d: stopped by signal %d in a batch at 0x%llx, call %d of %zu (%s)",
			b->task->tid, WSTOPSIG(status), (unsigned long long)regs.rip, r, b->n_calls,
			r < (int)b->n_calls ? b->names[r] : "end");
}

static int batch_first_failure(const struct batch *b)
{
	for (size_t i = 0; i < b->n_calls; i++) {
		const struct batch_call *c = &batch_calls(b)[i];

		if (b->may_fail[i] || c->ret >= 0 || c->ret < -4095)
			continue;
		return log_err((int)c->ret, "task %d: %s(0x%lx, 0x%lx, 0x%lx, 0x%lx, 0x%lx, 0x%lx)",
			       b->task->tid, b->names[i], c->arg[0], c->arg[1], c->arg[2],
			       c->arg[3], c->arg[4], c->arg[5]);
	}
	return 0;
}

/* The restore's way: the stub in the zone, up to its int3. The registers stay the batch's. */
static int start_in_zone(struct batch *b)
{
	struct task *t = b->task;
	struct user_regs_struct regs = t->regs;
	struct iovec iov = { &regs, sizeof(regs) };
	int r;

	arch_regs_for_batch(&regs, t->remote->zone, t->remote->zone + ZONE_CALLS_OFF, b->n_calls);
	r = task_block_signals(t);
	if (r < 0)
		return log_err(r, "task %d: cannot block its signals", t->tid);
	if (ptrace(PTRACE_SETREGSET, t->tid, NT_PRSTATUS, &iov) < 0 ||
	    ptrace(PTRACE_CONT, t->tid, 0, 0) < 0)
		return log_err(neg_errno(), "task %d: cannot start a batch", t->tid);
	return 0;
}

int batch_start(struct batch *b)
{
	struct task *t = b->task;
	int r;

	if (b->error < 0)
		return log_err(b->error, "task %d: batch too long", t->tid);
	if (b->ran || !b->n_calls)
		return 0;
	b->ran = true;
	t->remote->n_born = 0;
	r = t->remote->shared ? start_in_zone(b) : start_as_orphan(b);
	b->running = r >= 0;
	return r;
}

int batch_finish(struct batch *b)
{
	struct task *t = b->task;
	int r;

	if (!b->running)
		return 0;
	b->running = false;
	r = t->remote->shared ? batch_wait(b) : finish_as_orphan(b);
	if (r < 0)
		return r;
	r = batch_transfer(b, false);
	if (r < 0)
		return log_err(r, "task %d: cannot read the call zone", t->tid);
	return batch_first_failure(b);
}

int batch_run(struct batch *b)
{
	int r = batch_start(b);

	return r < 0 ? r : batch_finish(b);
}

int batch_make_room(struct batch *b, size_t n_calls, size_t bytes)
{
	int r;

	if (batch_room_calls(b) >= n_calls && batch_room_bytes(b) >= bytes && !b->ran)
		return b->error;
	r = batch_run(b);
	batch_begin(b, b->task);
	return r;
}
