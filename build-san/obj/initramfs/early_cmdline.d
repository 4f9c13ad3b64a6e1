build-san/obj/initramfs/early_cmdline.o: initramfs/early_cmdline.c \
 initramfs/early.h crkexec/manifest.h cr/util/macro.h cr/util/io.h
initramfs/early.h:
crkexec/manifest.h:
cr/util/macro.h:
cr/util/io.h:
