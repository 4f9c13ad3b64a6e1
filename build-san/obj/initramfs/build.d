build-san/obj/initramfs/build.o: initramfs/build.c initramfs/build.h \
 cr/util/macro.h initramfs/build_cpio.h cr/util/io.h cr/util/log.h
initramfs/build.h:
cr/util/macro.h:
initramfs/build_cpio.h:
cr/util/io.h:
cr/util/log.h:
