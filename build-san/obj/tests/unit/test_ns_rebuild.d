build-san/obj/tests/unit/test_ns_rebuild.o: tests/unit/test_ns_rebuild.c \
 tests/unit/image_fixture.h cr/image/image.h cr/util/arena.h \
 cr/util/macro.h cr/image/pages.h cr/image/proto.h \
 build-san/proto/core.pb-c.h build-san/proto/task.pb-c.h \
 build-san/proto/events.pb-c.h build-san/proto/fown.pb-c.h \
 build-san/proto/files.pb-c.h build-san/proto/events.pb-c.h \
 build-san/proto/sockets.pb-c.h build-san/proto/tty.pb-c.h \
 build-san/proto/fown.pb-c.h build-san/proto/inventory.pb-c.h \
 build-san/proto/core.pb-c.h build-san/proto/ipc.pb-c.h \
 build-san/proto/mm.pb-c.h build-san/proto/net.pb-c.h \
 build-san/proto/files.pb-c.h build-san/proto/ns.pb-c.h \
 build-san/proto/rpc.pb-c.h build-san/proto/sockets.pb-c.h \
 build-san/proto/task.pb-c.h build-san/proto/tty.pb-c.h tests/unit/unit.h \
 cr/util/io.h cr/util/log.h cr/ns/state.h cr/kernel/mountinfo.h \
 cr/ns/ns.h cr/core/dump.h cr/cr.h cr/remote/remote.h cr/util/map.h \
 cr/core/restore.h tests/live/make/ns_sandbox.h
tests/unit/image_fixture.h:
cr/image/image.h:
cr/util/arena.h:
cr/util/macro.h:
cr/image/pages.h:
cr/image/proto.h:
build-san/proto/core.pb-c.h:
build-san/proto/task.pb-c.h:
build-san/proto/events.pb-c.h:
build-san/proto/fown.pb-c.h:
build-san/proto/files.pb-c.h:
build-san/proto/events.pb-c.h:
build-san/proto/sockets.pb-c.h:
build-san/proto/tty.pb-c.h:
build-san/proto/fown.pb-c.h:
build-san/proto/inventory.pb-c.h:
build-san/proto/core.pb-c.h:
build-san/proto/ipc.pb-c.h:
build-san/proto/mm.pb-c.h:
build-san/proto/net.pb-c.h:
build-san/proto/files.pb-c.h:
build-san/proto/ns.pb-c.h:
build-san/proto/rpc.pb-c.h:
build-san/proto/sockets.pb-c.h:
build-san/proto/task.pb-c.h:
build-san/proto/tty.pb-c.h:
tests/unit/unit.h:
cr/util/io.h:
cr/util/log.h:
cr/ns/state.h:
cr/kernel/mountinfo.h:
cr/ns/ns.h:
cr/core/dump.h:
cr/cr.h:
cr/remote/remote.h:
cr/util/map.h:
cr/core/restore.h:
tests/live/make/ns_sandbox.h:
