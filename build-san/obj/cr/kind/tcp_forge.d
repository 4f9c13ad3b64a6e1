build-san/obj/cr/kind/tcp_forge.o: cr/kind/tcp_forge.c cr/kind/sk_inet.h \
 cr/kind/sk_common.h cr/kernel/sockdiag.h cr/util/arena.h cr/util/macro.h \
 cr/util/map.h cr/kind/kind.h cr/core/dump.h cr/cr.h cr/image/image.h \
 cr/image/proto.h build-san/proto/core.pb-c.h build-san/proto/task.pb-c.h \
 build-san/proto/events.pb-c.h build-san/proto/fown.pb-c.h \
 build-san/proto/files.pb-c.h build-san/proto/events.pb-c.h \
 build-san/proto/sockets.pb-c.h build-san/proto/tty.pb-c.h \
 build-san/proto/fown.pb-c.h build-san/proto/inventory.pb-c.h \
 build-san/proto/core.pb-c.h build-san/proto/ipc.pb-c.h \
 build-san/proto/mm.pb-c.h build-san/proto/net.pb-c.h \
 build-san/proto/files.pb-c.h build-san/proto/ns.pb-c.h \
 build-san/proto/rpc.pb-c.h build-san/proto/sockets.pb-c.h \
 build-san/proto/task.pb-c.h build-san/proto/tty.pb-c.h \
 cr/remote/remote.h cr/util/io.h cr/util/log.h cr/core/restore.h \
 cr/image/pages.h cr/netlock/netlock.h
cr/kind/sk_inet.h:
cr/kind/sk_common.h:
cr/kernel/sockdiag.h:
cr/util/arena.h:
cr/util/macro.h:
cr/util/map.h:
cr/kind/kind.h:
cr/core/dump.h:
cr/cr.h:
cr/image/image.h:
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
cr/remote/remote.h:
cr/util/io.h:
cr/util/log.h:
cr/core/restore.h:
cr/image/pages.h:
cr/netlock/netlock.h:
