/*
 * All protobuf messages of the image files and of the service socket, as protoc-c generates
 * them from image/proto/ into build/proto.
 */
#ifndef CR_IMAGE_PROTO_H
#define CR_IMAGE_PROTO_H

#include "core.pb-c.h"
#include "events.pb-c.h"
#include "files.pb-c.h"
#include "fown.pb-c.h"
#include "inventory.pb-c.h"
#include "ipc.pb-c.h"
#include "mm.pb-c.h"
#include "net.pb-c.h"
#include "ns.pb-c.h"
#include "rpc.pb-c.h"
#include "sockets.pb-c.h"
#include "task.pb-c.h"
#include "tty.pb-c.h"

#endif
