/* The manifest: what is written is read back; what is damaged or hostile is refused. */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "crkexec/manifest.h"
#include "unit.h"
#include "util/io.h"
#include "util/log.h"

static char *dup_or_die(const char *s)
{
	char *d = strdup(s);

	ASSERT(d);
	return d;
}

#define NEW_ARRAY(ptr, count, n)					\
	do {								\
		(ptr) = calloc((n), sizeof(*(ptr)));			\
		(count) = (n);						\
		ASSERT(ptr);						\
	} while (0)

static void fill_unit(struct manifest_unit *u)
{
	u->name = dup_or_die("redis-server.service");
	u->cgroup = dup_or_die("/system.slice/redis-server.service");
	u->type = dup_or_die("notify");
	u->main_pid = 4194304;
	u->n_connections = UINT32_MAX;
	u->image_bytes = UINT64_MAX;
	u->outcome = OUTCOME_COLD;
	u->reason = dup_or_die("two\nlines\x01");
	u->frozen_at_usec = 1795000000000000;
	NEW_ARRAY(u->trees, u->n_trees, 1);
	u->trees[0].root_pid = 1;
	u->trees[0].dir = dup_or_die("redis-server.service");
	u->trees[0].bundle_hash = UINT64_MAX;
	u->trees[0].pre_dump_bytes = 6ull << 40;
	u->trees[0].pre_dump_hash = UINT64_MAX - 1;
	NEW_ARRAY(u->trees[0].images, u->trees[0].n_images, 2);
	u->trees[0].images[0].name = dup_or_die("core-1.img");
	u->trees[0].images[0].hash = 0x0123456789abcdef;
	u->trees[0].images[1].name = dup_or_die("pages-1.img");
	u->trees[0].images[1].bytes = 5ull << 40;
	NEW_ARRAY(u->carries, u->n_carries, 1);
	u->carries[0].path = dup_or_die("/run/redis");
	u->carries[0].archive = dup_or_die("carry-0.tar.gz.img");
	u->carries[0].only_dir = true;
	NEW_ARRAY(u->streams, u->n_streams, 1);
	u->streams[0].socket_ino = 4711;
}

static void fill_machine(struct manifest *m)
{
	NEW_ARRAY(m->mounts, m->n_mounts, 1);
	m->mounts[0].source = dup_or_die("UUID=1-2");
	m->mounts[0].target = dup_or_die("/");
	m->mounts[0].fstype = dup_or_die("ext4");
	m->mounts[0].options = dup_or_die("");
	m->mounts[0].flags = 1u << 21;
	NEW_ARRAY(m->links, m->n_links, 1);
	m->links[0].name = dup_or_die("ens6");
	m->links[0].mac = dup_or_die("52:54:00:12:34:56");
	NEW_ARRAY(m->links[0].addresses, m->links[0].n_addresses, 1);
	m->links[0].addresses[0].address = dup_or_die("10.77.0.2/24");
	m->links[0].addresses[0].family = AF_INET;
	NEW_ARRAY(m->routes, m->n_routes, 1);
	m->routes[0].dst = dup_or_die("default");
	m->routes[0].dev = dup_or_die("ens6");
	m->routes[0].flags = 4;
	NEW_ARRAY(m->routes[0].metrics, m->routes[0].n_metrics, 1);
	m->routes[0].metrics[0].type = 2;
	m->routes[0].metrics[0].value = UINT32_MAX;
	NEW_ARRAY(m->lo_addresses, m->n_lo_addresses, 1);
	m->lo_addresses[0].address = dup_or_die("10.66.0.1/32");
	NEW_ARRAY(m->policy_rules, m->n_policy_rules, 1);
	m->policy_rules[0] = dup_or_die("20000000");
	NEW_ARRAY(m->network_modules, m->n_network_modules, 1);
	m->network_modules[0] = dup_or_die("virtio_net.ko.xz napi_tx=0 path=/a/../b");
	NEW_ARRAY(m->modules, m->n_modules, 1);
	m->modules[0] = dup_or_die("virtio_blk.ko.xz");
	NEW_ARRAY(m->ranges, m->n_ranges, 1);
	m->ranges[0].addr = 0xffffffff00000000;
}

static struct manifest *sample(void)
{
	struct manifest *m = manifest_new();

	ASSERT(m);
	m->id = dup_or_die("0123456789abcdef");
	m->kernel_from = dup_or_die("6.12.1");
	m->kernel_to = dup_or_die("7.2.0+x");
	m->store = STORE_PMEM;
	m->clock.realtime_nsec = INT64_MAX;
	m->clock.monotonic_nsec = -1;
	m->clock.tsc = UINT64_MAX;
	NEW_ARRAY(m->units, m->n_units, 1);
	fill_unit(&m->units[0]);
	fill_machine(m);
	ASSERT_EQ(manifest_add_phase(m, "freeze", 1, 2), 0);
	ASSERT_EQ(manifest_add_warning(m, "%s!", "mind"), 0);
	return m;
}

static void check_sample(const struct manifest *m)
{
	ASSERT_STREQ(m->id, "0123456789abcdef");
	ASSERT_EQ(m->store, STORE_PMEM);
	ASSERT_EQ(m->clock.realtime_nsec, INT64_MAX);
	ASSERT_EQ(m->clock.monotonic_nsec, -1);
	ASSERT(m->clock.tsc == UINT64_MAX);
	ASSERT_EQ(m->n_units, 1u);
	ASSERT_EQ(m->units[0].main_pid, 4194304);
	ASSERT_EQ(m->units[0].outcome, OUTCOME_COLD);
	ASSERT_STREQ(m->units[0].reason, "two lines ");
	ASSERT(m->units[0].image_bytes == UINT64_MAX);
	ASSERT(m->units[0].identifier == NULL);
	ASSERT(m->units[0].trees[0].bundle_hash == UINT64_MAX);
	ASSERT_EQ(m->units[0].trees[0].pre_dump_bytes, 6ull << 40);
	ASSERT(m->units[0].trees[0].pre_dump_hash == UINT64_MAX - 1);
	ASSERT_EQ(m->units[0].trees[0].n_images, 2u);
	ASSERT_EQ(m->units[0].trees[0].images[0].hash, 0x0123456789abcdefull);
	ASSERT(m->units[0].carries[0].only_dir);
	ASSERT_EQ(m->units[0].streams[0].socket_ino, 4711u);
	ASSERT_STREQ(m->links[0].addresses[0].address, "10.77.0.2/24");
	ASSERT(m->routes[0].via == NULL);
	ASSERT_EQ(m->routes[0].flags, 4u);
	ASSERT_EQ(m->routes[0].n_metrics, 1u);
	ASSERT_EQ(m->routes[0].metrics[0].value, UINT32_MAX);
	ASSERT_STREQ(m->lo_addresses[0].address, "10.66.0.1/32");
	ASSERT_STREQ(m->policy_rules[0], "20000000");
	ASSERT(m->ranges[0].addr == 0xffffffff00000000ull);
	ASSERT_STREQ(m->phases[0].name, "freeze");
	ASSERT_STREQ(m->warnings[0], "mind!");
}

TEST("a manifest comes back as it was written")
{
	struct manifest *m = sample(), *back;
	char *text;
	size_t n;

	ASSERT_EQ(manifest_to_text(m, &text, &n), 0);
	ASSERT_EQ(manifest_from_text(text, n, &back), 0);
	check_sample(back);
	free(text);
	manifest_free(m);
	manifest_free(back);
}

TEST("a manifest file is private, complete and loads again")
{
	_cleanup_close_ int dirfd = open(unit_tmpdir(), O_RDONLY | O_DIRECTORY);
	struct manifest *m = sample(), *back;
	struct stat st;

	ASSERT_EQ(manifest_save(m, dirfd, "m.json"), 0);
	ASSERT_EQ(manifest_save(m, dirfd, "m.json"), 0);
	ASSERT_EQ(fstatat(dirfd, "m.json", &st, 0), 0);
	ASSERT_EQ(st.st_mode & 07777, 0600);
	ASSERT(faccessat(dirfd, "m.json.new", F_OK, 0) < 0);
	ASSERT_EQ(manifest_load(dirfd, "m.json", &back), 0);
	check_sample(back);
	manifest_free(m);
	manifest_free(back);
	ASSERT_EQ(manifest_load(dirfd, "none.json", &back), -ENOENT);
}

TEST("a flipped bit anywhere in a manifest is noticed")
{
	struct manifest *m = sample(), *back = NULL;
	char *text;
	size_t n;

	log_init(LOGLEVEL_NONE, -1);
	ASSERT_EQ(manifest_to_text(m, &text, &n), 0);
	for (size_t i = 0; i < n; i++) {
		text[i] ^= 1 << (i % 8);
		ASSERT_EQ(manifest_from_text(text, n, &back), -EBADMSG);
		text[i] ^= 1 << (i % 8);
	}
	for (size_t i = 0; i < n; i++)
		ASSERT_EQ(manifest_from_text(text, i, &back), -EBADMSG);
	free(text);
	manifest_free(m);
}

/* With a right checksum, so that only the contents are judged. */
static int load_json(const char *json)
{
	_cleanup_free_ char *text = NULL;
	struct manifest *m = NULL;
	int r;

	text = str_fmt("%s\nxxh3 %016llx\n", json, (unsigned long long)XXH3_64bits(json, strlen(json)));
	ASSERT(text);
	r = manifest_from_text(text, strlen(text), &m);
	manifest_free(m);
	return r;
}

#define HEAD "\"id\":\"0123456789abcdef\",\"kernel_from\":\"a\",\"kernel_to\":\"b\""
#define UNIT(more) "{" HEAD ",\"units\":[{\"name\":\"a.service\",\"cgroup\":\"/a\"," \
	"\"type\":\"simple\"" more "}]}"

TEST("the least a manifest may hold is accepted, unknown keys are passed over")
{
	ASSERT_EQ(load_json("{" HEAD "}"), 0);
	ASSERT_EQ(load_json("{" HEAD ",\"colour\":{\"x\":[1,2]}}"), 0);
	ASSERT_EQ(load_json(UNIT("")), 0);
	ASSERT_EQ(load_json(UNIT(",\"trees\":[{\"root_pid\":5,\"dir\":\"a.service/0\"}]")), 0);
	ASSERT_EQ(load_json("{" HEAD ",\"routes\":[{\"dst\":\"default\",\"dev\":\"eth0\"}]}"), 0);
}

TEST("hostile values in a manifest are refused")
{
	static const char *const bad[] = {
		"", "[]", "null", "{", "{}", "{" HEAD "} x",
		"{\"id\":\"0123456789abcdeg\",\"kernel_from\":\"a\",\"kernel_to\":\"b\"}",
		"{\"id\":\"0123456789abcde\",\"kernel_from\":\"a\",\"kernel_to\":\"b\"}",
		"{\"id\":5,\"kernel_from\":\"a\",\"kernel_to\":\"b\"}",
		"{\"id\":\"0123456789abcdef\",\"kernel_from\":\"a/b\",\"kernel_to\":\"b\"}",
		"{" HEAD ",\"store\":\"floppy\"}", "{" HEAD ",\"store\":1}",
		"{" HEAD ",\"units\":{}}", "{" HEAD ",\"units\":[1]}", "{" HEAD ",\"units\":[{}]}",
		"{" HEAD ",\"clock\":[]}", "{" HEAD ",\"clock\":{\"tsc\":-1}}",
		"{" HEAD ",\"clock\":{\"tsc\":1.5}}", "{" HEAD ",\"clock\":{\"tsc\":\"1\"}}",
		"{" HEAD ",\"modules\":[\"/etc/passwd\"]}", "{" HEAD ",\"modules\":[\"../x\"]}",
		"{" HEAD ",\"modules\":[\" x=1\"]}", "{" HEAD ",\"modules\":[\"a/b x=1\"]}",
		"{" HEAD ",\"modules\":[\"a\\u0000b\"]}", "{" HEAD ",\"modules\":[null]}",
		"{" HEAD ",\"ranges\":[{\"addr\":\"xyz\"}]}",
		"{" HEAD ",\"routes\":[{\"dst\":\"default\",\"flags\":-1}]}",
		"{" HEAD ",\"routes\":[{\"dst\":\"default\",\"metrics\":[{\"type\":\"2\"}]}]}",
		"{" HEAD ",\"policy_rules\":[32]}",
		"{" HEAD ",\"ranges\":[{\"addr\":\"12345678901234567\"}]}",
		"{" HEAD ",\"root_init\":\"sbin/init\"}",
		"{" HEAD ",\"units\":[{\"name\":\"a.socket\",\"cgroup\":\"/a\",\"type\":\"simple\"}]}",
		"{" HEAD ",\"units\":[{\"name\":\"../a.service\",\"cgroup\":\"/a\",\"type\":\"x\"}]}",
		"{" HEAD ",\"units\":[{\"name\":\"a.service\",\"cgroup\":\"/a/../b\",\"type\":\"x\"}]}",
		UNIT(",\"main_pid\":-1"), UNIT(",\"main_pid\":4194305"), UNIT(",\"main_pid\":1e3"),
		UNIT(",\"n_tasks\":4294967296"), UNIT(",\"n_tasks\":18446744073709551615"),
		UNIT(",\"outcome\":\"splendid\""), UNIT(",\"reason\":\"a\\nb\""),
		UNIT(",\"trees\":[{\"root_pid\":0,\"dir\":\"a\"}]"),
		UNIT(",\"trees\":[{\"root_pid\":5}]"),
		UNIT(",\"trees\":[{\"root_pid\":5,\"dir\":\"a/../../etc\"}]"),
		UNIT(",\"trees\":[{\"root_pid\":5,\"dir\":\"/etc\"}]"),
		UNIT(",\"trees\":[{\"root_pid\":5,\"dir\":\"a\",\"images\":[{\"name\":\"x/y\"}]}]"),
		UNIT(",\"carries\":[{\"path\":\"run/x\"}]"), UNIT(",\"carries\":[{\"path\":\"/..\"}]"),
		UNIT(",\"carries\":[{\"path\":\"/x\",\"archive\":\"..\"}]"),
		UNIT(",\"carries\":[{\"path\":\"/x\",\"only_dir\":1}]"),
		UNIT(",\"streams\":[{\"socket_ino\":-5}]"),
		"{" HEAD ",\"a\":[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}",
	};

	log_init(LOGLEVEL_NONE, -1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (load_json(bad[i]) != -EBADMSG)
			unit_fail(__FILE__, __LINE__, "accepted: %s", bad[i]);
}

TEST("a unit that stands in a manifest twice is refused")
{
	log_init(LOGLEVEL_NONE, -1);
	ASSERT_EQ(load_json("{" HEAD ",\"units\":["
			    "{\"name\":\"a.service\",\"cgroup\":\"/a\",\"type\":\"x\"},"
			    "{\"name\":\"a.service\",\"cgroup\":\"/b\",\"type\":\"x\"}]}"), -EBADMSG);
}

TEST("what could not be read back is not written")
{
	struct manifest *m = sample();
	char *text;
	size_t n;

	log_init(LOGLEVEL_NONE, -1);
	free(m->units[0].trees[0].dir);
	m->units[0].trees[0].dir = dup_or_die("../outside");
	ASSERT_EQ(manifest_to_text(m, &text, &n), -EINVAL);
	free(m->units[0].trees[0].dir);
	m->units[0].trees[0].dir = NULL;
	ASSERT_EQ(manifest_to_text(m, &text, &n), -EINVAL);
	manifest_free(m);
}
