build-san/obj/initramfs/early_outcome.o: initramfs/early_outcome.c \
 initramfs/early_store.h cr/image/image.h cr/util/arena.h cr/util/macro.h \
 initramfs/early.h crkexec/manifest.h cr/util/io.h cr/util/log.h
initramfs/early_store.h:
cr/image/image.h:
cr/util/arena.h:
cr/util/macro.h:
initramfs/early.h:
crkexec/manifest.h:
cr/util/io.h:
cr/util/log.h:
