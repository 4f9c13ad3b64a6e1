/*
 * Memory areas: /proc/PID/smaps → VmaEntry.
 *
 * smaps rather than maps for its VmFlags line: growsdown, locked, madvise state are nowhere
 * else. The files behind them: vma_file.c.
 */
#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "task/vma.h"

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

/* Two-letter VmFlags (fs/proc/task_mmu.c) and what they mean to us. */
static const struct {
	char name[3];
	uint32_t map_flag;
	int madvice;	/* -1: none */
} vm_flags[] = {
	{ "gd", MAP_GROWSDOWN, -1 },	{ "lo", MAP_LOCKED, -1 },
	{ "nr", MAP_NORESERVE, -1 },	{ "ht", MAP_HUGETLB, -1 },
	{ "dp", MAP_DROPPABLE, -1 },	{ "sr", 0, MADV_SEQUENTIAL },
	{ "rr", 0, MADV_RANDOM },	{ "dc", 0, MADV_DONTFORK },
	{ "mg", 0, MADV_MERGEABLE },	{ "hg", 0, MADV_HUGEPAGE },
	{ "nh", 0, MADV_NOHUGEPAGE },	{ "dd", 0, MADV_DONTDUMP },
	{ "wf", 0, MADV_WIPEONFORK },
};

static int vma_parse_flags(struct vma *v, const char *line, const char *end)
{
	for (const char *s = line; s + 1 < end;) {
		if (isspace((unsigned char)*s)) {
			s++;
			continue;
		}
		if (!strncmp(s, "io", 2) || !strncmp(s, "pf", 2))
			v->io = true;
		if (!strncmp(s, "sl", 2))
			v->sealed = true;
		if (!strncmp(s, "lf", 2))
			v->lock_on_fault = true;
		if (!strncmp(s, "ss", 2))
			v->status |= VMA_SHSTK;
		for (size_t i = 0; i < ARRAY_SIZE(vm_flags); i++) {
			if (strncmp(s, vm_flags[i].name, 2))
				continue;
			v->flags |= vm_flags[i].map_flag;
			if (vm_flags[i].madvice >= 0)
				v->madv |= 1ull << vm_flags[i].madvice;
		}
		s += 2;
	}
	/* Never beyond what mmap() can be asked for: 2 MiB, 1 GiB ... */
	if (v->flags & MAP_HUGETLB && v->page_bytes & (v->page_bytes - 1))
		return -EBADMSG;
	if (v->flags & MAP_HUGETLB && v->page_bytes)
		v->flags |= (uint32_t)__builtin_ctzll(v->page_bytes) << MAP_HUGE_SHIFT;
	return 0;
}

/* "7f00-7f10 r-xp 00000000 08:01 123   /path": 1 if it is such a line, 0 if not. */
static int vma_parse_header(struct arena *a, struct vma *v, const char *line, const char *end)
{
	char head[128], perms[5];
	int used = 0;

	memset(v, 0, sizeof(*v));
	if (!isxdigit((unsigned char)*line) || isupper((unsigned char)*line))
		return 0;
	/* A copy of the line's head: sscanf() measures its whole input each time. */
	snprintf(head, sizeof(head), "%.*s", (int)MIN((size_t)(end - line), sizeof(head) - 1), line);
	if (sscanf(head, "%lx-%lx %4s %lx %x:%x %lu%n", &v->start, &v->end, perms, &v->pgoff,
		   &v->dev_major, &v->dev_minor, &v->ino, &used) != 7 || line + used > end)
		return 0;
	if (v->start >= v->end || (v->start | v->end) & (PAGE_BYTES - 1) || strlen(perms) != 4)
		return -EBADMSG;
	v->prot = (perms[0] == 'r' ? PROT_READ : 0) | (perms[1] == 'w' ? PROT_WRITE : 0) |
		  (perms[2] == 'x' ? PROT_EXEC : 0);
	v->flags = perms[3] == 's' || perms[3] == 'S' ? MAP_SHARED : MAP_PRIVATE;
	line += used;
	while (line < end && *line == ' ')
		line++;
	v->path = arena_strndup(a, line, (size_t)(end - line));
	return v->path ? 1 : -ENOMEM;
}

int vma_parse_smaps(struct arena *a, const char *text, struct vma **ret, size_t *ret_n)
{
	struct vma *vmas = NULL, *v = NULL;
	size_t n = 0;

	for (const char *line = text; *line;) {
		const char *end = strchrnul(line, '\n');
		struct vma one;
		int r = vma_parse_header(a, &one, line, end);

		if (r < 0)
			return r;
		if (r) {
			if (v && v->end > one.start)
				return -EBADMSG;
			v = ARENA_PUSH(a, vmas, n);
			if (!v)
				return -ENOMEM;
			*v = one;
		} else if (v && !strncmp(line, "KernelPageSize:", 15)) {
			v->page_bytes = strtoull(line + 15, NULL, 10) * 1024;
		} else if (v && !strncmp(line, "ProtectionKey:", 14)) {
			v->pkey = (uint32_t)strtoul(line + 14, NULL, 10);
		} else if (v && !strncmp(line, "VmFlags:", 8)) {
			r = vma_parse_flags(v, line + 8, end);
			if (r < 0)
				return r;
		} else if (!v) {
			return -EBADMSG;
		}
		line = *end ? end + 1 : end;
	}
	*ret = vmas;
	*ret_n = n;
	return 0;
}

static bool is_vvar(const char *path)
{
	/* [vvar], [vvar_vclock] and whatever a later kernel adds beside them. */
	return str_starts(path, "[vvar");
}

static int vma_classify_anon(struct vma *v)
{
	if (v->flags & MAP_SHARED)
		v->status |= VMA_REGULAR | VMA_ANON_SHARED;
	else
		v->status |= VMA_REGULAR | VMA_ANON_PRIVATE;
	if (!strcmp(v->path, "[heap]"))
		v->status |= VMA_HEAP;
	v->flags |= MAP_ANONYMOUS;
	if (v->flags & MAP_DROPPABLE)
		v->flags &= ~(uint32_t)MAP_PRIVATE;
	return 0;
}

static int vma_classify(struct vma *v)
{
	const char *refused = NULL;

	if (!strcmp(v->path, "[vsyscall]")) {
		v->status = VMA_VSYSCALL;
		return 0;
	}
	if (!strcmp(v->path, "[vdso]")) {
		v->status = VMA_REGULAR | VMA_VDSO | VMA_ANON_PRIVATE;
		v->flags |= MAP_ANONYMOUS;
		return 0;
	}
	if (is_vvar(v->path)) {
		v->status = VMA_REGULAR | VMA_VVAR | VMA_ANON_PRIVATE;
		v->flags |= MAP_ANONYMOUS;
		return 0;
	}
	if (str_starts(v->path, "/[aio]")) {
		v->status = VMA_AIORING;
		return 0;
	}
	if (!strcmp(v->path, "anon_inode:[io_uring]")) {
		v->status = VMA_REGULAR | VMA_EXT;
		return 0;
	}
	if (str_starts(v->path, "anon_inode:"))
		refused = "a mapping of a kernel object that has no file";
	else if (str_starts(v->path, "socket:"))
		refused = "a packet socket's ring";
	else if (!strcmp(v->path, "[uprobes]"))
		refused = "uprobes of a tracer";
	else if (v->io)
		refused = "device memory";
	else if (v->status & VMA_SHSTK)
		refused = "a shadow stack";
	if (refused)
		return log_obstacle("stop using it in this service, or do not choose the service",
				    "memory at 0x%lx-0x%lx is %s (%s)", v->start, v->end, refused,
				    v->path[0] ? v->path : "anonymous");
	/* The inode's number is the segment's id; 0 is one too. */
	if (str_starts(v->path, "/SYSV")) {
		v->status |= VMA_REGULAR | VMA_ANON_SHARED | VMA_SYSVIPC;
		v->flags |= MAP_ANONYMOUS;
		return 0;
	}
	/* Anonymous huge pages have a file of their own each, which nobody else can reach. */
	if (!v->ino || (v->flags & MAP_HUGETLB && v->flags & MAP_PRIVATE &&
			!strcmp(v->path, "/anon_hugepage (deleted)")))
		return vma_classify_anon(v);
	if (v->flags & MAP_SHARED)
		v->status |= VMA_REGULAR | VMA_FILE_SHARED;
	else
		v->status |= VMA_REGULAR | VMA_FILE_PRIVATE;
	return 0;
}

int vma_read(struct dump_ctx *ctx, struct dump_process *p)
{
	_cleanup_free_ char *text = NULL;
	int r, bad = 0;

	r = read_smaps_at(p->proc_fd, &text);
	if (r < 0)
		return log_err(r, "cannot read /proc/%d/smaps", p->pid);
	r = vma_parse_smaps(&ctx->arena, text, &p->vmas, &p->n_vmas);
	if (r < 0)
		return log_err(r, "cannot understand /proc/%d/smaps", p->pid);
	for (size_t i = 0; i < p->n_vmas; i++) {
		r = vma_classify(&p->vmas[i]);
		if (r < 0 && r != -EOPNOTSUPP)
			return r;
		bad = r < 0 ? r : bad;
	}
	return bad;
}

const struct vma *vma_find(const struct dump_process *p, uint64_t addr)
{
	size_t lo = 0, hi = p->n_vmas;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (p->vmas[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < p->n_vmas && p->vmas[lo].start <= addr ? &p->vmas[lo] : NULL;
}

static bool vma_has_file(const struct vma *v)
{
	return v->ino && !(v->status & (VMA_SYSVIPC | VMA_AIORING | VMA_ANON_PRIVATE));
}

/* "[anon:name]"; of shared memory the name goes with the mapping, too: "[anon_shmem:name]". */
static int vma_dump_name(struct dump_ctx *ctx, const struct vma *v, VmaEntry *e)
{
	const char *name = NULL;

	if (str_starts(v->path, "[anon:"))
		name = v->path + strlen("[anon:");
	else if (str_starts(v->path, "[anon_shmem:"))
		name = v->path + strlen("[anon_shmem:");
	if (!name || !*name)
		return 0;
	e->name = arena_strndup(&ctx->arena, name, strlen(name) - 1);
	return e->name ? 0 : -ENOMEM;
}

int vma_dump(struct dump_ctx *ctx, struct dump_process *p)
{
	struct vma *prev = NULL;
	int r;

	p->mm->vmas = arena_alloc(&ctx->arena, p->n_vmas * sizeof(VmaEntry *));
	if (!p->mm->vmas)
		return -ENOMEM;
	for (size_t i = 0; i < p->n_vmas; i++) {
		struct vma *v = &p->vmas[i];
		VmaEntry *e;

		/* Refused; we are only looking for more of that. */
		if (!v->status)
			continue;
		/* Neighbouring vvar areas are one entry in the images. */
		if (prev && v->status & VMA_VVAR && prev->status & VMA_VVAR &&
		    prev->end == v->start) {
			p->mm->vmas[p->mm->n_vmas - 1]->end = v->end;
			prev = v;
			continue;
		}
		prev = v;
		e = ARENA_MSG(&ctx->arena, VmaEntry, vma_entry);
		if (!e)
			return -ENOMEM;
		e->start = v->start;
		e->end = v->end;
		e->pgoff = v->ino && !(v->status & VMA_ANON_PRIVATE) ? v->pgoff : 0;
		if (v->status & VMA_SYSVIPC)
			e->shmid = v->ino;
		e->prot = v->prot;
		e->flags = v->flags;
		e->status = v->status;
		e->fd = -1;
		if (v->madv) {
			e->has_madv = true;
			e->madv = v->madv;
		}
		e->has_sealed = e->sealed = v->sealed;
		e->has_lock_on_fault = e->lock_on_fault = v->lock_on_fault;
		e->has_pkey = v->pkey != 0;
		e->pkey = v->pkey;
		e->policy = v->policy;
		r = vma_dump_name(ctx, v, e);
		if (r < 0)
			return r;
		if (vma_has_file(v)) {
			r = vma_dump_file(ctx, p, v, e);
			if (r < 0)
				return r;
		}
		p->mm->vmas[p->mm->n_vmas++] = e;
	}
	return 0;
}
