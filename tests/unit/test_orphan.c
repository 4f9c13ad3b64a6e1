/* cr/remote: room for the dump's stub in a vDSO, whose bytes are the task's own to forge. */
#include <elf.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

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

static unsigned int stubs;

static int64_t room(size_t bytes)
{
	return orphan_find_room((const uint8_t *)&elf, bytes, &stubs);
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
		ASSERT(orphan_find_room(own, 4096, &stubs) > 0 || orphan_find_room(own, 8192, &stubs) > 0);
}

TEST("there may be room for fewer stubs than lanes")
{
	const size_t one = (size_t)(orphan_end - orphan_begin);

	good();
	ASSERT_EQ(room(BYTES), 3008);
	ASSERT_EQ(stubs, REMOTE_STUBS);
	ASSERT_EQ(room(3008 + one), 3008);
	ASSERT_EQ(stubs, 1);
	ASSERT_EQ(room(3008 + REMOTE_STUBS * one - 1), 3008);
	ASSERT_EQ(stubs, REMOTE_STUBS - 1);
	ASSERT_EQ(room(3008 + one - 1), -ENOSPC);
}

TEST("lanes share a zone without overlapping")
{
	const size_t one = (size_t)(orphan_end - orphan_begin);
	struct remote r = { .zone = 0x10000000, .zone_bytes = ZONE_BYTES, .stub = 0x20000000, .n_stubs = REMOTE_STUBS, .keeper = 1 };
	/* The first stub is the keeper's. */
	struct remote lane, before = { .stub = r.stub };

	r.mirror = calloc(1, ZONE_BYTES);
	ASSERT(r.mirror);
	before.zone = r.zone;
	before.mirror = r.mirror;
	for (unsigned int i = 0; i < REMOTE_LANES; i++) {
		ASSERT(remote_lane(&r, i, &lane));
		ASSERT_EQ(lane.stub, before.stub + one);
		ASSERT_EQ(lane.zone, before.zone + before.zone_bytes);
		ASSERT(lane.mirror == before.mirror + before.zone_bytes);
		before = lane;
	}
	ASSERT_EQ(lane.zone + lane.zone_bytes, r.zone + ZONE_BYTES);
	ASSERT(!remote_lane(&r, REMOTE_LANES, &lane));
	r.n_stubs = 2;
	ASSERT(remote_lane(&r, 0, &lane));
	ASSERT(!remote_lane(&r, 1, &lane));
	r.n_stubs = 1;
	r.keeper = 0;
	ASSERT(remote_lane(&r, 0, &lane));
	ASSERT_EQ(lane.stub, r.stub);
	ASSERT(!remote_lane(&r, 1, &lane));
	free(r.mirror);
}

TEST("a batch in a lane ends where the next one begins")
{
	struct remote r = { .zone = 0x10000000, .zone_bytes = ZONE_BYTES, .n_stubs = REMOTE_STUBS, .keeper = 1 }, lane;
	struct task t = { .remote = &lane };
	static struct batch b;
	uint64_t t_data;

	r.mirror = calloc(1, ZONE_BYTES);
	ASSERT(r.mirror && remote_lane(&r, 0, &lane));
	batch_begin(&b, &t);
	while (batch_room_calls(&b))
		batch_call(&b, SYS_getpid);
	ASSERT_EQ(b.error, 0);
	t_data = batch_put(&b, NULL, batch_room_bytes(&b));
	/* Data lie behind the calls, and within. */
	ASSERT(t_data >= lane.zone + ZONE_CALLS_OFF + b.n_calls * sizeof(struct batch_call));
	ASSERT_EQ(t_data + b.data_bytes, lane.zone + lane.zone_bytes);
	ASSERT_EQ(b.error, 0);
	batch_put(&b, NULL, 1);
	ASSERT_EQ(b.error, -ENOBUFS);
	batch_begin(&b, &t);
	while (!b.error)
		batch_call(&b, SYS_getpid);
	ASSERT_EQ(b.error, -ENOBUFS);
	free(r.mirror);
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
