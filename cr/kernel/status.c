#include <limits.h>
#include <string.h>

#include "kernel/status.h"
#include "util/io.h"

/* The next blank-separated word of [*s, end), or false. */
static bool next_word(const char **s, const char *end, char *word, size_t room)
{
	const char *p = *s;
	size_t n = 0;

	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	while (p < end && *p != ' ' && *p != '\t') {
		if (n + 1 >= room)
			return false;
		word[n++] = *p++;
	}
	word[n] = '\0';
	*s = p;
	return n > 0;
}

/* After the last next_word(): false when it stopped at a word that is too long. */
static bool only_blanks(const char *s, const char *end)
{
	while (s < end && (*s == ' ' || *s == '\t'))
		s++;
	return s == end;
}

static int parse_one(const char *s, const char *end, int base, uint64_t max, uint64_t *ret)
{
	char word[32];
	uint64_t v;
	int r;

	if (!next_word(&s, end, word, sizeof(word)))
		return -EBADMSG;
	r = parse_u64(word, base, &v);
	if (r < 0 || v > max)
		return -EBADMSG;
	*ret = v;
	return 0;
}

static int parse_four(const char *s, const char *end, uint32_t ret[4])
{
	char word[32];

	for (int i = 0; i < 4; i++)
		if (!next_word(&s, end, word, sizeof(word)) || parse_u32(word, 10, &ret[i]) < 0)
			return -EBADMSG;
	return 0;
}

static int parse_groups(const char *s, const char *end, struct proc_status *st)
{
	char word[32];

	/* A second such line would leak the first; the kernel prints one. */
	if (st->groups)
		return -EBADMSG;
	/* At most one group for two characters. */
	st->groups = calloc((size_t)(end - s) / 2 + 1, sizeof(*st->groups));
	if (!st->groups)
		return -ENOMEM;
	while (next_word(&s, end, word, sizeof(word)))
		if (parse_u32(word, 10, &st->groups[st->n_groups++]) < 0)
			return -EBADMSG;
	return only_blanks(s, end) ? 0 : -EBADMSG;
}

static int parse_ns_ids(const char *s, const char *end, struct status_ids *ids)
{
	char word[32];

	ids->n = 0;
	while (next_word(&s, end, word, sizeof(word))) {
		uint32_t v;

		if (ids->n == STATUS_NS_MAX || parse_u32(word, 10, &v) < 0 || v > INT_MAX)
			return -EBADMSG;
		ids->id[ids->n++] = v;
	}
	return only_blanks(s, end) ? 0 : -EBADMSG;
}

enum status_type {
	ST_CHAR, ST_UMASK, ST_PID, ST_U32, ST_U64, ST_HEX64, ST_FOUR, ST_GROUPS, ST_NS_IDS,
};

struct status_field {
	const char *key;
	enum status_type type;
	size_t off;
	bool required;
};

#define F(k, t, member, req)	{ k, t, offsetof(struct proc_status, member), req }
static const struct status_field status_fields[] = {
	F("State", ST_CHAR, state, true),
	F("Umask", ST_UMASK, umask, false),
	F("Tgid", ST_PID, tgid, true),
	F("Pid", ST_PID, pid, true),
	F("PPid", ST_PID, ppid, true),
	F("TracerPid", ST_PID, tracer_pid, false),
	F("Uid", ST_FOUR, uid, true),
	F("Gid", ST_FOUR, gid, true),
	F("Groups", ST_GROUPS, groups, true),
	F("NSpid", ST_NS_IDS, ns_pid, false),
	F("NSpgid", ST_NS_IDS, ns_pgid, false),
	F("NSsid", ST_NS_IDS, ns_sid, false),
	F("VmLck", ST_U64, locked_kib, false),
	F("Threads", ST_U32, threads, false),
	F("SigPnd", ST_HEX64, sig_pnd, true),
	F("ShdPnd", ST_HEX64, shd_pnd, true),
	F("SigBlk", ST_HEX64, sig_blk, true),
	F("SigIgn", ST_HEX64, sig_ign, true),
	F("SigCgt", ST_HEX64, sig_cgt, true),
	F("CapInh", ST_HEX64, cap_inh, true),
	F("CapPrm", ST_HEX64, cap_prm, true),
	F("CapEff", ST_HEX64, cap_eff, true),
	F("CapBnd", ST_HEX64, cap_bnd, true),
	F("CapAmb", ST_HEX64, cap_amb, false),
	F("NoNewPrivs", ST_U32, no_new_privs, false),
	F("Seccomp", ST_U32, seccomp, false),
};
#undef F

