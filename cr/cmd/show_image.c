/*
 * A whole image as a JSON tree: which messages a file has, and the payload behind them.
 */
#include <ctype.h>
#include <string.h>

#include "cmd/show.h"
#include "image/pages.h"
#include "image/proto.h"

/* How much of a payload is shown. */
#define EXCERPT_BYTES 64u

struct walk {
	const struct show_style *style;
	struct image_reader *r;
	struct arena arena;
};

struct layout {
	const struct image_type *type;
	const ProtobufCMessageDescriptor *first, *rest;	/* rest NULL: like the first */
	/* Reads what follows m and adds it to the entry; NULL: nothing follows. */
	int (*payload)(struct walk *w, const void *m, struct json_object *entry);
};

static int add_payload(struct walk *w, struct json_object *o, const char *key, size_t bytes)
{
	struct json_object *sub;
	const void *p;
	int r;

	if (!bytes)
		return 0;
	r = image_get_raw(w->r, bytes, &p);
	if (r < 0)
		return r;
	sub = json_object_new_object();
	if (!sub)
		return -ENOMEM;
	json_object_object_add(sub, "bytes", json_object_new_uint64(bytes));
	json_object_object_add(sub, bytes > EXCERPT_BYTES ? "begins" : "data",
			       show_bytes(w->style, p, bytes, EXCERPT_BYTES));
	json_object_object_add(o, key, sub);
	return 0;
}

static int pipe_payload(struct walk *w, const void *m, struct json_object *o)
{
	return add_payload(w, o, "payload", ((const PipeDataEntry *)m)->bytes);
}

static int packet_payload(struct walk *w, const void *m, struct json_object *o)
{
	return add_payload(w, o, "payload", ((const SkPacketEntry *)m)->length);
}

static int tcp_payload(struct walk *w, const void *m, struct json_object *o)
{
	const TcpStreamEntry *e = m;
	int r = add_payload(w, o, "inq", e->inq_len);

	return r < 0 ? r : add_payload(w, o, "outq", e->outq_len);
}

static int bpf_payload(struct walk *w, const void *m, struct json_object *o)
{
	const BpfmapDataEntry *e = m;
	int r = add_payload(w, o, "keys", e->keys_bytes);

	return r < 0 ? r : add_payload(w, o, "values", e->values_bytes);
}

static int sem_payload(struct walk *w, const void *m, struct json_object *o)
{
	const IpcSemEntry *e = m;
	size_t n = e->nsems, bytes = ROUND_UP(n * sizeof(uint16_t), 8);
	struct json_object *list;
	const void *p;
	int r;

	r = image_get_raw(w->r, bytes, &p);
	if (r < 0)
		return r;
	list = json_object_new_array();
	for (size_t i = 0; list && i < n; i++) {
		uint16_t v;

		memcpy(&v, (const uint8_t *)p + i * sizeof(v), sizeof(v));
		json_object_array_add(list, json_object_new_int(v));
	}
	json_object_object_add(o, "values", list);
	return 0;
}

static int shm_payload(struct walk *w, const void *m, struct json_object *o)
{
	const IpcShmEntry *e = m;

	if (e->has_in_pagemaps && e->in_pagemaps)
		return 0;
	if (e->size > SIZE_MAX - 4)
		return -EBADMSG;
	return add_payload(w, o, "payload", ROUND_UP(e->size, 4));
}

static int msg_payload(struct walk *w, const void *m, struct json_object *o)
{
	const IpcMsgEntry *e = m;
	struct json_object *list = json_object_new_array();

	if (!list)
		return -ENOMEM;
	json_object_object_add(o, "messages", list);
	for (uint32_t i = 0; i < e->qnum; i++) {
		struct json_object *one;
		IpcMsg *msg;
		int r;

		r = image_get(w->r, &w->arena, ipc_msg, &msg);
		if (r <= 0)
			return r < 0 ? r : -EBADMSG;
		one = show_message(w->style, &msg->base);
		if (!one)
			return -ENOMEM;
		json_object_array_add(list, one);
		r = add_payload(w, one, "payload", ROUND_UP((size_t)msg->msize, 8));
		if (r < 0)
			return r;
	}
	return 0;
}

static int ghost_payload(struct walk *w, const void *m, struct json_object *o)
{
	const GhostFileEntry *e = m;
	struct json_object *list;
	GhostChunkEntry *c;
	int r;

	if (!e->has_chunks || !e->chunks)
		return add_payload(w, o, "payload", w->r->bytes - w->r->pos);
	list = json_object_new_array();
	if (!list)
		return -ENOMEM;
	json_object_object_add(o, "chunk", list);
	while ((r = image_get(w->r, &w->arena, ghost_chunk_entry, &c)) > 0) {
		struct json_object *one = show_message(w->style, &c->base);

		if (!one)
			return -ENOMEM;
		json_object_array_add(list, one);
		r = add_payload(w, one, "payload", c->len);
		if (r < 0)
			return r;
	}
	return r;
}

#define D(snake) &snake##__descriptor
static const struct layout layouts[] = {
	{ &image_inventory, D(inventory_entry), NULL, NULL },
	{ &image_pstree, D(pstree_entry), NULL, NULL },
	{ &image_core, D(core_entry), NULL, NULL },
	{ &image_ids, D(task_kobj_ids_entry), NULL, NULL },
	{ &image_mm, D(mm_entry), NULL, NULL },
	{ &image_pagemap, D(pagemap_head), D(pagemap_entry), NULL },
	{ &image_fs, D(fs_entry), NULL, NULL },
	{ &image_fdinfo, D(fdinfo_entry), NULL, NULL },
	{ &image_files, D(file_entry), NULL, NULL },
	{ &image_seccomp, D(seccomp_entry), NULL, NULL },
	{ &image_timens, D(timens_entry), NULL, NULL },
	{ &image_stats_dump, D(stats_entry), NULL, NULL },
	{ &image_stats_restore, D(stats_entry), NULL, NULL },
	{ &image_remap_fpath, D(remap_file_path_entry), NULL, NULL },
	{ &image_ghost_file, D(ghost_file_entry), NULL, ghost_payload },
	{ &image_pipes_data, D(pipe_data_entry), NULL, pipe_payload },
	{ &image_fifo_data, D(pipe_data_entry), NULL, pipe_payload },
	{ &image_sk_queues, D(sk_packet_entry), NULL, packet_payload },
	{ &image_tcp_stream, D(tcp_stream_entry), NULL, tcp_payload },
	{ &image_tty_info, D(tty_info_entry), NULL, NULL },
	{ &image_tty_data, D(tty_data_entry), NULL, NULL },
	{ &image_memfd, D(memfd_inode_entry), NULL, NULL },
	{ &image_pagemap_shmem, D(pagemap_head), D(pagemap_entry), NULL },
	{ &image_bpfmap_data, D(bpfmap_data_entry), NULL, bpf_payload },
	{ &image_filelocks, D(file_lock_entry), NULL, NULL },
	{ &image_apparmor, D(apparmor_entry), NULL, NULL },
	{ &image_cgroup, D(cgroup_entry), NULL, NULL },
	{ &image_cpuinfo, D(cpuinfo_entry), NULL, NULL },
	{ &image_utsns, D(utsns_entry), NULL, NULL },
	{ &image_ipcns_var, D(ipc_var_entry), NULL, NULL },
	{ &image_ipcns_shm, D(ipc_shm_entry), NULL, shm_payload },
	{ &image_ipcns_msg, D(ipc_msg_entry), NULL, msg_payload },
	{ &image_ipcns_sem, D(ipc_sem_entry), NULL, sem_payload },
	{ &image_userns, D(userns_entry), NULL, NULL },
	{ &image_mountpoints, D(mnt_entry), NULL, NULL },
	{ &image_netns, D(netns_entry), NULL, NULL },
	{ &image_netdev, D(net_device_entry), NULL, NULL },
	{ &image_pidns, D(pidns_entry), NULL, NULL },
	{ &image_autofs, D(autofs_entry), NULL, NULL },
	{ &image_binfmt_misc, D(binfmt_misc_entry), NULL, NULL },
	{ &image_irmap_cache, D(irmap_cache_entry), NULL, NULL },
};

static const struct layout *find_layout(const struct image_type *t)
{
	for (size_t i = 0; i < ARRAY_SIZE(layouts); i++)
		if (layouts[i].type == t)
			return &layouts[i];
	return NULL;
}

const ProtobufCMessageDescriptor *show_descriptor(const struct image_type *t, bool first)
{
	const struct layout *l = find_layout(t);

	if (!l)
		return NULL;
	return first || !l->rest ? l->first : l->rest;
}

static int show_entries(struct walk *w, const struct layout *l, struct json_object *list)
{
	const ProtobufCMessageDescriptor *d = l->first;
	ProtobufCMessage *m;
	int r;

	while ((r = image_get_(w->r, &w->arena, d, &m)) > 0) {
		struct json_object *o = show_message(w->style, m);

		if (!o)
			return -ENOMEM;
		json_object_array_add(list, o);
		r = l->payload ? l->payload(w, m, o) : 0;
		if (r < 0)
			return r;
		if (l->rest)
			d = l->rest;
		arena_done(&w->arena);
		arena_init(&w->arena);
	}
	return r;
}

static struct json_object *upper_name(const struct image_type *t)
{
	char text[IMAGE_NAME_MAX];
	size_t n = 0;

	for (; t->name[n] && n < sizeof(text) - 1; n++)
		text[n] = (char)toupper((unsigned char)t->name[n]);
	text[n] = '\0';
	return json_object_new_string(text);
}

int show_image(const struct show_style *style, const char *path, struct image_reader *rd,
	       struct json_object **ret)
{
	const struct layout *l = find_layout(rd->type);
	struct walk w = { .style = style, .r = rd };
	struct json_object *o = json_object_new_object(), *list;
	int r;

	if (!o)
		return -ENOMEM;
	*ret = o;
	json_object_object_add(o, "file", show_string(path, strlen(path)));
	if (!l) {
		json_object_object_add(o, "magic", json_object_new_string("RAW"));
		return add_payload(&w, o, "payload", rd->bytes);
	}
	json_object_object_add(o, "magic", upper_name(rd->type));
	list = json_object_new_array();
	if (!list)
		return -ENOMEM;
	json_object_object_add(o, "entries", list);
	arena_init(&w.arena);
	r = show_entries(&w, l, list);
	arena_done(&w.arena);
	if (r < 0)
		json_object_object_add(o, "error",
				       json_object_new_string("damaged after these entries"));
	return r;
}
