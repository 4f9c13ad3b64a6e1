build-san/obj/cr/cmd/show.o: cr/cmd/show.c cr/cmd/show.h cr/image/image.h \
 cr/util/arena.h cr/util/macro.h cr/image/store.h cr/util/io.h \
 cr/util/log.h
cr/cmd/show.h:
cr/image/image.h:
cr/util/arena.h:
cr/util/macro.h:
cr/image/store.h:
cr/util/io.h:
cr/util/log.h:
