/*
 * The GNU build id of an ELF file: what tells one version of a program or library from another
 * of the same size. elf(5); note type NT_GNU_BUILD_ID, owner "GNU".
 *
 * The file may be anything: every offset is checked, and no more than a few pages are read.
 */
#include <elf.h>
#include <string.h>

#include "kind/kinds.h"

#define PHDRS_MAX	64u
#define NOTES_MAX	4096u

struct segment {
	uint32_t type;
	uint64_t off, bytes;
};

static int note_find(const uint8_t *p, size_t n, uint8_t *ret)
{
	while (n >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr h;
		size_t name, desc;

		memcpy(&h, p, sizeof(h));
		name = ROUND_UP((size_t)h.n_namesz, 4);
		desc = ROUND_UP((size_t)h.n_descsz, 4);
		p += sizeof(h);
		n -= sizeof(h);
		if (name > n || desc > n - name)
			return 0;
		if (h.n_type == NT_GNU_BUILD_ID && h.n_namesz == 4 && !memcmp(p, "GNU", 4) &&
		    h.n_descsz && h.n_descsz <= BUILD_ID_MAX) {
			memcpy(ret, p + name, h.n_descsz);
			return (int)h.n_descsz;
		}
		p += name + desc;
		n -= name + desc;
	}
	return 0;
}

static int segments_read64(int fd, const uint8_t *head, struct segment *segs)
{
	Elf64_Phdr ph[PHDRS_MAX];
	Elf64_Ehdr eh;

	memcpy(&eh, head, sizeof(eh));
	if (eh.e_phentsize != sizeof(*ph) || eh.e_phnum > PHDRS_MAX || eh.e_phoff > INT64_MAX)
		return 0;
	if (pread_full(fd, ph, eh.e_phnum * sizeof(*ph), (off_t)eh.e_phoff) < 0)
		return 0;
	for (int i = 0; i < eh.e_phnum; i++)
		segs[i] = (struct segment){ ph[i].p_type, ph[i].p_offset, ph[i].p_filesz };
	return eh.e_phnum;
}

static int segments_read32(int fd, const uint8_t *head, struct segment *segs)
{
	Elf32_Phdr ph[PHDRS_MAX];
	Elf32_Ehdr eh;

	memcpy(&eh, head, sizeof(eh));
	if (eh.e_phentsize != sizeof(*ph) || eh.e_phnum > PHDRS_MAX)
		return 0;
	if (pread_full(fd, ph, eh.e_phnum * sizeof(*ph), (off_t)eh.e_phoff) < 0)
		return 0;
	for (int i = 0; i < eh.e_phnum; i++)
		segs[i] = (struct segment){ ph[i].p_type, ph[i].p_offset, ph[i].p_filesz };
	return eh.e_phnum;
}

int build_id_read(int fd, uint8_t ret[BUILD_ID_MAX])
{
	uint8_t head[sizeof(Elf64_Ehdr)], notes[NOTES_MAX];
	struct segment segs[PHDRS_MAX];
	int n, r;

	r = pread_full(fd, head, sizeof(head), 0);
	if (r == -ENODATA)
		return 0;
	if (r < 0)
		return r;
	if (memcmp(head, ELFMAG, SELFMAG))
		return 0;
	n = head[EI_CLASS] == ELFCLASS64 ? segments_read64(fd, head, segs) :
	    head[EI_CLASS] == ELFCLASS32 ? segments_read32(fd, head, segs) : 0;
	for (int i = 0; i < n; i++) {
		size_t bytes = (size_t)MIN(segs[i].bytes, (uint64_t)NOTES_MAX);

		if (segs[i].type != PT_NOTE || segs[i].off > INT64_MAX)
			continue;
		if (pread_full(fd, notes, bytes, (off_t)segs[i].off) < 0)
			continue;
		r = note_find(notes, bytes, ret);
		if (r)
			return r;
	}
	return 0;
}
