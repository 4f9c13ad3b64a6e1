/*
 * SO_* options of every socket.
 *
 * The kernel doubles what SO_SNDBUF and SO_RCVBUF are given and then keeps the automatic
 * tuning away from them; SO_BUF_LOCK (5.14) gives the tuning back.
 */
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/net_tstamp.h>
#include <linux/socket.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <string.h>

#include "kind/sk_common.h"

#define FILTER_MAX	4096	/* BPF_MAXINSNS */

static int get_timeout(int fd, int name, uint64_t *ret_sec, uint64_t *ret_usec)
{
	struct timeval tv = { 0 };
	socklen_t len = sizeof(tv);

	if (getsockopt(fd, SOL_SOCKET, name, &tv, &len) < 0)
		return log_err(neg_errno(), "cannot read the socket's time-outs");
	*ret_sec = (uint64_t)tv.tv_sec;
	*ret_usec = (uint64_t)tv.tv_usec;
	return 0;
}

/* Options a family does not know are absent, not errors. */
static bool get_bool(int fd, int name, protobuf_c_boolean *has)
{
	int v;

	if (sk_get_int(fd, SOL_SOCKET, name, &v) < 0 || !v)
		return false;
	*has = true;
	return true;
}

static bool get_u32(int fd, int level, int name, protobuf_c_boolean *has, uint32_t *ret)
{
	int v;

	if (sk_get_int(fd, level, name, &v) < 0)
		return false;
	*has = true;
	*ret = (uint32_t)v;
	return true;
}

static int dump_device(struct dump_ctx *ctx, int fd, SkOptsEntry *o)
{
	char name[IFNAMSIZ] = "";
	socklen_t len = sizeof(name);

	if (getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len) < 0 || !len || !name[0])
		return 0;
	o->so_bound_dev = arena_strndup(&ctx->arena, name, strnlen(name, sizeof(name)));
	return o->so_bound_dev ? 0 : -ENOMEM;
}

static int dump_filter(struct dump_ctx *ctx, int fd, SkOptsEntry *o)
{
	struct sock_filter insns[FILTER_MAX];
	socklen_t n = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &n) < 0) {
		if (errno == EACCES)
			return log_obstacle("close the socket or detach the program",
					    "an eBPF program is attached to the socket "
					    "(SO_ATTACH_BPF)");
		return 0;
	}
	if (!n)
		return 0;
	if (n > FILTER_MAX)
		return log_fail(-E2BIG, "socket filter of %u instructions", n);
	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, insns, &n) < 0)
		return log_err(neg_errno(), "cannot read the socket's filter");
	o->so_filter = arena_alloc(&ctx->arena, n * sizeof(*o->so_filter));
	if (!o->so_filter)
		return -ENOMEM;
	o->n_so_filter = n;
	for (socklen_t i = 0; i < n; i++)
		o->so_filter[i] = (uint64_t)insns[i].code << 48 | (uint64_t)insns[i].jt << 40 |
				  (uint64_t)insns[i].jf << 32 | insns[i].k;
	return 0;
}

static void dump_keepalive(int fd, SkOptsEntry *o)
{
	int proto;

	o->so_keepalive = get_bool(fd, SO_KEEPALIVE, &o->has_so_keepalive);
	if (!o->so_keepalive || sk_get_int(fd, SOL_SOCKET, SO_PROTOCOL, &proto) < 0 ||
	    proto != IPPROTO_TCP)
		return;
	get_u32(fd, SOL_TCP, TCP_KEEPCNT, &o->has_tcp_keepcnt, &o->tcp_keepcnt);
	get_u32(fd, SOL_TCP, TCP_KEEPIDLE, &o->has_tcp_keepidle, &o->tcp_keepidle);
	get_u32(fd, SOL_TCP, TCP_KEEPINTVL, &o->has_tcp_keepintvl, &o->tcp_keepintvl);
}

/* What the kernel counts for the program and lets nobody set: of the options that are not as in a fresh socket. */
static void warn_counters(const SkOptsEntry *o)
{
	for (size_t i = 0; i < o->n_extra; i++) {
		const SkExtraOptEntry *e = o->extra[i];
		uint32_t v = 0;

		if (e->level != SOL_SOCKET || e->value.len < sizeof(v))
			continue;
		memcpy(&v, e->value.data, sizeof(v));
		if (e->name == SO_ZEROCOPY && v)
			log_warn("the numbers of MSG_ZEROCOPY completions begin anew (SO_ZEROCOPY)");
		if (e->name == SO_TIMESTAMPING && v & SOF_TIMESTAMPING_OPT_ID)
			log_warn("the numbers of sent packets' timestamps begin anew "
				 "(SOF_TIMESTAMPING_OPT_ID)");
	}
}

static int dump_extra(struct dump_ctx *ctx, struct dump_file *f, SkOptsEntry *o)
{
	struct sk_defaults **known = sk_defaults_slot(ctx);

	if (known && o->so_reuseport)
		sk_reuseport_check(sk_reuseport_slot(ctx));
	return known ? sk_extra_dump(ctx, f, known, o) : log_err(-ENOMEM, "socket options");
}

int sk_opts_dump(struct dump_ctx *ctx, struct dump_file *f, SkOptsEntry **ret)
{
	SkOptsEntry *o = ARENA_MSG(&ctx->arena, SkOptsEntry, sk_opts_entry);
	struct linger linger = { 0 };
	socklen_t len = sizeof(linger);
	int fd = f->fd, v, r;

	if (!o)
		return -ENOMEM;
	r = sk_get_int(fd, SOL_SOCKET, SO_SNDBUF, &v);
	o->so_sndbuf = (uint32_t)v;
	if (!r) {
		r = sk_get_int(fd, SOL_SOCKET, SO_RCVBUF, &v);
		o->so_rcvbuf = (uint32_t)v;
	}
	if (r < 0)
		return log_err(r, "cannot read the socket's buffer sizes");
	r = get_timeout(fd, SO_SNDTIMEO, &o->so_snd_tmo_sec, &o->so_snd_tmo_usec);
	if (!r)
		r = get_timeout(fd, SO_RCVTIMEO, &o->so_rcv_tmo_sec, &o->so_rcv_tmo_usec);
	if (r < 0)
		return r;
	o->reuseaddr = get_bool(fd, SO_REUSEADDR, &o->has_reuseaddr);
	o->so_reuseport = get_bool(fd, SO_REUSEPORT, &o->has_so_reuseport);
	o->so_passcred = get_bool(fd, SO_PASSCRED, &o->has_so_passcred);
	o->so_passsec = get_bool(fd, SO_PASSSEC, &o->has_so_passsec);
	o->so_dontroute = get_bool(fd, SO_DONTROUTE, &o->has_so_dontroute);
	o->so_no_check = get_bool(fd, SO_NO_CHECK, &o->has_so_no_check);
	o->so_broadcast = get_bool(fd, SO_BROADCAST, &o->has_so_broadcast);
	o->so_oobinline = get_bool(fd, SO_OOBINLINE, &o->has_so_oobinline);
	get_u32(fd, SOL_SOCKET, SO_PRIORITY, &o->has_so_priority, &o->so_priority);
	get_u32(fd, SOL_SOCKET, SO_RCVLOWAT, &o->has_so_rcvlowat, &o->so_rcvlowat);
	get_u32(fd, SOL_SOCKET, SO_BUF_LOCK, &o->has_so_buf_lock, &o->so_buf_lock);
	if (get_u32(fd, SOL_SOCKET, SO_MARK, &o->has_so_mark, &o->so_mark))
		o->has_so_mark = o->so_mark != 0;
	if (!getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len) && linger.l_onoff) {
		o->has_so_linger = true;
		o->so_linger = (uint32_t)linger.l_linger;
	}
	dump_keepalive(fd, o);
	r = dump_extra(ctx, f, o);
	if (r < 0)
		return r;
	warn_counters(o);
	r = dump_device(ctx, fd, o);
	if (!r)
		r = dump_filter(ctx, fd, o);
	if (r < 0)
		return r;
	*ret = o;
	return 0;
}

/* What decides about routes. */
static int restore_ways(int fd, const SkOptsEntry *o)
{
	int r = o->so_mark ? SK_SET(fd, SOL_SOCKET, SO_MARK, (int)o->so_mark) : 0;

	if (r < 0 || !o->so_bound_dev || !o->so_bound_dev[0])
		return r;
	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, o->so_bound_dev,
		       (socklen_t)strlen(o->so_bound_dev)) < 0)
		return log_err(neg_errno(), "cannot bind the socket to interface %s",
			       o->so_bound_dev);
	return 0;
}

int sk_opts_restore_early(int fd, const SkOptsEntry *o)
{
	int r = SK_SET(fd, SOL_SOCKET, SO_REUSEADDR, 1);

	if (!r && o->so_reuseport)
		r = SK_SET(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	return r < 0 ? r : restore_ways(fd, o);
}

/* The kernel takes a time before now for none, quietly. */
static int check_timeout(const char *what, uint64_t sec, uint64_t usec)
{
	if (sec > INT64_MAX || usec >= 1000000)
		return log_fail(-EBADMSG, "socket option %s: %" PRIu64 " s and %" PRIu64 " us", what, sec, usec);
	return 0;
}

int sk_opts_check(const SkOptsEntry *o)
{
	int r = check_timeout("SO_SNDTIMEO", o->so_snd_tmo_sec, o->so_snd_tmo_usec);

	if (!r)
		r = check_timeout("SO_RCVTIMEO", o->so_rcv_tmo_sec, o->so_rcv_tmo_usec);
	if (r < 0)
		return r;
	if (o->so_bound_dev && strlen(o->so_bound_dev) >= IFNAMSIZ)
		return log_fail(-EBADMSG, "interface name \"%s\" is too long", o->so_bound_dev);
	if (o->n_so_filter > FILTER_MAX)
		return log_fail(-EBADMSG, "socket filter of %zu instructions", o->n_so_filter);
	if (o->so_rcvlowat > INT32_MAX)
		return log_fail(-EBADMSG, "socket option SO_RCVLOWAT: %u", o->so_rcvlowat);
	if (o->so_buf_lock > SOCK_BUF_LOCK_MASK)
		return log_fail(-EBADMSG, "socket option SO_BUF_LOCK: %u", o->so_buf_lock);
	return 0;
}

static int set_timeout(int fd, int name, uint64_t sec, uint64_t usec)
{
	struct timeval tv = { .tv_sec = (time_t)sec, .tv_usec = (suseconds_t)usec };

	if (!sec && !usec)
		return 0;
	if (setsockopt(fd, SOL_SOCKET, name, &tv, sizeof(tv)) < 0)
		return log_err(neg_errno(), "cannot set the socket's time-out to %llu.%06llu s",
			       (unsigned long long)sec, (unsigned long long)usec);
	return 0;
}

static int restore_keepalive(int fd, const SkOptsEntry *o)
{
	int r;

	if (!o->so_keepalive)
		return 0;
	r = SK_SET(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	if (!r && o->has_tcp_keepcnt)
		r = SK_SET(fd, SOL_TCP, TCP_KEEPCNT, (int)o->tcp_keepcnt);
	if (!r && o->has_tcp_keepidle)
		r = SK_SET(fd, SOL_TCP, TCP_KEEPIDLE, (int)o->tcp_keepidle);
	if (!r && o->has_tcp_keepintvl)
		r = SK_SET(fd, SOL_TCP, TCP_KEEPINTVL, (int)o->tcp_keepintvl);
	return r;
}

int sk_opts_restore(int fd, const SkOptsEntry *o)
{
	const struct {
		protobuf_c_boolean on;
		int name;
		const char *what;
	} bools[] = {
		{ o->so_passsec, SO_PASSSEC, "SO_PASSSEC" },
		{ o->so_dontroute, SO_DONTROUTE, "SO_DONTROUTE" },
		{ o->so_no_check, SO_NO_CHECK, "SO_NO_CHECK" },
		{ o->so_broadcast, SO_BROADCAST, "SO_BROADCAST" },
		{ o->so_oobinline != 0, SO_OOBINLINE, "SO_OOBINLINE" },
	};
	int r = restore_ways(fd, o);	/* again, where there was an early part */

	for (size_t i = 0; !r && i < ARRAY_SIZE(bools); i++)
		if (bools[i].on)
			r = sk_set_int_log(fd, SOL_SOCKET, bools[i].name, 1, bools[i].what);
	if (!r)
		r = set_timeout(fd, SO_SNDTIMEO, o->so_snd_tmo_sec, o->so_snd_tmo_usec);
	if (!r)
		r = set_timeout(fd, SO_RCVTIMEO, o->so_rcv_tmo_sec, o->so_rcv_tmo_usec);
	if (!r)
		r = restore_keepalive(fd, o);
	if (!r && o->has_so_linger) {
		struct linger l = { .l_onoff = 1, .l_linger = (int)o->so_linger };

		if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)) < 0)
			r = log_err(neg_errno(), "cannot set socket option SO_LINGER");
	}
	if (!r)
		r = sk_extra_restore(fd, o, false);
	/* Last: IP_TOS sets it, too. */
	if (!r && o->has_so_priority)
		r = SK_SET(fd, SOL_SOCKET, SO_PRIORITY, (int)o->so_priority);
	return r;
}

/* Without CAP_NET_ADMIN the system's maximum is the limit. */
static int set_buffer(int fd, int force, int plain, uint32_t value)
{
	int v = (int)MIN(value, (uint32_t)INT32_MAX / 2);
	int r = sk_set_int(fd, SOL_SOCKET, force, v);

	return r == -EPERM ? sk_set_int(fd, SOL_SOCKET, plain, v) : r;
}

/* Small segments cost the kernel several times their payload. */
static uint32_t room_for(size_t bytes)
{
	size_t v = bytes * 2 + (256u << 10);

	return (uint32_t)MIN(v, (size_t)INT32_MAX / 2);
}

int sk_buffers_for(int fd, size_t rcv_bytes, size_t snd_bytes)
{
	int r = 0;

	if (rcv_bytes)
		r = set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, room_for(rcv_bytes));
	if (!r && snd_bytes)
		r = set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, room_for(snd_bytes));
	return r < 0 ? log_err(r, "cannot enlarge the socket's buffers") : 0;
}

static int restore_filter(int fd, const SkOptsEntry *o)
{
	struct sock_filter insns[FILTER_MAX];
	struct sock_fprog prog = { .len = (unsigned short)o->n_so_filter, .filter = insns };

	if (!o->n_so_filter)
		return 0;
	for (size_t i = 0; i < o->n_so_filter; i++) {
		uint64_t v = o->so_filter[i];

		insns[i] = (struct sock_filter){ .code = (uint16_t)(v >> 48),
						 .jt = (uint8_t)(v >> 40),
						 .jf = (uint8_t)(v >> 32),
						 .k = (uint32_t)v };
	}
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0)
		return log_err(neg_errno(), "cannot attach the socket's filter");
	return 0;
}

int sk_opts_restore_late(int fd, const SkOptsEntry *o)
{
	int r = set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, o->so_sndbuf / 2);

	if (!r)
		r = set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, o->so_rcvbuf / 2);
	if (r < 0)
		return log_err(r, "cannot set the socket's buffer sizes");
	/* After the buffers: it may raise SO_RCVBUF where that is not locked. */
	if (o->has_so_rcvlowat && o->so_rcvlowat > 1)
		r = SK_SET(fd, SOL_SOCKET, SO_RCVLOWAT, (int)o->so_rcvlowat);
	if (!r && o->has_so_buf_lock) {
		r = sk_set_int(fd, SOL_SOCKET, SO_BUF_LOCK, (int)o->so_buf_lock);
		/* Before 5.14, and with MPTCP, buffers stay as they were at the dump. */
		if (r == -ENOPROTOOPT || r == -EOPNOTSUPP)
			r = 0;
		if (r < 0)
			log_err(r, "cannot set socket option SO_BUF_LOCK");
	}
	/* In both directions: leaving TCP repair mode clears it. */
	if (!r)
		r = SK_SET(fd, SOL_SOCKET, SO_REUSEADDR, o->reuseaddr);
	/* Not before the queues are filled: these change what arrives. */
	if (!r && o->so_passcred)
		r = SK_SET(fd, SOL_SOCKET, SO_PASSCRED, 1);
	if (!r)
		r = restore_filter(fd, o);
	return r < 0 ? r : sk_extra_restore(fd, o, true);
}
