# shellcheck shell=sh disable=SC2034,SC2154 # parameters.sh and network.sh set what is used here
# The root: shared, over NFS, or on a disk of this machine; then what the node has for itself.

mount_shared_root() {
    [ -n "$ssi_server" ] || ssi_server=$server
    [ -n "$ssi_server" ] || give_up "no ssi.server= and DHCP named none: who serves the root?"
    # Both before the mount: the server knows its clients, and their locks, by them.
    hostname "node$ssi_node"
    load nfsv4 || true
    echo "ssi-node$ssi_node" >/sys/module/nfs/parameters/nfs4_unique_id
    options="vers=4.2,addr=$ssi_server,clientaddr=${address%/*},hard,proto=tcp,timeo=50,retrans=2"
    options="$options,lookupcache=positive${ssi_opts:+,$ssi_opts}"
    say "mounting $ssi_server:/ as node $ssi_node"
    until said=$(mount -t nfs4 -o "$options" "$ssi_server:/" /root 2>&1); do
        try_again "$ssi_server:/ can't be mounted over NFS 4.2 from $address: ${said##*failed: };" \
            "is the init node up, is this address exported to?"
    done
    failures=0
    role=node
    say "root mounted: $ssi_server:/"
}

mount_local_root() {
    load_for_devices
    tries=0
    until device=$(findfs "$ssi_root" 2>/dev/null); do
        load_for_devices
        tries=$((tries + 1))
        [ $((tries % 300)) != 299 ] ||
            complain "no disk with $ssi_root: is its driver in the image? (ssi.root=, waiting on)"
        usleep 100000
    done
    load "${ssi_rootfstype:-ext4}" || true
    mount -t "${ssi_rootfstype:-ext4}" -o "${ssi_rootflags:-rw}" "$device" /root ||
        give_up "$device ($ssi_root) can't be mounted as ${ssi_rootfstype:-ext4}: set ssi.rootfstype=?"
    role=init
    [ -n "$ssi_node" ] || ssi_node=$(cat /root/etc/openssi/initnode 2>/dev/null)
    say "root mounted: $device ($ssi_root)"
}

# /cluster/self is this node's; so is every directory that /cluster/etc/pernode lists.
give_node_its_own() {
    own=/root/cluster/node$ssi_node
    if [ -z "$ssi_node" ] || [ ! -d "$own" ]; then
        give_up "node ${ssi_node:-(no number)} is not configured: the root has no ${own#/root}; run ssi-addnode"
    fi
    mkdir -p /root/cluster/self /run/ssi
    mount --bind "$own" /root/cluster/self
    while read -r directory _; do
        case $directory in /*) ;; *) continue ;; esac
        mkdir -p "$own$directory" "/root$directory"
        mount --bind "$own$directory" "/root$directory"
    done </root/cluster/etc/pernode
    echo "$ssi_node" >/run/ssi/nodenum
    echo "$role" >/run/ssi/role
}

hand_over() {
    say "node $ssi_node: handing over to ${init:-/sbin/init}"
    for directory in proc sys dev run; do mount --move "/$directory" "/root/$directory"; done
    exec switch_root /root "${init:-/sbin/init}"
}
