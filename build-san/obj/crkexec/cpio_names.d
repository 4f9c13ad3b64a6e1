build-san/obj/crkexec/cpio_names.o: crkexec/cpio_names.c \
 crkexec/cpio_names.h cr/util/macro.h
crkexec/cpio_names.h:
cr/util/macro.h:
