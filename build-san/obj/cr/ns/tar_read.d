build-san/obj/cr/ns/tar_read.o: cr/ns/tar_read.c cr/ns/tar.h \
 cr/util/macro.h cr/util/arena.h cr/util/io.h cr/util/log.h
cr/ns/tar.h:
cr/util/macro.h:
cr/util/arena.h:
cr/util/io.h:
cr/util/log.h:
