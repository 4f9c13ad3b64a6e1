/*
 * The vDSO: code the kernel maps into every process, different with each kernel.
 *
 * Programs keep its entry points as function pointers, so after a kernel change the saved
 * image stays where it was and each of its entry points is overwritten with a jump to the new
 * kernel's function of the same name. Entry points the new kernel lacks get a plain system
 * call. When both kernels have equal code, the kernel's own mapping simply goes to the old place.
 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

#include "task/regs.h"
#include "task/vma.h"

#define VDSO_BYTES_MAX	(64u << 10)
#define VDSO_STEPS_MAX	100000u

/* Entry points and, should the new kernel lack one, the system call that does the same. */
static const struct {
	const char *name;
	int nr;
} entries[] = {
	{ "__vdso_clock_gettime", SYS_clock_gettime },
	{ "__vdso_gettimeofday", SYS_gettimeofday },
	{ "__vdso_clock_getres", SYS_clock_getres },
	{ "__vdso_time", SYS_time },
	{ "__vdso_getcpu", SYS_getcpu },
	{ "__vdso_getrandom", SYS_getrandom },
	{ "__vdso_sgx_enter_enclave", -1 },
};
#define N_ENTRIES ARRAY_SIZE(entries)

struct vdso_image {
	const uint8_t *bytes;
	size_t n_bytes;
	uint32_t entry[N_ENTRIES];	/* offset, 0: not there */
	uint64_t vvar_bytes;
};

size_t vdso_bytes(const struct vdso_image *v)
{
	return v->n_bytes;
}

uint64_t vdso_own_vvar_bytes(const struct vdso_image *v)
{
	return v->vvar_bytes;
}

size_t vdso_entry_offset(const struct vdso_image *v, const char *name)
{
	for (size_t i = 0; i < N_ENTRIES; i++)
		if (!strcmp(entries[i].name, name))
			return v->entry[i];
	return 0;
}

int64_t vdso_syscall_offset(const struct vdso_image *v)
{
	return code_find_syscall(v->bytes, v->n_bytes);
}

struct dynamic {
	uint64_t symtab, strtab, strsz, syment;
};

static int vdso_find_dynamic(const uint8_t *elf, size_t bytes, struct dynamic *d)
{
	const Elf64_Ehdr *eh = (const void *)elf;

	if (bytes < sizeof(*eh) || memcmp(eh->e_ident, ELFMAG, SELFMAG) ||
	    eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_phentsize != sizeof(Elf64_Phdr) ||
	    eh->e_phoff > bytes || eh->e_phnum > (bytes - eh->e_phoff) / sizeof(Elf64_Phdr))
		return -EBADMSG;
	for (unsigned int i = 0; i < eh->e_phnum; i++) {
		const Elf64_Dyn *dyn;
		Elf64_Phdr ph;

		memcpy(&ph, elf + eh->e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type != PT_DYNAMIC)
			continue;
		if (ph.p_offset > bytes || ph.p_filesz > bytes - ph.p_offset || ph.p_offset & 7)
			return -EBADMSG;
		dyn = (const void *)(elf + ph.p_offset);
		for (size_t k = 0; k < ph.p_filesz / sizeof(*dyn) && dyn[k].d_tag; k++) {
			if (dyn[k].d_tag == DT_SYMTAB)
				d->symtab = dyn[k].d_un.d_ptr;
			if (dyn[k].d_tag == DT_STRTAB)
				d->strtab = dyn[k].d_un.d_ptr;
			if (dyn[k].d_tag == DT_STRSZ)
				d->strsz = dyn[k].d_un.d_val;
		}
	}
	/* Linked at 0: addresses are offsets. The symbol table ends where the strings begin. */
	if (!d->symtab || d->strtab <= d->symtab || d->strtab >= bytes || d->symtab & 7 ||
	    d->strsz > bytes - d->strtab)
		return -EBADMSG;
	return 0;
}

int vdso_parse(struct arena *a, const uint8_t *elf, size_t bytes, struct vdso_image **ret)
{
	struct vdso_image *v = ARENA_NEW(a, struct vdso_image);
	struct dynamic d = { 0 };
	int r;

	if (!v)
		return -ENOMEM;
	if (bytes > VDSO_BYTES_MAX)
		return -EFBIG;
	r = vdso_find_dynamic(elf, bytes, &d);
	if (r < 0)
		return r;
	v->bytes = elf;
	v->n_bytes = bytes;
	for (uint64_t at = d.symtab; at + sizeof(Elf64_Sym) <= d.strtab; at += sizeof(Elf64_Sym)) {
		const Elf64_Sym *sym = (const void *)(elf + at);
		const char *name = (const char *)elf + d.strtab + sym->st_name;

		if (sym->st_name >= d.strsz || ELF64_ST_TYPE(sym->st_info) != STT_FUNC)
			continue;
		for (size_t i = 0; i < N_ENTRIES; i++)
			if (strnlen(name, d.strsz - sym->st_name) == strlen(entries[i].name) &&
			    !memcmp(name, entries[i].name, strlen(entries[i].name)) &&
			    sym->st_value && sym->st_value < bytes)
				v->entry[i] = (uint32_t)sym->st_value;
	}
	*ret = v;
	return 0;
}

int vdso_read_own(struct arena *a, struct vdso_image **ret)
{
	_cleanup_free_ char *text = NULL;
	struct vma *vmas;
	size_t n, i;
	int r;

	/* maps has smaps' header lines. */
	r = read_file_at(-1, "/proc/self/maps", READ_FILE_MAX, &text, NULL);
	if (r < 0)
		return r;
	r = vma_parse_smaps(a, text, &vmas, &n);
	if (r < 0)
		return r;
	for (i = 0; i < n && strcmp(vmas[i].path, "[vdso]"); i++)
		;
	if (i == n)
		return log_fail(-ENOENT, "this kernel gave the engine no vDSO");
	r = vdso_parse(a, (const void *)vmas[i].start, vmas[i].end - vmas[i].start, ret);
	if (r < 0)
		return r;
	for (size_t k = i; k-- > 0 && vmas[k].end == vmas[k + 1].start &&
	     str_starts(vmas[k].path, "[vvar");)
		(*ret)->vvar_bytes += vmas[k].end - vmas[k].start;
	return 0;
}

bool vdso_equal(const struct vdso_image *x, const struct vdso_image *y)
{
	return x->n_bytes == y->n_bytes && !memcmp(x->bytes, y->bytes, x->n_bytes);
}

/* Room of an entry point: up to the next one or the end. */
static size_t entry_room(const struct vdso_image *v, size_t i)
{
	size_t room = v->n_bytes - v->entry[i];

	for (size_t k = 0; k < N_ENTRIES; k++)
		if (v->entry[k] > v->entry[i])
			room = MIN(room, (size_t)(v->entry[k] - v->entry[i]));
	return room;
}

static size_t make_jump(uint8_t code[16], uint64_t from, uint64_t to)
{
	int64_t rel = (int64_t)(to - (from + 5));

	if (rel == (int32_t)rel) {
		code[0] = 0xe9;				/* jmp rel32 */
		memcpy(code + 1, &(int32_t){ (int32_t)rel }, 4);
		return 5;
	}
	code[0] = 0x49;					/* movabs $to, %r11 */
	code[1] = 0xbb;
	memcpy(code + 2, &to, 8);
	memcpy(code + 10, "\x41\xff\xe3", 3);		/* jmp *%r11 */
	return 13;
}

static size_t make_syscall(uint8_t code[16], int nr)
{
	static const uint8_t enosys[] = { 0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff, 0xc3 };

	if (nr < 0) {
		memcpy(code, enosys, sizeof(enosys));	/* mov $-ENOSYS, %rax; ret */
		return sizeof(enosys);
	}
	code[0] = 0xb8;					/* mov $nr, %eax */
	memcpy(code + 1, &nr, 4);
	memcpy(code + 5, "\x49\x89\xca", 3);		/* mov %rcx, %r10: fourth argument */
	memcpy(code + 8, "\x0f\x05\xc3", 3);		/* syscall; ret */
	return 11;
}

int vdso_patch(uint8_t *old_copy, const struct vdso_image *old, uint64_t old_addr,
	       const struct vdso_image *new_image, uint64_t new_addr)
{
	for (size_t i = 0; i < N_ENTRIES; i++) {
		uint8_t code[16];
		size_t n;

		if (!old->entry[i])
			continue;
		if (new_image->entry[i])
			n = make_jump(code, old_addr + old->entry[i],
				      new_addr + new_image->entry[i]);
		else
			n = make_syscall(code, entries[i].nr);
		if (n > entry_room(old, i))
			return log_fail(-ENOSPC, "the saved vDSO's %s has no room for a jump",
					entries[i].name);
		memcpy(old_copy + old->entry[i], code, n);
	}
	return 0;
}

int vdso_find(int proc_fd, uint64_t *ret_start, uint64_t *ret_end)
{
	_cleanup_free_ char *text = NULL;
	char *line;
	int r = read_file_at(proc_fd, "maps", READ_FILE_MAX, &text, NULL);

	if (r < 0)
		return r;
	line = strstr(text, " [vdso]\n");
	if (!line)
		return -ENOENT;
	while (line > text && line[-1] != '\n')
		line--;
	return sscanf(line, "%lx-%lx", ret_start, ret_end) == 2 ? 0 : -EBADMSG;
}

int vdso_step_out(struct dump_thread *th, uint64_t start, uint64_t end)
{
	uint64_t mask = th->task.sigmask;
	unsigned int n;
	int r = 0;

	if (th->task.regs.rip < start || th->task.regs.rip >= end)
		return 0;
	r = task_block_signals(&th->task);
	for (n = 0; r >= 0 && th->task.regs.rip >= start && th->task.regs.rip < end; n++) {
		if (n == VDSO_STEPS_MAX)
			return log_fail(-ELOOP, "task %d does not leave the vDSO", th->task.tid);
		r = task_step(&th->task);
		if (r >= 0)
			r = task_get_regs(&th->task);
	}
	th->task.sigmask = mask;
	log_debug("task %d: stepped out of the vDSO in %u steps", th->task.tid, n);
	return r < 0 ? r : task_put_regs(&th->task);
}
