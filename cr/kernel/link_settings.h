/* Settings of network interfaces by kind: of what the kernel tells (IFLA_INFO_DATA), what it also takes. */
#ifndef CR_KERNEL_LINK_SETTINGS_H
#define CR_KERNEL_LINK_SETTINGS_H

#include <stdint.h>

/* Attribute types up to LINK_SETTING_MAX, ended by 0, in an order in which they can be set one by one. */
#define LINK_SETTING_MAX	64u
extern const uint16_t link_settings_bridge[], link_settings_bond[];

#endif
