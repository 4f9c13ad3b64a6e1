build-san/obj/initramfs/build_cpio.o: initramfs/build_cpio.c \
 initramfs/build_cpio.h cr/util/macro.h cr/util/io.h cr/util/log.h
initramfs/build_cpio.h:
cr/util/macro.h:
cr/util/io.h:
cr/util/log.h:
