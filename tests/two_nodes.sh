#!/bin/sh
# Run in a chroot that is a cluster's first node, in namespaces of its own: two nodes on one root, as in a cluster, node 2 in a
# network namespace with an sshd of its own. Prints NAME=STATUS:OUTPUT for each question of the test.
set -eu
tell() {
    name=$1
    shift
    code=0
    out=$("$@" 2>/tmp/err </dev/null) || code=$?
    printf '%s=%s:%s\n' "$name" "$code" "$(echo "$out" | tr '\n' ' ' | sed 's/ $//')"
    sed "s/^/$name: /" /tmp/err >&2
}

mkdir -p /run/sshd /run/ssi/connections
ip link add eth1 type veth peer name eth2
ip link add out1 type veth peer name out2
# the second node: a process that does nothing else holds its network and its mounts
unshare --net --mount --propagation unchanged sleep 600 &
other=$!
two() { nsenter --target "$other" --net --mount --root --wd "$@"; }
until [ "$(readlink "/proc/$other/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ]; do sleep 0.1; done
ip link set eth2 netns "$other"
ip link set out2 netns "$other"
ip address add 10.0.0.1/24 dev eth1
ip address add 10.9.9.1/24 dev out1
two ip address add 10.0.0.2/24 dev eth2
two ip address add 10.9.9.2/24 dev out2
for card in lo eth1 out1; do ip link set "$card" up; done
for card in lo eth2 out2; do two ip link set "$card" up; done
chmod 755 /run/ssi
chmod 1777 /run/ssi/connections
install -d -m 700 /run/ssi/connections/0
echo 3 >/run/ssi/nodenum
echo init >/run/ssi/role
# as the root's table has it: the init node is node 3 with 10.0.0.1
useradd --create-home --shell /bin/sh alice
useradd --create-home --shell /bin/sh bob
mkdir -p /run/two/connections
chmod 1777 /run/two/connections
install -d -m 700 /run/two/connections/0
echo 2 >/run/two/nodenum
echo node >/run/two/role
two mount --bind /run/two /run/ssi
two /usr/sbin/sshd -E /tmp/sshd.log -o PidFile=/run/sshd-two.pid
/usr/sbin/sshd -E /tmp/sshd-init.log -o PidFile=/run/sshd-init.pid
tries=0
until two ss -ltn | grep -q :22 && ss -ltn | grep -q :22; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ]
    sleep 0.1
done

# What a call keeps, for root and for a user: run as that user.
cat >/rows.sh <<'EOT'
case $1 in
directory) cd /var/tmp && onnode 2 pwd ;;
environment)
    GIVEN="two
lines 'quoted' \$x" PATH=$PATH:/of/mine LANG=C.UTF-8 BIG=$(head -c 120000 /dev/zero | tr '\0' y)
    export GIVEN PATH LANG BIG
    onnode 2 sh -c 'echo "$GIVEN;${PATH##*:};$LANG;${#BIG}"' | tr '\n' '/'
    ;;
input) printf through | onnode 2 sh -c 'cat; echo " and out"' ;;
status) onnode 2 sh -c 'exit 7' ;;
terminal) TERM=vt100 script --quiet --return --command "onnode 2 sh -c 'test -t 0 && test -t 1 && echo \$TERM'" /dev/null | tr -d '\r' ;;
signal)
    ready=$(mktemp -u)
    mkfifo "$ready"
    onnode 2 sh -c 'trap "echo got it; exit 42" TERM; echo >"$1"; while :; do sleep 0.1; done' sh "$ready" &
    call=$!
    timeout 30 cat "$ready" >/dev/null
    kill -TERM "$call"
    wait "$call"
    code=$?
    rm "$ready"
    exit "$code"
    ;;
esac
EOT
for who in root alice; do
    tell "$who" runuser -u "$who" -- onnode 2 id -un
    for row in directory environment input status terminal signal; do
        tell "${who}_$row" runuser -u "$who" -- sh /rows.sh "$row"
    done
done
tell namespace onnode 2 sh -c 'ip -4 -o address show | grep -c 10.0.0.2'

# What of a call every user can read, on both nodes: their processes are in one /proc. The patterns don't find themselves.
visible() { cat /proc/[0-9]*/cmdline | tr '\0' '\n' | grep -c "$1"; }
for who in root alice; do
    mkfifo -m 666 /tmp/started /tmp/done
    # shellcheck disable=SC2016 # expanded there
    MY_SECRET=between-us runuser -u "$who" -- onnode 2 sh -c 'echo "words-of-it $MY_SECRET" >/tmp/started; cat /tmp/done' &
    call=$!
    tell "${who}_secret" timeout 30 cat /tmp/started
    tell "${who}_words_seen" visible 'words[-]of-it'
    tell "${who}_secret_seen" visible 'between[-]us'
    timeout 30 sh -c 'echo >/tmp/done'
    wait "$call"
    rm /tmp/started /tmp/done
done

# Who reads the mark of root's call, and bears it before root's command does, gets no signal of root's, and root's command gets it.
cat >/decoys <<'EOT'
#!/bin/sh
mark=$(echo "$*" | grep -o 'OPENSSI_CALL=[^;]*;')
[ -z "$mark" ] || for who in bob root; do
    mkfifo -m 666 "/tmp/started-$who"
    runuser -u "$who" -- setsid --fork sh -c ": $mark echo \$\$ >/tmp/started-$who; exec 1>&- 2>&-; sleep 60 & wait"
    timeout 30 cat "/tmp/started-$who" >"/tmp/decoy-$who"
done
exec ssh "$@"
EOT
chmod 755 /decoys
tell signal_past_decoys env OPENSSI_SSH=/decoys sh /rows.sh signal
tell decoy_of_bob_lives kill "$(cat /tmp/decoy-bob)"

bare='ssh -o BatchMode=yes -o PreferredAuthentications=hostbased -o HostbasedAuthentication=yes -o ControlPath=none'
# refused NAME COMMAND...: tell what it says of it, too
refused() {
    name=$1
    shift
    tell "$name" sh -c 'exec "$@" 2>&1' sh "$@"
}
# shellcheck disable=SC2086 # words
{
    tell bare_root $bare 10.0.0.2 id -un
    tell bare_alice runuser -u alice -- $bare 10.0.0.2 id -un
    refused alice_as_bob runuser -u alice -- $bare bob@10.0.0.2 id -un
    refused alice_as_root runuser -u alice -- $bare root@10.0.0.2 id -un
    refused root_as_bob $bare bob@10.0.0.2 id -un
    # on another network nobody is known, though the host's keys are the same
    bare="$bare -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    tell bare_again $bare 10.0.0.2 id -un
    refused outside $bare 10.9.9.2 id -un
    refused outside_alice runuser -u alice -- $bare 10.9.9.2 id -un
}
tell alice_keysign runuser -u alice -- sh -c 'echo forged | /usr/lib/openssh/ssh-keysign'
for secret in /cluster/etc/serf-key /etc/ssh/ssh_host_ed25519_key /etc/ssh/ssh_host_rsa_key; do
    tell "reads_${secret##*/}" runuser -u alice -- cat "$secret"
done
tell steals_connection runuser -u alice -- ls /run/ssi/connections/0
# a directory that alice puts where bob's connections would be is not taken
bob=$(id -u bob)
runuser -u alice -- mkdir -m 777 "/run/ssi/connections/$bob"
tell bob runuser -u bob -- onnode 2 id -un
tell trap runuser -u alice -- ls "/run/ssi/connections/$bob"

# packages: a script of the package says where it ran
mkdir -p /planted/DEBIAN
cat >/planted/DEBIAN/control <<EOT
Package: planted
Version: 1
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: planted
EOT
printf '#!/bin/sh\ncat /run/ssi/role >/planted-on\n' >/planted/DEBIAN/postinst
chmod 755 /planted /planted/DEBIAN /planted/DEBIAN/postinst
dpkg-deb --root-owner-group --build /planted /planted.deb >/dev/null
tell dpkg_refused onnode 2 /usr/bin/dpkg --install /planted.deb
tell nothing_ran cat /planted-on
tell dpkg_question onnode 2 dpkg --status planted
tell dpkg onnode 2 dpkg --install /planted.deb
tell ran_on cat /planted-on
rm -f /planted-on
tell apt onnode 2 apt-get --quiet=2 install --reinstall /planted.deb
tell ran_again_on cat /planted-on
kill "$(cat /run/sshd-two.pid)" "$(cat /run/sshd-init.pid)" "$other"
