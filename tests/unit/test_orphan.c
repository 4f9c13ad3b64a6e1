/* cr/remote: room for the dump's stub in a vDSO, whose bytes are the task's own to forge. */
#include <elf.h>
#include <string.h>
#include <sys/auxv.h>

#include "remote/orphan.h"
#include "tests/unit/unit.h"

#define BYTES	8192u

static struct {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[2];
	uint8_t rest[BYTES - sizeof(Elf64_Ehdr) - 2 * sizeof(Elf64_Phdr)];
} elf;

static void good(void)
{
	memset(&elf, 0, sizeof(elf));
	memcpy(elf.eh.e_ident, ELFMAG, SELFMAG);
	elf.eh.e_ident[EI_CLASS] = ELFCLASS64;
	elf.eh.e_phentsize = sizeof(Elf64_Phdr);
	elf.eh.e_phoff = sizeof(Elf64_Ehdr);
	elf.eh.e_phnum = 2;
	elf.ph[0].p_filesz = elf.ph[0].p_memsz = 1000;
	elf.ph[1].p_offset = elf.ph[1].p_vaddr = 1000;
	elf.ph[1].p_filesz = elf.ph[1].p_memsz = 2001;
}

static int64_t room(size_t bytes)
{
	return orphan_find_room((const uint8_t *)&elf, bytes);
}

TEST("the stub's room begins behind all that a vDSO loads")
{
	const uint8_t *own = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);

	good();
	ASSERT_EQ(room(BYTES), 3008);		/* 3001, aligned */
	elf.ph[1].p_memsz = 4001;		/* no bytes in the file, but memory */
	ASSERT_EQ(room(BYTES), 5008);
	elf.eh.e_phnum = 0;
	ASSERT(room(BYTES) >= (int64_t)sizeof(Elf64_Ehdr));
	if (own)
		ASSERT(orphan_find_room(own, 4096) > 0 || orphan_find_room(own, 8192) > 0);
}

TEST("a vDSO that is full, cut short or forged gives no room, and nothing outside it is read")
{
	good();
	for (size_t bytes = 0; bytes < sizeof(Elf64_Ehdr); bytes++)
		ASSERT_EQ(room(bytes), -EBADMSG);
	ASSERT_EQ(room(3000), -EBADMSG);	/* its second segment lies outside */
	ASSERT_EQ(room(3008), -ENOSPC);
	elf.eh.e_ident[1] = 'X';
	ASSERT_EQ(room(BYTES), -EBADMSG);
	good();
	elf.eh.e_ident[EI_CLASS] = ELFCLASS32;
	ASSERT_EQ(room(BYTES), -EBADMSG);
	good();
	elf.eh.e_phentsize--;
	ASSERT_EQ(room(BYTES), -EBADMSG);
	good();
	elf.eh.e_phoff = BYTES - sizeof(Elf64_Phdr);
	ASSERT_EQ(room(BYTES), -EBADMSG);
	elf.eh.e_phoff = UINT64_MAX;
	ASSERT_EQ(room(BYTES), -EBADMSG);
	good();
	elf.eh.e_phnum = UINT16_MAX;
	ASSERT_EQ(room(BYTES), -EBADMSG);
	good();
	elf.ph[1].p_filesz = UINT64_MAX;
	ASSERT_EQ(room(BYTES), -EBADMSG);
	good();
	elf.ph[1].p_vaddr = UINT64_MAX - 8;
	ASSERT_EQ(room(BYTES), -EBADMSG);
}
