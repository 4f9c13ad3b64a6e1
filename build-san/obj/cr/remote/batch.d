build-san/obj/cr/remote/batch.o: cr/remote/batch.c cr/remote/remote.h \
 cr/util/macro.h cr/util/io.h cr/util/log.h
cr/remote/remote.h:
cr/util/macro.h:
cr/util/io.h:
cr/util/log.h:
