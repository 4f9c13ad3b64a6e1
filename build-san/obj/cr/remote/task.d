build-san/obj/cr/remote/task.o: cr/remote/task.c cr/remote/remote.h \
 cr/util/macro.h cr/util/log.h
cr/remote/remote.h:
cr/util/macro.h:
cr/util/log.h:
