build-san/obj/cr/kernel/features.o: cr/kernel/features.c cr/cr.h \
 cr/util/io.h cr/util/macro.h cr/util/log.h
cr/cr.h:
cr/util/io.h:
cr/util/macro.h:
cr/util/log.h:
