/* Images of one process's files, to be written by a test and loaded as a restore does. */
#ifndef TESTS_UNIT_FILES_WORLD_H
#define TESTS_UNIT_FILES_WORLD_H

#include "core/files.h"
#include "image_fixture.h"

struct world {
	struct fixture f;
	struct cr_opts opts;
	struct restore_ctx ctx;
	struct restore_process proc;
	TaskKobjIdsEntry ids;
	PstreeEntry pst;
	InventoryEntry inventory;
	struct image_writer *files, *fds, *other;
};

static inline void world_begin(struct world *w)
{
	*w = (struct world){ .f = fixture_begin(BUNDLE, 8u << 20) };
	task_kobj_ids_entry__init(&w->ids);
	pstree_entry__init(&w->pst);
	inventory_entry__init(&w->inventory);
	w->ids.files_id = 2;
	w->pst.pid = 100;
	w->proc = (struct restore_process){ .ctx = &w->ctx, .pst = &w->pst, .ids = &w->ids };
	w->ctx.opts = &w->opts;
	w->ctx.inventory = &w->inventory;
	w->ctx.procs = &w->proc;
	w->ctx.n_procs = 1;
	w->ctx.batch.error = 0;
	arena_init(&w->ctx.arena);
	ASSERT_OK(image_create(w->f.store, &image_files, &w->files));
	ASSERT_OK(image_create(w->f.store, &image_fdinfo, &w->fds, 2));
}

static inline void put_fd(struct world *w, uint32_t fd, uint32_t id, FdTypes type)
{
	FdinfoEntry e = FDINFO_ENTRY__INIT;

	e.fd = fd;
	e.id = id;
	e.type = type;
	ASSERT_OK(image_put(w->fds, &e.base));
}

static inline void put_eventfd(struct world *w, uint32_t id, uint32_t sub_id)
{
	EventfdFileEntry e = EVENTFD_FILE_ENTRY__INIT;
	FownEntry fown = FOWN_ENTRY__INIT;
	FileEntry fe = FILE_ENTRY__INIT;

	fe.type = FD_TYPES__EVENTFD;
	fe.id = id;
	fe.efd = &e;
	e.id = sub_id;
	e.fown = &fown;
	e.counter = 5;
	ASSERT_OK(image_put(w->files, &fe.base));
}

static inline void put_reg(struct world *w, uint32_t id, const char *name, uint32_t flags)
{
	RegFileEntry e = REG_FILE_ENTRY__INIT;
	FownEntry fown = FOWN_ENTRY__INIT;
	FileEntry fe = FILE_ENTRY__INIT;

	fe.type = FD_TYPES__REG;
	fe.id = e.id = id;
	fe.reg = &e;
	e.fown = &fown;
	e.name = (char *)name;
	e.flags = flags;
	ASSERT_OK(image_put(w->files, &fe.base));
}

static inline void world_close_images(struct world *w)
{
	ASSERT_OK(image_close(take_ptr(w->files)));
	ASSERT_OK(image_close(take_ptr(w->fds)));
	if (w->other)
		ASSERT_OK(image_close(take_ptr(w->other)));
	fixture_reopen(&w->f);
	w->ctx.store = w->f.store;
}

static inline int world_load(struct world *w)
{
	int r;

	world_close_images(w);
	r = restore_files_load(&w->ctx);
	return r;
}

static inline void world_end(struct world *w)
{
	restore_files_done(&w->ctx);
	arena_done(&w->ctx.arena);
	fixture_end(&w->f);
}

#endif
