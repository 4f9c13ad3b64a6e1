build-san/obj/crkexec/phase.o: crkexec/phase.c crkexec/phase.h \
 cr/util/macro.h
crkexec/phase.h:
cr/util/macro.h:
