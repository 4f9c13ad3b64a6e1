build-san/obj/crkexec/bzimage.o: crkexec/bzimage.c crkexec/kernel.h \
 crkexec/strv.h cr/util/macro.h cr/util/io.h
crkexec/kernel.h:
crkexec/strv.h:
cr/util/macro.h:
cr/util/io.h:
