/*
 * Rules as nft(8) lists them → lines for the manifest, each table under a name of our own: so the new boot's services
 * make theirs as at any boot, and `crkexec finish` knows what to take away afterwards. All other names are
 * the table's own and stay.
 *
 * The traps: quotes of nft know no escape, and a comment between them may have lines that look like a table's; a
 * table with an owner ends with the process that made it, which in the new boot is an nft that loads and ends.
 */
#include "crkexec/packet_filter.h"

#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "crkexec/manifest_desc.h"
#include "util/io.h"

#define TABLE_WORD	"table "
#define FLAGS_WORD	"\tflags "	/* of a table; those of sets, chains and flowtables are one level deeper */

struct table {
	const char *family, *name;	/* in the line */
	int family_len, name_len;
};

/* Are we inside of quotes behind this line? Those in remarks (the name of a table's owner) do not count. */
static bool quoted_after(bool quoted, const char *line)
{
	for (; *line && (quoted || *line != '#'); line++)
		quoted ^= *line == '"';
	return quoted;
}

/* "table inet NAME {", perhaps with a remark behind. nft does not quote names of tables, nor take quoted ones. */
static bool parse_table(const char *line, struct table *ret)
{
	const char *family = line + strlen(TABLE_WORD), *name, *end;

	if (!str_starts(line, TABLE_WORD))
		return false;
	name = family + strcspn(family, " ");
	if (name == family || !*name)
		return false;
	name++;
	end = name + strcspn(name, " ");
	*ret = (struct table){ .family = family, .family_len = (int)(name - 1 - family),
			       .name = name, .name_len = (int)(end - name) };
	return ret->name_len && (!strcmp(end, " {") || str_starts(end, " { #"));
}

static bool is_ours(const struct table *t)
{
	return str_starts(t->name, PACKET_FILTER_PREFIX);
}

static int list_tables(char *const *lines, size_t n, bool only_ours, struct strv *ret)
{
	bool quoted = false;
	struct table t;
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		if (!quoted && parse_table(lines[i], &t) && (!only_ours || is_ours(&t)))
			r = strv_add_take(ret, str_fmt("%.*s %.*s", t.family_len, t.family, t.name_len, t.name));
		quoted = quoted_after(quoted, lines[i]);
	}
	return r;
}

int packet_filter_ours(char *const *lines, size_t n, struct strv *ret)
{
	return list_tables(lines, n, true, ret);
}

/*
 * An upgrade before has brought it, and nothing has deleted it yet. Where the boot has set up the table itself, that
 * one counts; else ours is all there is of it, and goes on under its name.
 */
static int is_left_over(const struct table *t, const struct strv *tables)
{
	size_t skip = strlen(PACKET_FILTER_PREFIX);
	_cleanup_free_ char *base = NULL;

	if (!is_ours(t))
		return 0;
	base = str_fmt("%.*s %.*s", t->family_len, t->family, t->name_len - (int)skip, t->name + skip);
	return base ? strv_has(tables, base) : -ENOMEM;
}

static int add_table(struct strv *lines, const struct table *t)
{
	const char *prefix = is_ours(t) ? "" : PACKET_FILTER_PREFIX;

	if (strlen(prefix) + (size_t)t->name_len >= NFT_NAME_MAXLEN)
		return -E2BIG;
	return strv_add_take(lines, str_fmt(TABLE_WORD "%.*s %s%.*s {", t->family_len, t->family, prefix,
					    t->name_len, t->name));
}

/* "dormant,owner,persist", without what ties a table to a process. */
static int add_flags(struct strv *lines, const char *flags)
{
	_cleanup_free_ char *words = strdup(flags), *kept = NULL;
	char *word, *rest;

	for (word = words ? strtok_r(words, ", ", &rest) : NULL; word; word = strtok_r(NULL, ", ", &rest)) {
		char *more;

		if (!strcmp(word, "owner") || !strcmp(word, "persist"))
			continue;
		more = str_fmt("%s%s%s", kept ? kept : "", kept ? "," : "", word);
		free(kept);
		kept = more;
		if (!kept)
			return -ENOMEM;
	}
	if (!words)
		return -ENOMEM;
	return kept ? strv_add_take(lines, str_fmt(" flags %s", kept)) : 0;
}

static int add_line(struct strv *lines, char *line)
{
	for (char *c = line; (c = strchr(c, '\t')); )
		*c = ' ';
	return strlen(line) >= TEXT_MAX ? -E2BIG : strv_add(lines, line);
}

static int add_all(const struct strv *listed, const struct strv *tables, struct strv *lines)
{
	bool quoted = false, left_over = false;
	int r = 0;

	for (size_t i = 0; i < listed->n && r >= 0; i++) {
		char *line = listed->v[i];
		bool inside = quoted;
		struct table t;

		quoted = quoted_after(quoted, line);
		if (!inside && str_starts(line, TABLE_WORD)) {
			/* Under its own name it would meet the boot's. */
			r = parse_table(line, &t) ? is_left_over(&t, tables) : -EBADMSG;
			left_over = r > 0;
			if (r == 0)
				r = add_table(lines, &t);
		} else if (left_over) {
			left_over = inside || strcmp(line, "}") != 0;
		} else if (!inside && str_starts(line, FLAGS_WORD)) {
			r = add_flags(lines, line + strlen(FLAGS_WORD));
		} else {
			r = add_line(lines, line);
		}
	}
	return r < 0 ? r : 0;
}

int packet_filter_rename(char *rules, struct strv *lines)
{
	_cleanup_strv_ struct strv listed = { 0 }, tables = { 0 };
	char *line, *rest;
	int r = 0;

	for (line = strtok_r(rules, "\n", &rest); line && r == 0; line = strtok_r(NULL, "\n", &rest))
		r = listed.n < LIST_MAX ? strv_add(&listed, line) : -E2BIG;
	if (r == 0)
		r = list_tables(listed.v, listed.n, false, &tables);
	return r < 0 ? r : add_all(&listed, &tables, lines);
}
