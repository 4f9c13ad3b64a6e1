build-san/obj/cr/ns/tar_write.o: cr/ns/tar_write.c cr/ns/tar.h \
 cr/util/macro.h cr/util/arena.h cr/util/io.h cr/util/map.h
cr/ns/tar.h:
cr/util/macro.h:
cr/util/arena.h:
cr/util/io.h:
cr/util/map.h:
