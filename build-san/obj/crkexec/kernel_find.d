build-san/obj/crkexec/kernel_find.o: crkexec/kernel_find.c \
 crkexec/kernel.h crkexec/strv.h cr/util/macro.h cr/util/io.h
crkexec/kernel.h:
crkexec/strv.h:
cr/util/macro.h:
cr/util/io.h:
