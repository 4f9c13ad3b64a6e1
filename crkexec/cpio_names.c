#include <string.h>
#include <sys/types.h>

#include "crkexec/cpio_names.h"

static int hex8(const char *s, uint64_t *ret)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++) {
		int d = s[i] >= '0' && s[i] <= '9' ? s[i] - '0' :
			s[i] >= 'a' && s[i] <= 'f' ? s[i] - 'a' + 10 :
			s[i] >= 'A' && s[i] <= 'F' ? s[i] - 'A' + 10 : -1;

		if (d < 0)
			return -EBADMSG;
		v = v << 4 | (uint64_t)d;
	}
	*ret = v;
	return 0;
}

static int header_done(struct cpio_names *c)
{
	uint64_t name_bytes;

	if (memcmp(c->buf, "070701", 6) && memcmp(c->buf, "070702", 6))
		return -EBADMSG;
	if (hex8(c->buf + 6 + 6 * 8, &c->file_bytes) < 0 ||
	    hex8(c->buf + 6 + 11 * 8, &name_bytes) < 0)
		return -EBADMSG;
	if (name_bytes < 1 || name_bytes > CPIO_NAME_MAX)
		return -EBADMSG;
	c->name_bytes = (size_t)name_bytes;
	c->have = 0;
	c->state = CPIO_NAME;
	return 0;
}

static void name_done(struct cpio_names *c)
{
	c->buf[c->name_bytes] = '\0';
	c->have = 0;
	if (!strcmp(c->buf, "TRAILER!!!")) {
		c->state = CPIO_END;
		return;
	}
	c->fn(c->arg, c->buf);
	/* The name ends at a multiple of four, and so does the data. */
	c->skip = ROUND_UP(c->pos, 4u) - c->pos;
	c->skip += ROUND_UP(c->file_bytes, 4u);
	c->state = CPIO_SKIP;
}

static size_t take(struct cpio_names *c, const uint8_t *data, size_t n, size_t want)
{
	size_t take_bytes = MIN(n, want - c->have);

	memcpy(c->buf + c->have, data, take_bytes);
	c->have += take_bytes;
	return take_bytes;
}

ssize_t cpio_names_feed(struct cpio_names *c, const uint8_t *data, size_t n)
{
	size_t at = 0;
	int r;

	while (at < n && c->state != CPIO_END) {
		size_t step = 0;

		switch (c->state) {
		case CPIO_HEADER:
			if (!c->have && !data[at]) {
				at++;
				c->pos = 0;
				continue;
			}
			step = take(c, data + at, n - at, CPIO_HEADER_BYTES);
			break;
		case CPIO_NAME:
			step = take(c, data + at, n - at, c->name_bytes);
			break;
		case CPIO_SKIP:
			step = (size_t)MIN((uint64_t)(n - at), c->skip);
			c->skip -= step;
			break;
		case CPIO_END:
			break;
		}
		at += step;
		c->pos += step;
		if (c->state == CPIO_HEADER && c->have == CPIO_HEADER_BYTES) {
			r = header_done(c);
			if (r < 0)
				return r;
		} else if (c->state == CPIO_NAME && c->have == c->name_bytes) {
			name_done(c);
		}
		if (c->state == CPIO_SKIP && !c->skip)
			c->state = CPIO_HEADER;
	}
	return (ssize_t)at;
}
