build-san/obj/crkexec/initrd.o: crkexec/initrd.c crkexec/cpio_names.h \
 cr/util/macro.h crkexec/kernel.h crkexec/strv.h crkexec/manifest.h \
 cr/util/io.h
crkexec/cpio_names.h:
cr/util/macro.h:
crkexec/kernel.h:
crkexec/strv.h:
crkexec/manifest.h:
cr/util/io.h:
