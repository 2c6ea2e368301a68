# shellcheck shell=sh disable=SC2034,SC2154 # parameters.sh sets the parameters
# Finding the interconnect's network interface and giving it its address.

bring_interconnect_up() {
    ip link set lo up
    find_interfaces
    until choose_interface; do
        try_again "$why"
    done
    failures=0
    mac=$(cat "/sys/class/net/$interface/address")
    mkdir -p /run/ssi
    echo "$mac" >/run/ssi/interconnect
    say "interconnect up: $interface $mac $address"
}

# Wait until the interface that was booted from is there (with none named: any).
find_interfaces() {
    tries=0
    until list_interfaces; do
        load_for_devices
        tries=$((tries + 1))
        [ $((tries % 100)) != 99 ] || complain "$(why_no_interface) (waiting on)"
        [ -z "$ssi_debug" ] || [ $tries != 300 ] || shell
        usleep 100000
    done
}

list_interfaces() {
    interfaces=
    set +f
    for path in /sys/class/net/*; do
        # Only real devices: lo and such have none.
        [ -e "$path/device" ] || continue
        if [ -z "$bootif" ] || [ "$(cat "$path/address")" = "$bootif" ]; then
            interfaces="$interfaces ${path##*/}"
        fi
    done
    set -f
    interfaces_text=${interfaces# }
    [ -n "$interfaces" ]
}

why_no_interface() {
    there=
    set +f
    for path in /sys/bus/pci/devices/*; do
        case $(cat "$path/class" 2>/dev/null) in
        0x02*) there="$there $(cut -c3- "$path/vendor"):$(cut -c3- "$path/device")" ;;
        esac
    done
    names=
    for path in /sys/class/net/*; do
        [ ! -e "$path/device" ] || names="$names $(cat "$path/address")"
    done
    set -f
    if [ -n "$bootif" ] && [ -n "$names" ]; then
        echo "no network interface with the address $bootif that was booted from; there are:$names"
    else
        echo "no network interface: PCI network devices here:${there:- none}; drivers in this image:" \
            "$(cat /lib/openssi/drivers); add the right one to /etc/mkinitrd/modules, then mkinitrd and ssi-ksync"
    fi
}

# Set $interface and $address; fails, with the reason in $why, when no interface leads to the cluster.
choose_interface() {
    why="no answer to DHCP on $interfaces_text: is a DHCP server on this network, is the cable in?"
    for interface in $interfaces; do ip link set "$interface" up; done
    for interface in $interfaces; do
        wait_for_carrier || continue
        if [ -n "$ssi_ip" ]; then use_address "$ssi_ip"; else ask_dhcp || continue; fi
        ! leads_to_the_cluster || return 0
        ip addr flush dev "$interface"
    done
    return 1
}

# Other networks may answer DHCP too. Where the loader has not said which interface it is, the server must be heard on it.
leads_to_the_cluster() {
    [ "$interfaces" != " $interface" ] && [ -n "$ssi_server" ] || return 0
    for _ in 1 2 3; do
        ! ping -c 1 -W 2 "$ssi_server" >/dev/null 2>&1 || return 0
    done
    why="$ssi_server does not answer on $interfaces_text: is it up? BOOTIF= or ssi.mac= says which interface it is"
    return 1
}

# A switch port may take seconds to forward. Without a carrier an interface is tried only if it is the only one.
wait_for_carrier() {
    tries=0
    while [ "$(cat "/sys/class/net/$interface/carrier" 2>/dev/null)" != 1 ]; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { [ "$interfaces" = " $interface" ]; return; }
        usleep 100000
    done
}

ask_dhcp() {
    rm -f /tmp/lease
    udhcpc -i "$interface" -f -n -q -t 4 -T 2 -A 1 -V openssi -O bootfile -s /lib/openssi/lease >/dev/null 2>&1
    [ -s /tmp/lease ] || return 1
    # shellcheck source=/dev/null
    . /tmp/lease
    server=${siaddr:-$serverid}
    use_address "$ip/${mask:-24}" "$router"
}

use_address() {
    ip addr flush dev "$interface"
    ip addr add "$1" broadcast + dev "$interface"
    [ -z "$2" ] || ip route add default via "${2%% *}" dev "$interface"
    address=$1
}
