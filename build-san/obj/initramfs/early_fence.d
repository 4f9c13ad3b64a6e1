build-san/obj/initramfs/early_fence.o: initramfs/early_fence.c \
 initramfs/early.h crkexec/manifest.h cr/util/macro.h cr/util/io.h \
 cr/util/log.h
initramfs/early.h:
crkexec/manifest.h:
cr/util/macro.h:
cr/util/io.h:
cr/util/log.h:
