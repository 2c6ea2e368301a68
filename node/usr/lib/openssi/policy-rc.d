#!/bin/sh
# policy-rc.d: what maintainer scripts may start where they run. On the init node all, on another node what it runs.
# The statuses are those of /usr/share/doc/init-system-helpers: 101 forbidden, 104 allowed.
read -r role 2>/dev/null </run/ssi/role || exit 104
[ "$role" = node ] || exit 104
case $1 in --*) exit 104 ;; esac
unit=$1
case $unit in *.*) ;; *) unit=$unit.service ;; esac
[ -e "/run/systemd/generator/openssi-node.target.wants/$unit" ] && exit 104
exit 101
