build-san/obj/initramfs/early_clock.o: initramfs/early_clock.c \
 initramfs/early.h crkexec/manifest.h cr/util/macro.h cr/util/log.h
initramfs/early.h:
crkexec/manifest.h:
cr/util/macro.h:
cr/util/log.h:
