/* cr/kernel/mountinfo: recorded and hostile text. */
#define _GNU_SOURCE
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "kernel/mountinfo.h"
#include "unit.h"

static int parse(struct arena *a, const char *text, struct mount_table *t)
{
	arena_init(a);
	return mountinfo_parse(a, text, t);
}

TEST("a recorded mountinfo is read: ids, device, flags of mount and superblock, groups")
{
	static const char text[] =
		"22 1 254:1 / / ro,nosuid,relatime shared:1 - ext4 /dev/vda1 rw,discard\n"
		"35 22 0:25 /sub/dir /a\\040b rw,noexec,noatime shared:2 master:1 "
		"propagate_from:1 - tmpfs tmpfs ro,size=4k,mode=755\n"
		"36 35 0:4 net:[4026531833] /run/netns/x rw - nsfs nsfs rw\n";
	struct mount_table t;
	struct arena a;

	ASSERT_OK(parse(&a, text, &t));
	ASSERT_EQ(t.n, 3);
	ASSERT_EQ(t.mounts[0].id, 22);
	ASSERT_EQ(t.mounts[0].dev, 254 << 20 | 1);
	ASSERT_EQ(t.mounts[0].flags, MS_RDONLY | MS_NOSUID | MS_RELATIME | MS_SHARED);
	ASSERT_EQ(t.mounts[0].sb_flags, 0);
	ASSERT_STREQ(t.mounts[0].options, "discard");
	ASSERT_STREQ(t.mounts[1].mountpoint, "/a b");
	ASSERT_STREQ(t.mounts[1].root, "/sub/dir");
	ASSERT_EQ(t.mounts[1].parent_id, 22);
	ASSERT_EQ(t.mounts[1].shared_id, 2);
	ASSERT_EQ(t.mounts[1].master_id, 1);
	ASSERT_EQ(t.mounts[1].flags, MS_NOEXEC | MS_NOATIME | MS_SHARED | MS_SLAVE);
	ASSERT_EQ(t.mounts[1].sb_flags, MS_RDONLY);
	ASSERT_STREQ(t.mounts[1].options, "size=4k,mode=755");
	ASSERT_STREQ(t.mounts[2].root, "net:[4026531833]");
	ASSERT(mount_by_id(&t, 36) == &t.mounts[2]);
	ASSERT(!mount_by_id(&t, 7));
	arena_done(&a);
}

TEST("removed roots, empty sources, unbindable and unknown tags are understood")
{
	static const char text[] =
		"5 1 0:9 /gone//deleted /x rw unbindable future:3 - tmpfs  rw\n"
		"6 5 0:9 //deleted /x/y rw - tmpfs none rw\n";
	struct mount_table t;
	struct arena a;

	ASSERT_OK(parse(&a, text, &t));
	ASSERT(t.mounts[0].deleted);
	ASSERT_STREQ(t.mounts[0].root, "/gone");
	ASSERT_STREQ(t.mounts[0].source, "");
	ASSERT_STREQ(t.mounts[0].options, "");
	ASSERT_EQ(t.mounts[0].flags, MS_UNBINDABLE);
	ASSERT_STREQ(t.mounts[1].root, "/");
	arena_done(&a);
}

TEST("damaged mountinfo lines are refused, not guessed")
{
	static const char *const bad[] = {
		"x 1 0:1 / / rw - proc proc rw\n",
		"1 1 01 / / rw - proc proc rw\n",
		"1 1 0:1 / / rw\n",
		"1 1 0:1 / / rw shared:1\n",
		"1 1 0:1 / / rw shared:x - proc proc rw\n",
		"1 1 0:1 / / rw - proc\n",
		"1 1 0:1 / relative rw - proc proc rw\n",
		"1 1 0:1 / /a/../b rw - proc proc rw\n",
		"1 1 5000:1 / / rw - proc proc rw\n",
		"99999999999 1 0:1 / / rw - proc proc rw\n",
		"\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct mount_table t;
		struct arena a;

		ASSERT_EQ(parse(&a, bad[i], &t), -EBADMSG);
		arena_done(&a);
	}
}

TEST("a path is below another only at a slash")
{
	ASSERT_STREQ(path_below("/a/b/c", "/a"), "b/c");
	ASSERT_STREQ(path_below("/a", "/a"), "");
	ASSERT_STREQ(path_below("/a", "/"), "a");
	ASSERT_STREQ(path_below("/", "/"), "");
	ASSERT(!path_below("/ab", "/a"));
	ASSERT(!path_below("/", "/a"));
}

TEST("only plain absolute paths count as normal")
{
	static const char *const bad[] = { "", "a", "/a/", "//", "/a//b", "/.", "/..", "/a/./b",
					   "/a/../b", "/a/.." };
	char *p = malloc(10000);

	ASSERT(path_is_normal("/") && path_is_normal("/a/b") && path_is_normal("/..a/.b/c.."));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT(!path_is_normal(bad[i]));
	memset(p, 'x', 9999);
	p[0] = '/';
	p[9999] = '\0';
	ASSERT(!path_is_normal(p));
	free(p);
}

TEST("stat's device numbers become the kernel's")
{
	ASSERT_EQ(dev_to_kernel(makedev(254, 3)), 254 << 20 | 3);
	ASSERT_EQ(dev_to_kernel(makedev(0, 300)), 300);
}
