build-san/obj/crkexec/cmdline.o: crkexec/cmdline.c crkexec/cmdline.h \
 cr/util/macro.h crkexec/manifest.h cr/util/io.h
crkexec/cmdline.h:
cr/util/macro.h:
crkexec/manifest.h:
cr/util/io.h:
