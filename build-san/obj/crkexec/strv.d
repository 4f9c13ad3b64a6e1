build-san/obj/crkexec/strv.o: crkexec/strv.c crkexec/strv.h \
 cr/util/macro.h
crkexec/strv.h:
cr/util/macro.h:
