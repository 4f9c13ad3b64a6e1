build-san/obj/initramfs/early_probe.o: initramfs/early_probe.c \
 initramfs/early.h crkexec/manifest.h cr/util/macro.h
initramfs/early.h:
crkexec/manifest.h:
cr/util/macro.h:
