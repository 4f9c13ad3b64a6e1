/* What an operator is told at the end. */
#include "crkexec/report.h"
#include "unit.h"

static void end_of_failure(bool verbose, char *text, size_t bytes)
{
	struct options opt = { .verbose = verbose };
	struct upgrade u = { .opt = &opt, .m = manifest_new(), .result = -EIO };
	int p[2];

	ASSERT_OK(pipe(p));
	u.m->id = strdup("0123456789abcdef");
	progress_init(&u.progress, p[1]);
	report_end(&u, -EIO);
	memset(text, 0, bytes);
	ASSERT_OK(read(p[0], text, bytes - 1));
	manifest_free(u.m);
	close(p[0]);
	close(p[1]);
}

TEST("where to read what was not undone: in the log, above where there is none")
{
	char text[1000];

	end_of_failure(false, text, sizeof(text));
	ASSERT_CONTAINS(text, "could be undone; see /var/log/crkexec/0123456789abcdef.log\n");
	end_of_failure(true, text, sizeof(text));
	ASSERT_CONTAINS(text, "could be undone; see above\n");
}

TEST("the report tells what was saved in the pause from what was saved before")
{
	struct manifest_tree tree = { .pre_dump_bytes = 3ull << 30 };
	struct manifest_unit unit = { .name = (char *)"a.service", .outcome = OUTCOME_ADOPTED,
				      .image_bytes = 5 << 20, .trees = &tree, .n_trees = 1 };
	struct manifest m = { .id = (char *)"1", .kernel_from = (char *)"a", .kernel_to = (char *)"b",
			      .units = &unit, .n_units = 1 };
	char text[1000] = "";
	FILE *out = fmemopen(text, sizeof(text), "w");

	report_manifest_text(&m, out);
	fflush(out);
	ASSERT_CONTAINS(text, ", 5.0 MiB and 3.0 GiB before the freeze\n");
	rewind(out);
	tree.pre_dump_bytes = 0;
	report_manifest_text(&m, out);
	fclose(out);
	ASSERT_CONTAINS(text, ", 5.0 MiB\n");
}
