# Tells about a board, one "KEY<tab>VALUE" a line, and changes nothing. POSIX sh: it runs in dash and busybox, and
# starts few programs, of which a minimal system has all (no awk).
# Arguments: prefix of all paths, service user, how root is reached (see `Privilege` in facts.py).
prefix=$1
user=$2
state=$prefix/var/lib/edgekit
config=$prefix/etc/edgekit/agent.toml
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

# Line breaks and tabs in a value become blanks.
say() {
    key=$1
    set -f
    # shellcheck disable=SC2086
    set -- $2
    set +f
    printf '%s\t%s\n' "$key" "$*"
}

# The nearest folder that exists, whose disk a new folder would be on.
free_mib() {
    folder=$1
    while [ ! -d "${folder:-/}" ]; do folder=${folder%/*}; done
    folder=${folder:-/}
    # shellcheck disable=SC2046
    set -- $(df -Pk "$folder" 2>/dev/null | tail -n 1)
    [ -n "$4" ] && echo $(($4 / 1024))
}

in_meminfo() {
    while read -r name value unit; do
        [ "$name" = "$1:" ] && echo "$value"
    done </proc/meminfo
}

hash_of() {
    [ -r "$1" ] || return
    sum=$(sha256sum "$1" 2>/dev/null)
    echo "${sum%% *}"
}

say format 1
say privilege "$3"
say uid "$(id -u)"
# shellcheck disable=SC2046
set -- $(uname -s -n -m)
say system "$1"
say host "$2"
say machine "$3"
say bits "$(getconf LONG_BIT 2>/dev/null)"
say clock "$(date +%s)"
say os "$([ -r /etc/os-release ] && . /etc/os-release && printf '%s' "$PRETTY_NAME")"
say model "$(tr -d '\000' 2>/dev/null <"${EDGEKIT_MODEL_FILE:-/sys/firmware/devicetree/base/model}")"
say memory_kib "$(in_meminfo MemTotal)"
say free_memory_kib "$(in_meminfo MemAvailable)"
say free_opt_mib "$(free_mib "$prefix/opt/edgekit")"
say free_state_mib "$(free_mib "$state")"
say glibc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
# The loader's cache, which a system that was put together by hand may lack, is asked last.
has_library() {
    for path in /lib/"$1" /lib/*/"$1" /usr/lib/"$1" /usr/lib/*/"$1" /lib64/"$1" /usr/lib64/"$1"; do
        [ -e "$path" ] && return
    done
    ldconfig -p 2>/dev/null | grep -qF "$1"
}
for library in libstdc++.so.6 libGL.so.1; do
    has_library "$library" && say library "$library"
done
[ -d "$prefix/run/systemd/system" ] && say systemd yes

seen=
for name in python3.13 python3.12 python3.11 python3.10 python3; do
    program=$(command -v "$name") || continue
    target=$(readlink -f "$program")
    case " $seen " in *" $target "*) continue ;; esac
    seen="$seen $target"
    about=$("$program" -I -c '
import os, sys
library = os.path.dirname(os.__file__)
can = all(os.path.isfile(os.path.join(library, name, "__init__.py")) for name in ("venv", "ensurepip"))
numpy = [name.split("-")[1] for folder in sys.path if os.path.isdir(folder) for name in os.listdir(folder)
         if name.startswith("numpy-") and name.endswith(("-info",))]
numpy = [name.replace(".dist", "").replace(".egg", "") for name in numpy]
print(sys.executable, "%d.%d" % sys.version_info[:2], "venv" if can else "-", (numpy or ["-"])[0])' 2>/dev/null) && say python "$about"
done

id -u "$user" >/dev/null 2>&1 && say user "$user"
say environment "$(readlink "$prefix/opt/edgekit/venv" 2>/dev/null)"
[ -x "$prefix/opt/edgekit/venv/bin/edgekit" ] && say program yes
for folder in "$prefix"/opt/edgekit/venv/lib/python3*/site-packages/edgekit-*.dist-info; do
    version=${folder##*/edgekit-}
    [ -d "$folder" ] && say edgekit "${version%.dist-info}"
done
say current "$(readlink "$state/current" 2>/dev/null)"
say manifest "$(hash_of "$state/current/manifest.json")"
say root_json "$(hash_of "$state/update/pinned-root.json")"
say unit "$(hash_of "$prefix/etc/systemd/system/edgekit-agent.service")"
[ -d "$prefix/etc/avahi/services" ] && say avahi yes
say announcement "$(hash_of "$prefix/etc/avahi/services/edgekit.service")"
[ -r "$config" ] && say config "$(base64 <"$config" | tr -d '\n')"
for name in service timer; do
    say "update_$name" "$(hash_of "$prefix/etc/systemd/system/edgekit-update.$name")"
done
for unit in edgekit-agent.service edgekit-update.timer; do
    [ -e "$prefix/run/edgekit-flash.$unit" ] && say unstarted "$unit"
done
say timer "$(systemctl is-enabled edgekit-update.timer 2>/dev/null)"
systemctl show -p ActiveState -p UnitFileState edgekit-agent.service 2>/dev/null | while IFS='=' read -r name value; do
    say "$name" "$value"
done
say end yes
