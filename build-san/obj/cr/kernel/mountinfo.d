build-san/obj/cr/kernel/mountinfo.o: cr/kernel/mountinfo.c \
 cr/kernel/mountinfo.h cr/util/arena.h cr/util/macro.h cr/util/io.h
cr/kernel/mountinfo.h:
cr/util/arena.h:
cr/util/macro.h:
cr/util/io.h:
