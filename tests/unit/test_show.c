/* cr show: every message is understood, hints are right, hostile text stays harmless. */
#define _GNU_SOURCE
#include "image_fixture.h"

#include "cmd/show.h"

/* The JSON (or the tree meant for text) of one image. */
static char *shown(struct fixture *f, const struct image_type *t, uint64_t number, bool json,
		   int want)
{
	struct show_style style = { .json = json };
	struct json_object *o = NULL;
	struct image_reader rd;
	char *text;

	ASSERT_OK(image_open(f->store, t, &rd, number));
	ASSERT_EQ(show_image(&style, rd.name, &rd, &o), want);
	text = strdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
						     JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
	image_reader_done(&rd);
	return text;
}

#define ASSERT_SHOWN(f, t, number, json, part)					\
	do {									\
		char *_text = shown(f, t, number, json, 0);			\
		ASSERT_CONTAINS(_text, part);					\
		free(_text);							\
	} while (0)

static bool recurses(const ProtobufCMessageDescriptor *d, int depth)
{
	if (depth > 20)
		return true;
	for (unsigned int i = 0; i < d->n_fields; i++)
		if (d->fields[i].type == PROTOBUF_C_TYPE_MESSAGE &&
		    recurses(d->fields[i].descriptor, depth + 1))
			return true;
	return false;
}

static const struct image_type *const all_types[] = {
#define TYPE(n) &image_##n,
	IMAGE_TYPES(TYPE)
};

TEST("every image with a magic has a known message, every raw one has none")
{
	for (size_t i = 0; i < ARRAY_SIZE(all_types); i++) {
		const struct image_type *t = all_types[i];

		if (!!show_descriptor(t, true) != (t->framing != IMAGE_RAW))
			unit_fail(__FILE__, __LINE__, "type %s", t->name);
		ASSERT_EQ(!t->magic, t->framing == IMAGE_RAW);
	}
}

TEST("only the two messages whose nesting is checked can nest without end")
{
	for (size_t i = 0; i < 2 * ARRAY_SIZE(all_types); i++) {
		const ProtobufCMessageDescriptor *d = show_descriptor(all_types[i / 2], i % 2);

		if (d)
			ASSERT_EQ(recurses(d, 0), d == &cgroup_entry__descriptor ||
				  d == &apparmor_entry__descriptor);
	}
	ASSERT(!recurses(&criu_req__descriptor, 0));
	ASSERT(!recurses(&criu_resp__descriptor, 0));
}

TEST("numbers are shown as the fields like it: hexadecimal, flags, names, signed")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	VmaEntry v = VMA_ENTRY__INIT, *vs[] = { &v };
	MmEntry m = MM_ENTRY__INIT;
	InetSkEntry sk = INET_SK_ENTRY__INIT;
	FownEntry fown = FOWN_ENTRY__INIT;
	SkOptsEntry opts = SK_OPTS_ENTRY__INIT;
	FileEntry fe = FILE_ENTRY__INIT;
	uint32_t v4[] = { 0x0100007f }, v6[] = { 0, 0, 0, 0x01000000 };

	v.start = 0x7ffff7fc1000;
	v.prot = 3;
	v.status = 0x201;
	v.flags = 0x80000022;
	v.fd = -1;
	m.vmas = vs;
	m.n_vmas = 1;
	m.has_dumpable = true;
	m.dumpable = -5;
	ASSERT_OK(image_write_one(f.store, &image_mm, &m.base, 1));
	ASSERT_SHOWN(&f, &image_mm, 1, true, "\"magic\":\"MM\"");
	ASSERT_SHOWN(&f, &image_mm, 1, true, "\"start\":\"0x7ffff7fc1000\"");
	ASSERT_SHOWN(&f, &image_mm, 1, true, "\"prot\":\"PROT_READ | PROT_WRITE\"");
	ASSERT_SHOWN(&f, &image_mm, 1, true, "\"status\":\"VMA_AREA_REGULAR | VMA_ANON_PRIVATE\"");
	ASSERT_SHOWN(&f, &image_mm, 1, true, "\"flags\":\"MAP_PRIVATE | MAP_ANON | 0x80000000\"");
	ASSERT_SHOWN(&f, &image_mm, 1, true, "\"fd\":-1");
	ASSERT_SHOWN(&f, &image_mm, 1, true, "\"dumpable\":-5");
	fe.type = FD_TYPES__INETSK;
	fe.isk = &sk;
	sk.fown = &fown;
	sk.opts = &opts;
	sk.family = 10;
	sk.state = 10;
	sk.src_addr = v6;
	sk.n_src_addr = 4;
	sk.dst_addr = v4;
	sk.n_dst_addr = 1;
	ASSERT_OK(image_write_one(f.store, &image_files, &fe.base));
	ASSERT_SHOWN(&f, &image_files, 0, true, "\"type\":\"INETSK\"");
	ASSERT_SHOWN(&f, &image_files, 0, true, "\"family\":\"INET6\"");
	ASSERT_SHOWN(&f, &image_files, 0, true, "\"state\":\"LISTEN\"");
	ASSERT_SHOWN(&f, &image_files, 0, true,
		     "\"src_addr\":[\"::1\"],\"dst_addr\":[\"127.0.0.1\"]");
	fixture_end(&f);
}

TEST("absent optional fields are left out, present zeroes are not")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	FsEntry e = FS_ENTRY__INIT;

	ASSERT_OK(image_write_one(f.store, &image_fs, &e.base, 1));
	e.has_umask = true;
	ASSERT_OK(image_write_one(f.store, &image_fs, &e.base, 2));
	ASSERT_SHOWN(&f, &image_fs, 1, true, "[{\"cwd_id\":0,\"root_id\":0}]");
	ASSERT_SHOWN(&f, &image_fs, 2, true, "[{\"cwd_id\":0,\"root_id\":0,\"umask\":0}]");
	fixture_end(&f);
}

TEST("control characters, broken and over-long UTF-8 are escaped, good UTF-8 is kept")
{
	static const struct { const char *in, *out; } rows[] = {
		{ "plain", "plain" }, { "\x1b[2J", "\\x1b[2J" }, { "a\nb\x7f", "a\\x0ab\\x7f" },
		{ "\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7" },
		{ "\xc0\xaf", "\\xc0\\xaf" }, { "\xe2\x82", "\\xe2\\x82" }, { "\xff", "\\xff" },
		{ "\xed\xa0\x80", "\\xed\\xa0\\x80" }, { "\xc2\x9b", "\\xc2\\x9b" },
		{ "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80" }, { "", "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct json_object *o = show_string(rows[i].in, strlen(rows[i].in));

		ASSERT_STREQ(json_object_get_string(o), rows[i].out);
		json_object_put(o);
	}
}

TEST("bytes are base64 in JSON, and text or hexadecimal otherwise")
{
	static const struct { size_t n; const char *json, *text; } rows[] = {
		{ 0, "", "" }, { 1, "AA==", "00" }, { 2, "AP8=", "00 ff" },
		{ 3, "AP8B", "00 ff 01" }, { 4, "AP8B/g==", "00 ff 01 fe" },
	};
	struct show_style json = { .json = true }, text = { 0 };
	struct json_object *o;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		o = show_bytes(&json, "\x00\xff\x01\xfe", rows[i].n, 100);
		ASSERT_STREQ(json_object_get_string(o), rows[i].json);
		json_object_put(o);
		o = show_bytes(&text, "\x00\xff\x01\xfe", rows[i].n, 100);
		ASSERT_STREQ(json_object_get_string(o), rows[i].text);
		json_object_put(o);
	}
	o = show_bytes(&text, "GET / HTTP/1.1\r\n", 16, 5);
	ASSERT_STREQ(json_object_get_string(o), "GET /");
	json_object_put(o);
}

TEST("payloads are shown by length and beginning, and skipped to the next entry")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	TcpStreamEntry t = TCP_STREAM_ENTRY__INIT;
	IpcSemEntry sem = IPC_SEM_ENTRY__INIT;
	IpcDescEntry desc = IPC_DESC_ENTRY__INIT;
	IpcMsgEntry q = IPC_MSG_ENTRY__INIT;
	IpcMsg msg = IPC_MSG__INIT;
	struct image_writer *w;
	const uint16_t sems[] = { 1, 2, 65535, 0 };

	t.inq_len = 3;
	t.outq_len = 100;
	ASSERT_OK(image_create(f.store, &image_tcp_stream, &w, 0xab));
	ASSERT_OK(image_put(w, &t.base));
	ASSERT_OK(image_put_raw(w, "PIN", 3));
	for (int i = 0; i < 10; i++)
		ASSERT_OK(image_put_raw(w, "0123456789", 10));
	ASSERT_OK(image_close(w));
	ASSERT_SHOWN(&f, &image_tcp_stream, 0xab, false,
		     "\"inq\":{\"bytes\":3,\"data\":\"PIN\"},"
		     "\"outq\":{\"bytes\":100,\"begins\":\"0123");
	sem.desc = q.desc = &desc;
	sem.nsems = 3;
	ASSERT_OK(image_create(f.store, &image_ipcns_sem, &w, 1));
	for (int i = 0; i < 2; i++) {
		ASSERT_OK(image_put(w, &sem.base));
		ASSERT_OK(image_put_raw(w, sems, 8));
	}
	ASSERT_OK(image_close(w));
	ASSERT_SHOWN(&f, &image_ipcns_sem, 1, true, "\"values\":[1,2,65535]},{");
	q.qnum = 2;
	msg.msize = 5;
	ASSERT_OK(image_create(f.store, &image_ipcns_msg, &w, 1));
	ASSERT_OK(image_put(w, &q.base));
	for (int i = 0; i < 2; i++) {
		ASSERT_OK(image_put(w, &msg.base));
		ASSERT_OK(image_put_raw(w, "hello\0\0", 8));
	}
	ASSERT_OK(image_close(w));
	ASSERT_SHOWN(&f, &image_ipcns_msg, 1, true, "\"msize\":5,\"payload\":{\"bytes\":8");
	fixture_end(&f);
}

TEST("a damaged image shows what came before the damage, and is an error")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	PipeDataEntry e = PIPE_DATA_ENTRY__INIT;
	struct image_writer *w;
	char *text;

	e.bytes = 1000;
	ASSERT_OK(image_create(f.store, &image_pipes_data, &w));
	ASSERT_OK(image_put(w, &e.base));
	ASSERT_OK(image_put_raw(w, "short", 5));
	ASSERT_OK(image_close(w));
	text = shown(&f, &image_pipes_data, 0, true, -EBADMSG);
	ASSERT_CONTAINS(text, "\"bytes\":1000");
	ASSERT_CONTAINS(text, "\"error\"");
	ASSERT_CONTAINS(log_first_error(), "pipes-data.img");
	free(text);
	fixture_end(&f);
}

/* What cmd_show() prints on stdout. */
static char *run_show(int want, char **argv, int argc)
{
	char *path = str_fmt("%s/out", unit_tmpdir()), *text;

	ASSERT(freopen(path, "w", stdout));
	/* From here on a failure's text goes to the file: keep the status. */
	if (cmd_show(argc, argv) != want)
		_exit(1);
	fflush(stdout);
	ASSERT_OK(read_file_at(AT_FDCWD, path, READ_FILE_MAX, &text, NULL));
	free(path);
	return text;
}

TEST("a directory is shown as one JSON array of its images, other files passed over")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	char *argv[] = { (char *)"show", (char *)"-j", (char *)unit_tmpdir() }, *text;
	struct json_object *o;
	FsEntry e = FS_ENTRY__INIT;

	put_task(f.store, 1);
	ASSERT_OK(image_write_one(f.store, &image_fs, &e.base, 1));
	close(openat(f.dirfd, "dump.log", O_CREAT | O_WRONLY, 0600));
	text = run_show(0, argv, 3);
	o = json_tokener_parse(text);
	if (!json_object_is_type(o, json_type_array) || json_object_array_length(o) != 2)
		_exit(2);
	json_object_put(o);
	free(text);
	fixture_end(&f);
}

TEST("unknown files, missing files and missing arguments are failures")
{
	char *argv[] = { (char *)"show", NULL, NULL };
	char *path = str_fmt("%s/noise.bin", unit_tmpdir());

	log_init(LOGLEVEL_NONE, -1);
	argv[1] = path;
	ASSERT_EQ(cmd_show(2, argv), EXIT_FAILURE);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	log_init(LOGLEVEL_NONE, -1);
	ASSERT_EQ(cmd_show(2, argv), EXIT_FAILURE);
	ASSERT_CONTAINS(log_first_error(), "not an image");
	ASSERT(freopen("/dev/null", "w", stderr));
	ASSERT_EQ(cmd_show(1, argv), EXIT_FAILURE);
	argv[1] = (char *)"--nonsense";
	ASSERT_EQ(cmd_show(2, argv), EXIT_FAILURE);
	free(path);
}
