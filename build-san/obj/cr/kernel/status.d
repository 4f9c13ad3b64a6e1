build-san/obj/cr/kernel/status.o: cr/kernel/status.c cr/kernel/status.h \
 cr/util/macro.h cr/util/io.h
cr/kernel/status.h:
cr/util/macro.h:
cr/util/io.h:
