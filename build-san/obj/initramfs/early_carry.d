build-san/obj/initramfs/early_carry.o: initramfs/early_carry.c \
 initramfs/early_store.h cr/image/image.h cr/util/arena.h cr/util/macro.h \
 initramfs/early.h crkexec/manifest.h cr/ns/tar.h cr/util/io.h \
 cr/util/log.h
initramfs/early_store.h:
cr/image/image.h:
cr/util/arena.h:
cr/util/macro.h:
initramfs/early.h:
crkexec/manifest.h:
cr/ns/tar.h:
cr/util/io.h:
cr/util/log.h:
