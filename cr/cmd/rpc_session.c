/*
 * The requests of one connection: one after the other, mostly one only. Each is answered, also those
 * that cannot be done: success=false, the errno, and the first line of the log that says why.
 *
 * A dump runs in a child, as that of the command line does, and the child answers.
 */
#include <poll.h>
#include <string.h>

#include "cmd/rpc.h"

#define FAILED 255
/* How often a wait for the client looks whether we are to end. */
#define POLL_MSEC 200

/* ASCII, as bytes that are cut or not UTF-8 must not stand in a protobuf string. */
static char *clean_text(struct arena *a, const char *s)
{
	char *text = arena_strdup(a, s);

	for (char *p = text; p && *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	return text;
}

static int answer(const struct rpc_session *s, struct arena *a, CriuResp *resp, int r)
{
	resp->success = r >= 0;
	if (r < 0) {
		resp->has_cr_errno = true;
		resp->cr_errno = -r;
		resp->cr_errmsg = clean_text(a, log_first_error()[0] ? log_first_error() : strerror(-r));
	}
	if (rpc_send(s->sock, resp, -1) < 0)
		log_warn("the client is gone, the answer (%s) is lost", r < 0 ? "failure" : "success");
	return r;
}

static int answer_type(const struct rpc_session *s, struct arena *a, CriuReqType type, int r)
{
	CriuResp resp = CRIU_RESP__INIT;

	resp.type = type;
	return answer(s, a, &resp, r);
}

/* What it names overrides the request, but for where images are; one that is not there is none. */
static int take_config(const char *path, struct cmd_opts *o)
{
	const char *log = o->log_file, *images = o->images_dir, *work = o->work_dir;
	const enum log_level level = o->level;
	int r;

	o->source = FROM_FILE;
	r = config_take(o, path);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (o->images_dir != images || o->work_dir != work)
		return log_fail(-EBADRQC, "%s: images-dir and work-dir are the request's", path);
	return o->log_file != log || o->level != level ? cmd_open_log(o) : 0;
}

/* Options in, the log open. */
static int open_request(struct rpc_session *s, const CriuOpts *req, struct cmd_opts *o)
{
	int r;

	if (!req)
		return log_fail(-EBADRQC, "the request has no options");
	o->rpc = s;
	s->notify = req->notify_scripts;
	o->cr.orphan_pts_master = req->orphan_pts_master;
	o->cr.give_master = s->notify ? rpc_give_master : NULL;
	r = rpc_take_places(s, req, o);
	if (r >= 0)
		r = cmd_open(o);
	if (r >= 0)
		r = rpc_take_options(s, req, o);
	if (r >= 0 && req->config_file && *req->config_file)
		r = take_config(req->config_file, o);
	return r;
}

struct request {
	struct rpc_session *s;
	const CriuReq *req;
	struct arena *a;
};

static int run_dump(const struct request *q, struct cmd_opts *o)
{
	const bool pre = q->req->type != CRIU_REQ_TYPE__DUMP;
	int r = open_request(q->s, q->req->opts, o);

	if (r < 0)
		return r;
	if (!o->cr.pid)
		return log_fail(-EOPNOTSUPP, "pid is not set: a process that asks for its own dump is "
				"not supported");
	return cmd_run_dump(o, pre);
}

static int dump_in_child(void *arg)
{
	const struct request *q = arg;
	CriuDumpResp dump = CRIU_DUMP_RESP__INIT;
	CriuResp resp = CRIU_RESP__INIT;
	struct cmd_opts o;
	int r;

	cmd_opts_init(&o);
	r = run_dump(q, &o);
	dump.has_restored = true;
	resp.type = q->req->type;
	resp.dump = resp.type == CRIU_REQ_TYPE__DUMP ? &dump : NULL;
	r = answer(q->s, q->a, &resp, r);
	cmd_opts_done(&o);
	return r < 0;
}

static int handle_dump(struct request *q)
{
	int status = cmd_in_child(dump_in_child, q, &q->s->told_to_end);

	if (status == 0 || status == 1)
		return status ? -ECANCELED : 0;
	/* It has not answered. */
	if (status < 0)
		log_err(status, "cannot run a process for the dump");
	else
		log_fail(-EIO, "the dump was ended by signal %d", status - 128);
	return answer_type(q->s, q->a, q->req->type, status < 0 ? status : -EIO);
}

/* exec_cmd: what it prints goes to the log. The connection ends with the exec. */
static int become(const struct rpc_session *s, const struct cmd_opts *o)
{
	if (o->log_fd >= 0 && (dup2(o->log_fd, STDOUT_FILENO) < 0 || dup2(o->log_fd, STDERR_FILENO) < 0))
		return neg_errno();
	close(s->sock);
	cmd_signals_default();
	execvp(o->words[0], o->words);
	return log_err(neg_errno(), "cannot run %s", o->words[0]);
}

static int exec_words(const CriuOpts *req, struct cmd_opts *o)
{
	if (!req->n_exec_cmd)
		return 0;
	o->words = arena_alloc(&o->arena, (req->n_exec_cmd + 1) * sizeof(*o->words));
	if (!o->words)
		return -ENOMEM;
	memcpy(o->words, req->exec_cmd, req->n_exec_cmd * sizeof(*o->words));
	o->exec_cmd = true;
	return 0;
}

static int handle_restore(struct request *q)
{
	CriuRestoreResp restore = CRIU_RESTORE_RESP__INIT;
	CriuResp resp = CRIU_RESP__INIT;
	struct cmd_opts o;
	pid_t root = -1;
	int r;

	cmd_opts_init(&o);
	r = open_request(q->s, q->req->opts, &o);
	if (r >= 0)
		r = exec_words(q->req->opts, &o);
	if (r >= 0)
		r = cmd_run_restore(&o, &root);
	restore.pid = r < 0 ? -1 : root;
	resp.type = CRIU_REQ_TYPE__RESTORE;
	resp.restore = &restore;
	r = answer(q->s, q->a, &resp, r);
	if (r >= 0 && o.exec_cmd)
		r = become(q->s, &o);
	cmd_opts_done(&o);
	return r;
}

/* Without a directory the log goes to standard error. */
static int handle_check(struct request *q)
{
	const CriuOpts *req = q->req->opts;
	bool has_dir = req && (req->images_dir_fd != -1 || (req->images_dir && *req->images_dir));
	struct cmd_opts o;
	int r = 0;

	cmd_opts_init(&o);
	o.rpc = q->s;
	if (has_dir)
		r = rpc_take_places(q->s, req, &o);
	if (r >= 0 && has_dir)
		r = cmd_open(&o);
	if (r >= 0)
		r = cr_check_mandatory();
	r = answer_type(q->s, q->a, CRIU_REQ_TYPE__CHECK, r);
	cmd_opts_done(&o);
	return r;
}

static int handle_version(struct request *q)
{
	CriuVersion version = CRIU_VERSION__INIT;
	CriuResp resp = CRIU_RESP__INIT;

	version.major_number = CRIU_MAJOR;
	version.minor_number = CRIU_MINOR;
	version.name = (char *)"crkexec " VERSION;
	resp.type = CRIU_REQ_TYPE__VERSION;
	resp.version = &version;
	return answer(q->s, q->a, &resp, 0);
}

/* What was asked for, and nothing else. */
static int handle_features(struct request *q)
{
	const CriuFeatures *asked = q->req->features;
	CriuFeatures have = CRIU_FEATURES__INIT;
	CriuResp resp = CRIU_RESP__INIT;

	resp.type = CRIU_REQ_TYPE__FEATURE_CHECK;
	if (!asked) {
		log_fail(-EBADRQC, "the request names no features");
		return answer(q->s, q->a, &resp, -EBADRQC);
	}
	have.has_mem_track = asked->has_mem_track && asked->mem_track;
	have.mem_track = have.has_mem_track && cr_check_feature("mem_dirty_track") > 0;
	/* Neither is used here: no page server, and nobody's pidfds are kept. */
	have.has_lazy_pages = asked->has_lazy_pages && asked->lazy_pages;
	have.has_pidfd_store = asked->has_pidfd_store && asked->pidfd_store;
	resp.features = &have;
	return answer(q->s, q->a, &resp, 0);
}

static int handle_server(struct request *q)
{
	log_fail(-EOPNOTSUPP, "there is no page server: pages are written to a directory only");
	return answer_type(q->s, q->a, CRIU_REQ_TYPE__PAGE_SERVER, -EOPNOTSUPP);
}

static int handle_cpuinfo(struct request *q)
{
	struct cmd_opts o;
	int r;

	cmd_opts_init(&o);
	r = open_request(q->s, q->req->opts, &o);
	if (r >= 0)
		r = cmd_run_cpuinfo(&o, q->req->type == CRIU_REQ_TYPE__CPUINFO_CHECK);
	r = answer_type(q->s, q->a, q->req->type, r);
	cmd_opts_done(&o);
	return r;
}

static int handle_wait(struct request *q)
{
	log_fail(-ECHILD, "process %u is no page server of this connection", q->req->pid);
	return answer_type(q->s, q->a, CRIU_REQ_TYPE__WAIT_PID, -ECHILD);
}

static const struct {
	CriuReqType type;
	int (*handle)(struct request *q);	/* answers; negative: failed */
	bool may_keep_open;
} handlers[] = {
	{ CRIU_REQ_TYPE__DUMP,			handle_dump,	false },
	{ CRIU_REQ_TYPE__PRE_DUMP,		handle_dump,	false },
	{ CRIU_REQ_TYPE__SINGLE_PRE_DUMP,	handle_dump,	false },
	{ CRIU_REQ_TYPE__RESTORE,		handle_restore,	false },
	{ CRIU_REQ_TYPE__CHECK,			handle_check,	false },
	{ CRIU_REQ_TYPE__VERSION,		handle_version,	true },
	{ CRIU_REQ_TYPE__FEATURE_CHECK,		handle_features, true },
	{ CRIU_REQ_TYPE__CPUINFO_DUMP,		handle_cpuinfo,	true },
	{ CRIU_REQ_TYPE__CPUINFO_CHECK,		handle_cpuinfo,	true },
	{ CRIU_REQ_TYPE__PAGE_SERVER,		handle_server,	true },
	{ CRIU_REQ_TYPE__PAGE_SERVER_CHLD,	handle_server,	true },
	{ CRIU_REQ_TYPE__WAIT_PID,		handle_wait,	true },
};

static bool is_dump(CriuReqType t)
{
	return t == CRIU_REQ_TYPE__DUMP || t == CRIU_REQ_TYPE__PRE_DUMP;
}

/* after_pre: the request before was a pre-dump. */
static int handle(struct request *q, bool after_pre)
{
	const CriuReqType type = q->req->type;

	for (size_t i = 0; i < ARRAY_SIZE(handlers); i++) {
		if (handlers[i].type != type || (after_pre && !is_dump(type)))
			continue;
		if (!q->req->keep_open || handlers[i].may_keep_open)
			return handlers[i].handle(q);
		log_fail(-EBADRQC, "keep_open is not for requests of type %d", (int)type);
		return answer_type(q->s, q->a, type, -EBADRQC);
	}
	log_fail(-EBADRQC, "a request of type %d is not expected here", (int)type);
	return answer_type(q->s, q->a, CRIU_REQ_TYPE__EMPTY, -EBADRQC);
}

void rpc_turn_away(const struct rpc_session *s, int r)
{
	struct arena a;

	arena_init(&a);
	answer_type(s, &a, CRIU_REQ_TYPE__EMPTY, r);
	arena_done(&a);
}

int rpc_serve(struct rpc_session *s)
{
	bool first = true, after_pre = false, again = true;
	int r = 0;

	while (again && r >= 0) {
		struct request q = { .s = s };
		struct arena a;
		CriuReq *req;

		arena_init(&a);
		log_init(log_level_get(), -1);
		r = rpc_receive(s->sock, &a, &req);
		if (r > 0) {
			q.req = req;
			q.a = &a;
			r = handle(&q, after_pre);
			after_pre = req->type == CRIU_REQ_TYPE__PRE_DUMP;
			again = (after_pre || req->keep_open) && !s->told_to_end;
		} else if (!r) {
			/* After an answer it is free to go: runc goes after its one pre-dump. */
			r = first ? log_fail(-ECONNRESET, "the client has closed the connection without a request: "
						   "it has failed itself, or was ended") : -ECONNRESET;
		}
		first = false;
		arena_done(&a);
	}
	return r < 0 ? FAILED : 0;
}

/* Until there is something to read; not longer than we are wanted. */
static int wait_for_answer(const struct cmd_opts *o, int sock)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };

	for (;;) {
		int n = poll(&p, 1, POLL_MSEC);

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return neg_errno();
		if (o->cr.cancelled && o->cr.cancelled(o->cr.cancelled_arg))
			return -ECANCELED;
	}
}

/* query-ext-files: the client may name more resources that are not the tree's. */
static int add_externals(struct cmd_opts *o, const CriuReq *req)
{
	CriuOpts more = CRIU_OPTS__INIT;

	if (!req->opts)
		return 0;
	more.n_external = req->opts->n_external;
	more.external = req->opts->external;
	return rpc_take_options(o->rpc, &more, o);
}

static int tell(struct cmd_opts *o, const char *event, pid_t root, int fd)
{
	const struct rpc_session *s = o->rpc;
	CriuNotify notify = CRIU_NOTIFY__INIT;
	CriuResp resp = CRIU_RESP__INIT;
	CriuReq *req = NULL;
	int r;

	if (!s->notify)
		return 0;
	notify.script = (char *)event;
	notify.has_pid = !strcmp(event, "setup-namespaces") || !strcmp(event, "post-restore");
	notify.pid = notify.has_pid ? root : 0;
	resp.type = CRIU_REQ_TYPE__NOTIFY;
	resp.success = true;
	resp.notify = &notify;
	r = rpc_send(s->sock, &resp, fd);
	if (r >= 0)
		r = wait_for_answer(o, s->sock);
	if (r >= 0)
		r = rpc_receive(s->sock, &o->arena, &req);
	if (r <= 0)
		return log_err(r ? r : -ECONNRESET, "%s: the client does not answer", event);
	if (req->type != CRIU_REQ_TYPE__NOTIFY)
		return log_fail(-EBADMSG, "%s: the client answers by a request of type %d", event,
				(int)req->type);
	if (!req->has_notify_success || !req->notify_success)
		return log_fail(-ECANCELED, "%s: the client refuses", event);
	return strcmp(event, "query-ext-files") ? 0 : add_externals(o, req);
}

int rpc_notify(struct cmd_opts *o, const char *event, pid_t root)
{
	return tell(o, event, root, -1);
}

int rpc_give_master(void *arg, int fd)
{
	return tell(arg, "orphan-pts-master", -1, fd);
}