static int parse_field(const struct status_field *f, const char *s, const char *end,
		       struct proc_status *st)
{
	void *to = (char *)st + f->off;
	char word[8];
	uint64_t v;
	int r;

	switch (f->type) {
	case ST_CHAR:	/* "S (sleeping)" */
		if (!next_word(&s, end, word, sizeof(word)) || word[1])
			return -EBADMSG;
		*(char *)to = word[0];
		return 0;
	case ST_UMASK:
		r = parse_one(s, end, 8, 0777, &v);
		st->has_umask = r == 0;
		break;
	case ST_PID:
		r = parse_one(s, end, 10, INT_MAX, &v);
		break;
	case ST_U32:
		r = parse_one(s, end, 10, UINT32_MAX, &v);
		break;
	case ST_U64:
		return parse_one(s, end, 10, UINT64_MAX, to);
	case ST_HEX64:
		return parse_one(s, end, 16, UINT64_MAX, to);
	case ST_FOUR:
		return parse_four(s, end, to);
	case ST_GROUPS:
		return parse_groups(s, end, st);
	case ST_NS_IDS:
		return parse_ns_ids(s, end, to);
	default:
		return -EBADMSG;
	}
	if (r < 0)
		return r;
	*(uint32_t *)to = (uint32_t)v;
	return 0;
}

static int parse_line(const char *line, const char *end, struct proc_status *st, uint32_t *seen)
{
	const char *colon = memchr(line, ':', (size_t)(end - line));
	int r;

	if (!colon)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(status_fields); i++) {
		const struct status_field *f = &status_fields[i];
		size_t n = strlen(f->key);

		if ((size_t)(colon - line) != n || memcmp(line, f->key, n))
			continue;
		r = parse_field(f, colon + 1, end, st);
		if (r < 0)
			return r;
		*seen |= 1u << i;
		return 0;
	}
	return 0;
}

int proc_status_parse(const char *text, struct proc_status *ret)
{
	_cleanup_proc_status_ struct proc_status st = { 0 };
	uint32_t seen = 0;
	int r;

	/* The kernel escapes newlines in the name, so no line can be forged. */
	while (*text) {
		const char *end = text + strcspn(text, "\n");

		r = parse_line(text, end, &st, &seen);
		if (r < 0)
			return r;
		text = *end ? end + 1 : end;
	}
	for (size_t i = 0; i < ARRAY_SIZE(status_fields); i++)
		if (status_fields[i].required && !(seen & 1u << i))
			return -ENODATA;
	*ret = st;
	st.groups = NULL;
	return 0;
}

int proc_status_read(int proc_fd, pid_t tid, struct proc_status *ret)
{
	_cleanup_free_ char *text = NULL;
	char path[48];
	int r;

	snprintf(path, sizeof(path), "task/%d/status", tid);
	/* 65,536 groups of ten digits are 700 KB. */
	r = read_file_at(proc_fd, path, 1u << 20, &text, NULL);
	if (r < 0)
		return r;
	return proc_status_parse(text, ret);
}

void proc_status_done(struct proc_status *st)
{
	free(st->groups);
	st->groups = NULL;
	st->n_groups = 0;
}
