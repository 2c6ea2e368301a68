# shellcheck shell=sh disable=SC2154 # network.sh and parameters.sh set what is used here
# A machine that no entry names: it shows its address and waits until ssi-addnode has written its entry.

wait_to_be_added() {
    entry=ssi/01-$(echo "$mac" | tr : -)
    [ -n "$server" ] || ask_dhcp || true
    say "this machine: $mac"
    say "waiting to be added: run ssi-addnode on a node of the cluster"
    tries=0
    until tftp -g -r "$entry" -l /tmp/entry "$server" 2>/dev/null && [ -s /tmp/entry ]; do
        rm -f /tmp/entry
        tries=$((tries + 1))
        [ $((tries % 60)) != 0 ] || say "$mac still waiting to be added ($server has no $entry)"
        sleep 2
    done
    read_parameters "$(cat /tmp/entry)"
    say "added as node $ssi_node"
    [ -z "$ssi_ip" ] || use_address "$ssi_ip"
    [ -n "$ssi_node" ] || give_up "$entry on $server names no ssi.node"
}
