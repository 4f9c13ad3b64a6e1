build-san/obj/cr/image/store_dir.o: cr/image/store_dir.c cr/image/store.h \
 cr/image/image.h cr/util/arena.h cr/util/macro.h cr/util/io.h \
 cr/util/log.h
cr/image/store.h:
cr/image/image.h:
cr/util/arena.h:
cr/util/macro.h:
cr/util/io.h:
cr/util/log.h:
