# shellcheck shell=sh disable=SC2154 # tables.sh sets $files and $options
# Loading drivers. mkinitrd has worked out, in tables.sh: files_of NAME sets the files to load for a module, in
# order; options_of NAME its options; load_driver_of MODALIAS loads the drivers of a device.

load() {
    files_of "$1" || return 1
    for file in $files; do load_file "$file"; done
}

load_file() {
    module=${1##*/}
    module=${module%%.ko*}
    case $module in *-*) module=$(echo "$module" | tr - _) ;; esac
    [ ! -d "/sys/module/$module" ] || return 0
    options_of "$module"
    # shellcheck disable=SC2086 # a list of options
    insmod "/lib/modules/$1" $options || complain "module $module does not load: $1"
}

# Load the driver of every device that has one in this image; devices may still be appearing.
load_for_devices() {
    set +f
    for file in /sys/bus/*/devices/*/modalias; do
        [ -e "$file" ] || continue
        read -r alias <"$file" || continue
        case " $known_aliases " in *" $alias "*) continue ;; esac
        known_aliases="$known_aliases $alias"
        load_driver_of "$alias"
    done
    set -f
}
