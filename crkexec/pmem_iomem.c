#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "crkexec/pmem_iomem.h"
#include "util/io.h"
#include "util/log.h"

#define IOMEM_MAX_BYTES	(8u << 20)

/* "  00100000-7ffdffff : System RAM": two blanks for each level. */
static int parse_line(const char *line, size_t bytes, struct iomem_entry *e)
{
	unsigned int blanks = 0;
	uint64_t end;
	int at = 0;

	while (blanks < bytes && line[blanks] == ' ')
		blanks++;
	if (sscanf(line + blanks, "%" SCNx64 "-%" SCNx64 " : %n", &e->addr, &end, &at) != 2 ||
	    !at || blanks + (size_t)at > bytes || end < e->addr)
		return -EBADMSG;
	/* Inclusive; addr + bytes must not overflow. */
	e->bytes = MIN(end, UINT64_MAX - 1) - e->addr + 1;
	e->depth = blanks / 2;
	snprintf(e->name, sizeof(e->name), "%.*s", (int)(bytes - blanks - (size_t)at),
		 line + blanks + at);
	return 0;
}

int iomem_parse(const char *text, struct iomem *ret)
{
	struct iomem m = { 0 };
	bool hidden = true;
	int r = 0;

	while (*text && r == 0) {
		size_t bytes = strcspn(text, "\n");
		struct iomem_entry *v = reallocarray(m.v, m.n + 1, sizeof(*v));

		if (!v) {
			r = -ENOMEM;
			break;
		}
		m.v = v;
		r = parse_line(text, bytes, &m.v[m.n]);
		hidden = hidden && r == 0 && m.v[m.n].bytes == 1;
		m.n++;
		text += bytes + (text[bytes] == '\n');
	}
	if (r == 0 && hidden)
		r = m.n ? -EACCES : -EBADMSG;
	if (r < 0) {
		iomem_done(&m);
		return r;
	}
	*ret = m;
	return 0;
}

int iomem_read(struct iomem *ret)
{
	_cleanup_free_ char *text = NULL;
	int r = read_file_at(AT_FDCWD, "/proc/iomem", IOMEM_MAX_BYTES, &text, NULL);

	if (r == 0)
		r = iomem_parse(text, ret);
	return r < 0 ? log_err(r, "cannot read /proc/iomem") : 0;
}

void iomem_done(struct iomem *m)
{
	free(m->v);
	*m = (struct iomem){ 0 };
}

static uint64_t common(const struct iomem_entry *e, const struct manifest_range *r)
{
	uint64_t from = MAX(e->addr, r->addr), to = MIN(e->addr + e->bytes, r->addr + r->bytes);

	return from < to ? to - from : 0;
}

uint64_t iomem_overlap(const struct iomem *m, const struct manifest_range *range,
		       const char *name)
{
	uint64_t total = 0;

	for (size_t i = 0; i < m->n; i++)
		if (!strcmp(m->v[i].name, name))
			total += common(&m->v[i], range);
	return total;
}

const struct iomem_entry *iomem_find(const struct iomem *m, uint64_t addr)
{
	for (size_t i = 0; i < m->n; i++)
		if (!m->v[i].depth && addr >= m->v[i].addr && addr - m->v[i].addr < m->v[i].bytes)
			return &m->v[i];
	return NULL;
}

const struct iomem_entry *iomem_claim(const struct iomem *m, const struct manifest_range *range)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].depth && strcmp(m->v[i].name, IOMEM_SOFT) != 0 && common(&m->v[i], range))
			return &m->v[i];
	return NULL;
}
