/*
 * A request's options as words of a command line. Every field of criu_opts has a row; what has no
 * meaning here is refused by the option it becomes, as at the command line.
 *
 * images_dir_fd and work_dir_fd are descriptors of the peer, inherit_fd those that we inherited.
 */
#include <sched.h>
#include <stdarg.h>
#include <string.h>

#include "cmd/rpc.h"
#include "util/io.h"

struct words {
	struct arena *a;
	char **argv;
	size_t n;
	int r;
};

/* One word, "--NAME=VALUE" or the like. Errors are kept. */
static void _printf_(2, 3) word(struct words *w, const char *fmt, ...)
{
	char **slot = ARENA_PUSH(w->a, w->argv, w->n), *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n >= 0)
		text = arena_alloc(w->a, (size_t)n + 1);
	if (!slot || !text) {
		w->r = -ENOMEM;
		w->n -= !!slot;
		return;
	}
	va_start(ap, fmt);
	vsnprintf(text, (size_t)n + 1, fmt, ap);
	va_end(ap);
	*slot = text;
}

static int take_words(struct words *w, struct cmd_opts *o)
{
	if (w->r >= 0)
		o->source = FROM_RPC;
	return w->r < 0 ? w->r : cmd_take(o, (int)w->n, w->argv);
}

static struct words words_begin(struct cmd_opts *o)
{
	struct words w = { .a = &o->arena };

	word(&w, "cr");
	return w;
}

/* The fields that are more than one word. */
struct taking {
	const struct rpc_session *s;
	const CriuOpts *req;
	struct words w;
};

static void take_veths(struct taking *t)
{
	for (size_t i = 0; i < t->req->n_veths; i++)
		word(&t->w, "--external=veth[%s]:%s", t->req->veths[i]->if_in,
		     t->req->veths[i]->if_out);
}

static void take_ext_mnt(struct taking *t)
{
	for (size_t i = 0; i < t->req->n_ext_mnt; i++)
		word(&t->w, "--external=mnt[%s]:%s", t->req->ext_mnt[i]->key, t->req->ext_mnt[i]->val);
}

static void take_unix(struct taking *t)
{
	for (size_t i = 0; i < t->req->n_unix_sk_ino; i++)
		word(&t->w, "--external=unix[%u]", t->req->unix_sk_ino[i]->inode);
}

static void take_cgroup_roots(struct taking *t)
{
	for (size_t i = 0; i < t->req->n_cg_root; i++) {
		const CgroupRoot *c = t->req->cg_root[i];

		word(&t->w, "--cgroup-root=%s%s%s", c->ctrl ? c->ctrl : "", c->ctrl ? ":" : "", c->path);
	}
}

static void take_inherit(struct taking *t)
{
	if (!t->s->swrk)
		t->w.r = log_fail(-EBADRQC, "inherit_fd: a service has no descriptors of its client; "
				  "use swrk");
	for (size_t i = 0; t->w.r >= 0 && i < t->req->n_inherit_fd; i++)
		word(&t->w, "--inherit-fd=fd[%d]:%s", t->req->inherit_fd[i]->fd,
		     t->req->inherit_fd[i]->key);
}

static void take_join(struct taking *t)
{
	for (size_t i = 0; i < t->req->n_join_ns; i++)
		word(&t->w, "--join-ns=%s:%s", t->req->join_ns[i]->ns, t->req->join_ns[i]->ns_file);
}

static void take_sibling(struct taking *t)
{
	if (t->req->rst_sibling && !t->s->swrk)
		t->w.r = log_fail(-EBADRQC, "rst_sibling: a service's sibling is not its client's child; "
				  "use swrk");
	else if (t->req->rst_sibling)
		word(&t->w, "--restore-sibling");
}

static void take_cgroup_mode(struct taking *t)
{
	static const char *const names[] = {
		[CRIU_CG_MODE__IGNORE] = "ignore", [CRIU_CG_MODE__CG_NONE] = "none",
		[CRIU_CG_MODE__PROPS] = "props", [CRIU_CG_MODE__SOFT] = "soft",
		[CRIU_CG_MODE__FULL] = "full", [CRIU_CG_MODE__STRICT] = "strict",
		[CRIU_CG_MODE__DEFAULT] = "soft",
	};
	unsigned int mode = t->req->manage_cgroups_mode;

	if (mode >= ARRAY_SIZE(names))
		t->w.r = log_fail(-EBADRQC, "manage_cgroups_mode: %u is not known", mode);
	else
		word(&t->w, "--manage-cgroups=%s", names[mode]);
}

/* Older than the mode, and overridden by it. */
static void take_cgroups(struct taking *t)
{
	if (!t->req->has_manage_cgroups_mode)
		word(&t->w, "--manage-cgroups=%s", t->req->manage_cgroups ? "soft" : "ignore");
}

static void take_lock(struct taking *t)
{
	static const char *const names[] = {
		[CRIU_NETWORK_LOCK_METHOD__IPTABLES] = "iptables",
		[CRIU_NETWORK_LOCK_METHOD__NFTABLES] = "nftables",
		[CRIU_NETWORK_LOCK_METHOD__SKIP] = "skip",
	};
	unsigned int m = t->req->network_lock;

	if (m >= ARRAY_SIZE(names) || !names[m])
		t->w.r = log_fail(-EBADRQC, "network_lock: %u is not known", m);
	else
		word(&t->w, "--network-lock=%s", names[m]);
}

static void take_empty_ns(struct taking *t)
{
	if (t->req->empty_ns & ~(uint32_t)CLONE_NEWNET)
		t->w.r = log_fail(-EBADRQC, "empty_ns: 0x%x is not for network namespaces only",
				  t->req->empty_ns);
	else if (t->req->empty_ns)
		word(&t->w, "--empty-ns=net");
}

static void take_cpu_cap(struct taking *t)
{
	const uint32_t c = t->req->cpu_cap;

	word(&t->w, "--cpu-cap=none%s%s%s", c & CR_CPU_FPU ? ",fpu" : "", c & CR_CPU_CPU ? ",cpu" : "",
	     c & CR_CPU_INS ? ",ins" : "");
}

static void take_server(struct taking *t)
{
	word(&t->w, "--page-server");
}

/* Unset, it is ten seconds. */
static void take_timeout(struct taking *t)
{
	if (t->req->timeout)
		word(&t->w, "--timeout=%u", t->req->timeout);
}

#define ELSEWHERE(field)	{ field, NULL, NULL }
#define PLAIN(field, option)	{ field, option, NULL }	/* of the same meaning */
#define SPECIAL(field, fn)	{ field, NULL, fn }

static const struct {
	const char *field;
	const char *option;
	void (*fn)(struct taking *t);
} rows[] = {
	/* rpc_take_places() */
	ELSEWHERE("images_dir_fd"), ELSEWHERE("images_dir"), ELSEWHERE("work_dir_fd"),
	ELSEWHERE("log_level"), ELSEWHERE("log_file"), ELSEWHERE("log_to_stderr"),
	/* rpc_session.c */
	ELSEWHERE("notify_scripts"), ELSEWHERE("exec_cmd"), ELSEWHERE("config_file"),
	ELSEWHERE("orphan_pts_master"),
	/* Permits what is always looked for; see docs/criu-compat.md. */
	ELSEWHERE("auto_ext_mnt"), ELSEWHERE("status_fd"), ELSEWHERE("pidfd_store_sk"),
	ELSEWHERE("pre_dump_mode"),
	PLAIN("pid", "tree"),
	PLAIN("leave_running", "leave-running"),
	PLAIN("leave_stopped", "leave-stopped"),
	PLAIN("ext_unix_sk", "ext-unix-sk"),
	PLAIN("tcp_established", "tcp-established"),
	PLAIN("tcp_close", "tcp-close"),
	PLAIN("tcp_skip_in_flight", "skip-in-flight"),
	PLAIN("evasive_devices", "evasive-devices"),
	PLAIN("shell_job", "shell-job"),
	PLAIN("file_locks", "file-locks"),
	PLAIN("root", "root"),
	PLAIN("parent_img", "prev-images-dir"),
	PLAIN("track_mem", "track-mem"),
	PLAIN("auto_dedup", "auto-dedup"),
	PLAIN("link_remap", "link-remap"),
	PLAIN("force_irmap", "force-irmap"),
	PLAIN("irmap_scan_paths", "irmap-scan-path"),
	PLAIN("ghost_limit", "ghost-limit"),
	PLAIN("external", "external"),
	PLAIN("ext_sharing", "enable-external-sharing"),
	PLAIN("ext_masters", "enable-external-masters"),
	PLAIN("skip_mnt", "skip-mnt"),
	PLAIN("enable_fs", "enable-fs"),
	PLAIN("cgroup_props", "cgroup-props"),
	PLAIN("cgroup_props_file", "cgroup-props-file"),
	PLAIN("cgroup_dump_controller", "cgroup-dump-controller"),
	PLAIN("cgroup_yard", "cgroup-yard"),
	PLAIN("freeze_cgroup", "freeze-cgroup"),
	PLAIN("weak_sysctls", "weak-sysctls"),
	PLAIN("lazy_pages", "lazy-pages"),
	PLAIN("lsm_profile", "lsm-profile"),
	PLAIN("lsm_mount_context", "lsm-mount-context"),
	PLAIN("tls", "tls"),
	PLAIN("tls_cacert", "tls-cacert"),
	PLAIN("tls_cacrl", "tls-cacrl"),
	PLAIN("tls_cert", "tls-cert"),
	PLAIN("tls_key", "tls-key"),
	PLAIN("tls_no_cn_verify", "tls-no-cn-verify"),
	PLAIN("mntns_compat_mode", "mntns-compat-mode"),
	PLAIN("skip_file_rwx_check", "skip-file-rwx-check"),
	PLAIN("unprivileged", "unprivileged"),
	PLAIN("display_stats", "display-stats"),
	SPECIAL("timeout", take_timeout),
	SPECIAL("ps", take_server),
	SPECIAL("veths", take_veths),
	SPECIAL("ext_mnt", take_ext_mnt),
	SPECIAL("unix_sk_ino", take_unix),
	SPECIAL("cg_root", take_cgroup_roots),
	SPECIAL("inherit_fd", take_inherit),
	SPECIAL("join_ns", take_join),
	SPECIAL("rst_sibling", take_sibling),
	SPECIAL("manage_cgroups", take_cgroups),
	SPECIAL("manage_cgroups_mode", take_cgroup_mode),
	SPECIAL("network_lock", take_lock),
	SPECIAL("empty_ns", take_empty_ns),
	SPECIAL("cpu_cap", take_cpu_cap),
};

/* How many values it has, and the first. An empty text is none. */
static size_t values_of(const CriuOpts *req, const ProtobufCFieldDescriptor *f, const void **ret)
{
	const uint8_t *base = (const uint8_t *)req;
	const void *member = base + f->offset;
	bool pointer = f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_MESSAGE;

	*ret = member;
	if (f->label == PROTOBUF_C_LABEL_REPEATED) {
		*ret = *(void *const *)member;
		return *(const size_t *)(base + f->quantifier_offset);
	}
	if (!pointer)
		return f->label == PROTOBUF_C_LABEL_REQUIRED ||
		       *(const protobuf_c_boolean *)(base + f->quantifier_offset);
	if (!*(void *const *)member)
		return 0;
	return f->type != PROTOBUF_C_TYPE_STRING || **(char *const *)member;
}

static void take_plain(struct words *w, const ProtobufCFieldDescriptor *f, const char *option,
		       const void *values, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		switch (f->type) {
		case PROTOBUF_C_TYPE_BOOL:
			word(w, "--%s%s", ((const protobuf_c_boolean *)values)[i] ? "" : "no-", option);
			break;
		case PROTOBUF_C_TYPE_STRING:
			word(w, "--%s=%s", option, ((char *const *)values)[i]);
			break;
		case PROTOBUF_C_TYPE_UINT32:
			word(w, "--%s=%u", option, ((const uint32_t *)values)[i]);
			break;
		default:
			word(w, "--%s=%d", option, ((const int32_t *)values)[i]);
		}
	}
}

static int take_field(struct taking *t, const ProtobufCFieldDescriptor *f)
{
	const void *values;
	size_t n = values_of(t->req, f, &values);

	for (size_t i = 0; n && i < ARRAY_SIZE(rows); i++) {
		if (strcmp(rows[i].field, f->name))
			continue;
		if (rows[i].fn)
			rows[i].fn(t);
		else if (rows[i].option)
			take_plain(&t->w, f, rows[i].option, values, n);
		return t->w.r;
	}
	return n ? log_fail(-EBADRQC, "%s: not known", f->name) : 0;
}

int rpc_take_options(const struct rpc_session *s, const CriuOpts *req, struct cmd_opts *o)
{
	struct taking t = { s, req, words_begin(o) };
	const ProtobufCMessageDescriptor *d = req->base.descriptor;
	int r = 0;

	/* Of a later version than ours: nobody knows what it would change. */
	if (req->base.n_unknown_fields)
		return log_fail(-EBADRQC, "option %u of the request is not known",
				req->base.unknown_fields[0].tag);
	for (unsigned int i = 0; r >= 0 && i < d->n_fields; i++)
		r = take_field(&t, &d->fields[i]);
	return r < 0 ? r : take_words(&t.w, o);
}

static void peer_dir(struct words *w, const struct rpc_session *s, const char *option, int fd)
{
	if (fd < 0)
		w->r = log_fail(-EBADRQC, "%s: %d is no descriptor", option, fd);
	else if (!s->peer)
		w->r = log_fail(-EBADRQC, "%s: descriptors of the client cannot be reached from this "
				"PID namespace", option);
	else
		word(w, "--%s=/proc/%d/fd/%d", option, s->peer, fd);
}

int rpc_take_places(const struct rpc_session *s, const CriuOpts *req, struct cmd_opts *o)
{
	struct words w = words_begin(o);
	const char *log = req->log_file && *req->log_file ? req->log_file : "criu.log";

	if (req->has_log_level)
		word(&w, "--verbosity=%d", req->log_level);
	if (req->images_dir_fd != -1)
		peer_dir(&w, s, "images-dir", req->images_dir_fd);
	else if (req->images_dir && *req->images_dir)
		word(&w, "--images-dir=%s", req->images_dir);
	else
		w.r = log_fail(-EBADRQC, "neither images_dir_fd nor images_dir is set");
	if (w.r >= 0 && req->has_work_dir_fd && req->work_dir_fd != -1)
		peer_dir(&w, s, "work-dir", req->work_dir_fd);
	if (strchr(log, '/') || !strcmp(log, ".") || !strcmp(log, ".."))
		w.r = log_fail(-EBADRQC, "log_file: \"%s\" is not the name of a file in the work "
			       "directory", log);
	else if (!req->log_to_stderr)
		word(&w, "--log-file=%s", log);
	return take_words(&w, o);
}
