/* Runs of pages to be saved, and which of them a page of the pages file comes from. */
#include "image/pages.h"
#include "task/mem_runs.h"
#include "unit.h"

TEST("adjacent runs of one kind are one; a page is found whatever lies between")
{
	struct mem_runs m = { 0 };

	ASSERT_OK(mem_runs_add(&m, 0x1000, 0x2000, PE_PARENT));
	ASSERT_OK(mem_runs_add(&m, 0x2000, 0x4000, PE_PRESENT));
	ASSERT_OK(mem_runs_add(&m, 0x4000, 0x5000, PE_PRESENT));
	ASSERT_OK(mem_runs_add(&m, 0x5000, 0x9000, PE_PARENT));
	ASSERT_OK(mem_runs_add(&m, 0x9000, 0xa000, PE_PRESENT));
	ASSERT_OK(mem_runs_add(&m, 0xb000, 0xc000, PE_PRESENT));
	ASSERT_OK(mem_runs_add(&m, 0xc000, 0xd000, PE_PARENT));
	ASSERT_EQ(m.n, 6);
	ASSERT_EQ(m.n_present, 5);
	ASSERT_EQ(m.n_parent, 6);
	ASSERT_EQ(mem_runs_find(&m, 0)->start, 0x2000);
	ASSERT_EQ(mem_runs_find(&m, 2)->start, 0x2000);
	ASSERT_EQ(mem_runs_find(&m, 3)->start, 0x9000);
	ASSERT_EQ(mem_runs_find(&m, 4)->start, 0xb000);
	mem_runs_done(&m);
	ASSERT_EQ(m.n, 0);
}
