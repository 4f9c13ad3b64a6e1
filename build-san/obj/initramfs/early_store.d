build-san/obj/initramfs/early_store.o: initramfs/early_store.c \
 initramfs/early_store.h cr/image/image.h cr/util/arena.h cr/util/macro.h \
 initramfs/early.h crkexec/manifest.h cr/image/proto.h \
 build-san/proto/core.pb-c.h build-san/proto/task.pb-c.h \
 build-san/proto/events.pb-c.h build-san/proto/fown.pb-c.h \
 build-san/proto/files.pb-c.h build-san/proto/events.pb-c.h \
 build-san/proto/sockets.pb-c.h build-san/proto/tty.pb-c.h \
 build-san/proto/fown.pb-c.h build-san/proto/inventory.pb-c.h \
 build-san/proto/core.pb-c.h build-san/proto/ipc.pb-c.h \
 build-san/proto/mm.pb-c.h build-san/proto/net.pb-c.h \
 build-san/proto/files.pb-c.h build-san/proto/ns.pb-c.h \
 build-san/proto/rpc.pb-c.h build-san/proto/sockets.pb-c.h \
 build-san/proto/task.pb-c.h build-san/proto/tty.pb-c.h \
 initramfs/early_store_pmem.h crkexec/pmem_iomem.h crkexec/pmem_layout.h \
 cr/util/io.h cr/util/log.h
initramfs/early_store.h:
cr/image/image.h:
cr/util/arena.h:
cr/util/macro.h:
initramfs/early.h:
crkexec/manifest.h:
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
initramfs/early_store_pmem.h:
crkexec/pmem_iomem.h:
crkexec/pmem_layout.h:
cr/util/io.h:
cr/util/log.h:
