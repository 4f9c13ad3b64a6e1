/* Numbers of socket options that the oldest headers we build with, or those that clash, lack. */
#ifndef CR_KIND_SK_NUMBERS_H
#define CR_KIND_SK_NUMBERS_H

#ifndef IP_PASSSEC
#define IP_PASSSEC	18
#endif
#ifndef IP_CHECKSUM
#define IP_CHECKSUM	23
#endif
#ifndef IP_RECVFRAGSIZE
#define IP_RECVFRAGSIZE	25
#endif
#ifndef IP_RECVERR_RFC4884
#define IP_RECVERR_RFC4884	26
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE	51
#endif
#ifndef IPV6_2292PKTINFO
#define IPV6_2292PKTINFO	2
#endif
#ifndef IPV6_2292HOPOPTS
#define IPV6_2292HOPOPTS	3
#endif
#ifndef IPV6_2292DSTOPTS
#define IPV6_2292DSTOPTS	4
#endif
#ifndef IPV6_2292RTHDR
#define IPV6_2292RTHDR	5
#endif
#ifndef IPV6_2292HOPLIMIT
#define IPV6_2292HOPLIMIT	8
#endif
#ifndef IPV6_FLOWINFO
#define IPV6_FLOWINFO	11
#endif
#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL	29
#endif
#ifndef IPV6_ROUTER_ALERT_ISOLATE
#define IPV6_ROUTER_ALERT_ISOLATE	30
#endif
#ifndef IPV6_RECVERR_RFC4884
#define IPV6_RECVERR_RFC4884	31
#endif
#ifndef IPV6_FLOWINFO_SEND
#define IPV6_FLOWINFO_SEND	33
#endif
#ifndef IPV6_MINHOPCOUNT
#define IPV6_MINHOPCOUNT	73
#endif
#ifndef IPV6_UNICAST_IF
#define IPV6_UNICAST_IF	76
#endif
#ifndef IPV6_RECVFRAGSIZE
#define IPV6_RECVFRAGSIZE	77
#endif
#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING	23
#endif
#ifndef PACKET_VNET_HDR_SZ
#define PACKET_VNET_HDR_SZ	24
#endif
#ifndef SO_TIMESTAMP_OLD
#define SO_TIMESTAMP_OLD	29
#endif
#ifndef SO_RESERVE_MEM
#define SO_RESERVE_MEM	73
#endif
#ifndef SO_TXREHASH
#define SO_TXREHASH	74
#endif
#ifndef SO_RCVMARK
#define SO_RCVMARK	75
#endif
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD	76
#endif
#ifndef SO_RCVPRIORITY
#define SO_RCVPRIORITY	82
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS	83
#endif
#ifndef SOL_UDPLITE
#define SOL_UDPLITE	136
#endif
#ifndef TCP_FASTOPEN_KEY
#define TCP_FASTOPEN_KEY	33
#endif
#ifndef TCP_TX_DELAY
#define TCP_TX_DELAY	37
#endif
#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS	44
#endif
#ifndef TCP_RTO_MIN_US
#define TCP_RTO_MIN_US	45
#endif
#ifndef TCP_DELACK_MAX_US
#define TCP_DELACK_MAX_US	46
#endif
#ifndef UDPLITE_SEND_CSCOV
#define UDPLITE_SEND_CSCOV	10
#endif
#ifndef UDPLITE_RECV_CSCOV
#define UDPLITE_RECV_CSCOV	11
#endif

#endif
