build-san/obj/initramfs/early_guard.o: initramfs/early_guard.c \
 initramfs/early.h crkexec/manifest.h cr/util/macro.h \
 cr/netlock/netlock.h cr/util/io.h cr/util/log.h
initramfs/early.h:
crkexec/manifest.h:
cr/util/macro.h:
cr/netlock/netlock.h:
cr/util/io.h:
cr/util/log.h:
