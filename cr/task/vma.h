/*
 * The memory areas of a process as /proc/PID/smaps shows them, in the image's terms.
 */
#ifndef CR_TASK_VMA_H
#define CR_TASK_VMA_H

#include <sys/mman.h>

#include "core/dump.h"
#include "core/restore.h"
#include "image/pages.h"

/* VmaEntry.status: bits of CRIU's format. */
enum vma_status {
	VMA_REGULAR		= 0x1,
	VMA_VSYSCALL		= 0x4,
	VMA_VDSO		= 0x8,
	VMA_HEAP		= 0x20,
	VMA_FILE_PRIVATE	= 0x40,
	VMA_FILE_SHARED		= 0x80,
	VMA_ANON_SHARED		= 0x100,
	VMA_ANON_PRIVATE	= 0x200,
	VMA_SYSVIPC		= 0x400,
	VMA_SOCKET		= 0x800,
	VMA_VVAR		= 0x1000,
	VMA_AIORING		= 0x2000,
	VMA_MEMFD		= 0x4000,
	VMA_SHSTK		= 0x8000,
	VMA_GUARD		= 0x10000,
	VMA_EXT			= 0x8000000,	/* CRIU: a plugin's. Here: the ring of an io_uring */
};

struct vma {
	uint64_t start, end;	/* [start, end) */
	uint64_t pgoff;		/* bytes */
	uint64_t ino;
	uint32_t dev_major, dev_minor;
	uint32_t prot;		/* PROT_* */
	uint32_t flags;		/* MAP_* */
	uint32_t status;	/* enum vma_status */
	uint64_t madv;		/* bit n: madvise(n) */
	const char *path;	/* as shown: "[heap]", "/usr/bin/x (deleted)", "" */
	uint64_t page_bytes;	/* KernelPageSize: more than 4096 on hugetlbfs */
	bool io;		/* VmFlags io/pf: device memory, not pages */
	bool sealed;		/* mseal(2) */
	bool lock_on_fault;	/* MLOCK_ONFAULT */
	uint32_t pkey;		/* protection key */
	uint32_t fdflags;	/* how its file was opened, when vma_dump_file() has been there */
	MempolicyEntry *policy;	/* NULL: default */
};

/*
 * Where user space ends. Above the first lies only what a program has asked for there by address, on a
 * processor and kernel with five levels of page tables: nothing of the engine's own.
 */
#define TASK_END	0x7ffffffff000ull
#define TASK_END_MAX	0xfffffffffff000ull

/*
 * Parses the text of smaps (VmFlags lines) into the arena. -EBADMSG on text that the kernel does
 * not write. Pure: no system calls.
 */
int vma_parse_smaps(struct arena *a, const char *text, struct vma **ret, size_t *ret_n) _must_check_;

/* Reads and classifies; obstacles for what cannot be saved. */
int vma_read(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/* Fills p->mm->vmas: file ids for mapped files. Needs p->mm. */
int vma_dump(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/* vma_file.c. The file that v maps, into e. */
int vma_dump_file(struct dump_ctx *ctx, struct dump_process *p, struct vma *v, VmaEntry *e) _must_check_;

/* Its pages are saved with it: private ones, and an AIO ring's (task/aio.c). */
static inline bool vma_status_has_pages(uint32_t status)
{
	return status & (VMA_FILE_PRIVATE | VMA_ANON_PRIVATE | VMA_AIORING);
}

/* Private huge pages: on older kernels (6.12) /proc/PID/mem cannot write to read-only ones. */
static inline bool vma_entry_waits_for_prot(const VmaEntry *e)
{
	return e->flags & MAP_HUGETLB && e->flags & MAP_PRIVATE && !(e->prot & PROT_WRITE);
}

/* What the pages of an area of the images are: 4096, or huge pages of hugetlbfs. */
static inline uint64_t vma_entry_page_bytes(const VmaEntry *e)
{
	return e->flags & MAP_HUGETLB ? huge_page_bytes(e->flags) : PAGE_BYTES;
}

/* guard.c: guard pages of the areas, behind p->mm->vmas. Needs vma_dump(). */
int guards_dump(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/* Takes them off p->mm->vmas again: what is left there is areas, in ascending order. */
int guards_load(struct restore_process *p) _must_check_;
int guards_restore(const struct restore_process *p, struct batch *b) _must_check_;
/* Whether any are in this range, once they are loaded. */
bool guards_are_in(const struct restore_process *p, uint64_t start, uint64_t end);

const struct vma *vma_find(const struct dump_process *p, uint64_t addr);

#endif
