# shellcheck shell=sh disable=SC2034 # the other parts use what is set here
# The node's identity and wishes: words of the kernel's command line, or of the entry that ssi-addnode writes.

read_parameters() {
    for word in $1; do
        value=${word#*=}
        case $word in
        ssi.node=*) ssi_node=$value ;;
        ssi.ip=*) ssi_ip=$value ;;
        ssi.server=*) ssi_server=$value ;;
        ssi.opts=*) ssi_opts=$value ;;
        ssi.root=*) ssi_root=$value ;;
        ssi.rootfstype=*) ssi_rootfstype=$value ;;
        ssi.rootflags=*) ssi_rootflags=$value ;;
        ssi.mac=*) bootif=$value ;;
        BOOTIF=*) bootif=$(hardware_address "${value#??-}") ;;
        ssi.debug) ssi_debug=1 ;;
        ssi.rescue) ssi_rescue=1 ;;
        init=*) init=$value ;;
        esac
    done
    case $ssi_node in
    *[!0-9]*) give_up "ssi.node=$ssi_node: expected a number from 1 to 125" ;;
    esac
}

# A network address as sysfs writes it: lower case, colons.
hardware_address() { echo "$1" | tr 'A-F-' 'a-f:'; }
