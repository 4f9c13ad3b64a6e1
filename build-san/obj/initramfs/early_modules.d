build-san/obj/initramfs/early_modules.o: initramfs/early_modules.c \
 initramfs/early.h crkexec/manifest.h cr/util/macro.h cr/util/io.h \
 cr/util/log.h
initramfs/early.h:
crkexec/manifest.h:
cr/util/macro.h:
cr/util/io.h:
cr/util/log.h:
