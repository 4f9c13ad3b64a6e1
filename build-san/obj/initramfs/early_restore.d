build-san/obj/initramfs/early_restore.o: initramfs/early_restore.c \
 initramfs/early.h crkexec/manifest.h cr/util/macro.h cr/cr.h \
 initramfs/early_store.h cr/image/image.h cr/util/arena.h cr/util/io.h \
 cr/util/log.h
initramfs/early.h:
crkexec/manifest.h:
cr/util/macro.h:
cr/cr.h:
initramfs/early_store.h:
cr/image/image.h:
cr/util/arena.h:
cr/util/io.h:
cr/util/log.h:
