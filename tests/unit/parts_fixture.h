/* For parts of a task's state: a thread that exists in our own memory only. Batches are built, never run. */
#ifndef TESTS_UNIT_PARTS_FIXTURE_H
#define TESTS_UNIT_PARTS_FIXTURE_H

#include "task/parts.h"
#include "unit.h"

static struct {
	struct restore_ctx ctx;
	struct restore_process p;
	struct restore_thread th;
	struct remote remote;
	struct batch b;
	struct cr_opts opts;
	CoreEntry core;
	TaskCoreEntry tc;
	ThreadCoreEntry thc;
	PstreeEntry pst;
	uint32_t tid;
} f;

static void fixture(void)
{
	log_init(LOGLEVEL_NONE, -1);
	arena_init(&f.ctx.arena);
	core_entry__init(&f.core);
	task_core_entry__init(&f.tc);
	thread_core_entry__init(&f.thc);
	pstree_entry__init(&f.pst);
	f.remote.mirror = calloc(1, ZONE_BYTES);
	ASSERT(f.remote.mirror);
	f.remote.zone = 0x10000000;
	f.remote.zone_bytes = ZONE_BYTES;
	f.th.task.tid = f.tid = 4711;
	f.th.task.remote = &f.remote;
	f.th.core = &f.core;
	f.core.tc = &f.tc;
	f.core.thread_core = &f.thc;
	f.tc.comm = (char *)"x";
	f.pst.pid = 4711;
	f.pst.threads = &f.tid;
	f.pst.n_threads = 1;
	f.ctx.opts = &f.opts;
	f.p.ctx = &f.ctx;
	f.p.threads = &f.th;
	f.p.n_threads = 1;
	f.p.core = &f.core;
	f.p.pst = &f.pst;
	batch_begin(&f.b, &f.th.task);
}

static int restore(const struct task_part *part)
{
	return part->restore_calls(&f.ctx, &f.p, &f.th, &f.b);
}

#endif
