# Runs once, before anything else, and is then taken off the kernel's command line. Every step may be done again, so a
# power cut in it costs nothing. A step that fails is told and does not keep the others, or the board, from starting.
root=${EDGEKIT_ROOT:-}
log() { echo "edgekit: $*"; echo "$*" >>"$root/var/log/edgekit-firstrun.log"; }
attempt() {
  what=$1
  shift
  if "$@"; then log "done: $what"; else log "failed: $what"; fi
}

make_user() {
  first=$(getent passwd 1000 | cut -d: -f1)
  if [ -z "$first" ]; then
    useradd --create-home --uid 1000 --shell /bin/bash "$user" || return 1
    for group in sudo video gpio i2c spi; do
      if getent group "$group" >/dev/null; then usermod --append --groups "$group" "$user"; fi
    done
  elif [ -x "$root/usr/lib/userconf-pi/userconf" ]; then
    # Raspberry Pi OS's own: renames the user, and ends the wizard that would ask for one on the screen.
    "$root/usr/lib/userconf-pi/userconf" "$user" '*'
  elif [ "$first" != "$user" ]; then
    usermod --login "$user" --home "/home/$user" --move-home "$first" && groupmod --new-name "$user" "$first"
  fi
}

write_keys() {
  home=$(getent passwd "$user" | cut -d: -f6)
  [ -n "$home" ] || return 1
  install -d -m 0700 "$root$home/.ssh" &&
    install -m 0600 "$root/usr/lib/edgekit/authorized_keys" "$root$home/.ssh/authorized_keys" &&
    chown -R "$user:" "$root$home/.ssh"
}

unblock_wifi() {
  for state in "$root"/var/lib/systemd/rfkill/*:wlan; do
    if [ -e "$state" ]; then echo 0 >"$state"; fi
  done
  if command -v rfkill >/dev/null; then rfkill unblock wifi; fi
}

end_first_run() {
  for line in "$root/boot/firmware/cmdline.txt" "$root/boot/cmdline.txt"; do
    [ -f "$line" ] || continue
    sed -e 's/ systemd\.run[a-z_]*=[^ ]*//g' -e 's/ systemd\.unit=kernel-command-line\.target//g' "$line" >"$line.new" &&
      sync && mv -f "$line.new" "$line"
    sync
  done
}

if [ -n "$user" ]; then attempt "user $user" make_user; fi
if [ -n "$open_ssh" ]; then
  attempt "SSH keys" write_keys
  attempt "SSH server" systemctl enable ssh.service
fi
if [ -n "$open_wifi" ]; then attempt "Wi-Fi" unblock_wifi; fi
sync
attempt "end of the first run" end_first_run
exit 0
