build-san/obj/crkexec/kconfig.o: crkexec/kconfig.c crkexec/kernel.h \
 crkexec/strv.h cr/util/macro.h
crkexec/kernel.h:
crkexec/strv.h:
cr/util/macro.h:
