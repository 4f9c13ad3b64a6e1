build-san/obj/initramfs/early_manifest.o: initramfs/early_manifest.c \
 initramfs/early_store.h cr/image/image.h cr/util/arena.h cr/util/macro.h \
 initramfs/early.h crkexec/manifest.h cr/util/log.h
initramfs/early_store.h:
cr/image/image.h:
cr/util/arena.h:
cr/util/macro.h:
initramfs/early.h:
crkexec/manifest.h:
cr/util/log.h:
