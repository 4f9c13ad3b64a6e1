build-san/obj/cr/cmd/show_image.o: cr/cmd/show_image.c cr/cmd/show.h \
 cr/image/image.h cr/util/arena.h cr/util/macro.h cr/image/pages.h \
 cr/image/proto.h build-san/proto/core.pb-c.h build-san/proto/task.pb-c.h \
 build-san/proto/events.pb-c.h build-san/proto/fown.pb-c.h \
 build-san/proto/files.pb-c.h build-san/proto/events.pb-c.h \
 build-san/proto/sockets.pb-c.h build-san/proto/tty.pb-c.h \
 build-san/proto/fown.pb-c.h build-san/proto/inventory.pb-c.h \
 build-san/proto/core.pb-c.h build-san/proto/ipc.pb-c.h \
 build-san/proto/mm.pb-c.h build-san/proto/net.pb-c.h \
 build-san/proto/files.pb-c.h build-san/proto/ns.pb-c.h \
 build-san/proto/rpc.pb-c.h build-san/proto/sockets.pb-c.h \
 build-san/proto/task.pb-c.h build-san/proto/tty.pb-c.h
cr/cmd/show.h:
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
