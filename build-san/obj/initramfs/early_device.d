build-san/obj/initramfs/early_device.o: initramfs/early_device.c \
 initramfs/early.h crkexec/manifest.h cr/util/macro.h cr/util/io.h \
 cr/util/log.h
initramfs/early.h:
crkexec/manifest.h:
cr/util/macro.h:
cr/util/io.h:
cr/util/log.h:
