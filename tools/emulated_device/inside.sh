#!/bin/sh
# First process of a board's namespaces: lays out its file systems as a kernel would, then becomes arm64 systemd.
# inside.sh FOLDER MODEL CPU HOSTNAME: FOLDER has root (never written), upper, work (what the board wrote).
set -e
folder=$1 model=$2 cpu=$3 name=$4 here=$(dirname "$(realpath "$0")")
root=/mnt
mount --make-rprivate /
mount -t overlay -o "lowerdir=$folder/root,upperdir=$folder/upper,workdir=$folder/work" board $root
mount -t proc proc $root/proc
mount -t sysfs -o ro sys $root/sys
# What tells a Raspberry Pi from a Jetson.
mount -t tmpfs firmware $root/sys/firmware
mkdir -p $root/sys/firmware/devicetree/base
printf '%s\0' "$model" >$root/sys/firmware/devicetree/base/model
mount -t cgroup2 none $root/sys/fs/cgroup
# qemu-user shows the host's processor there, on which onnxruntime and LiteRT crash.
mount --bind "$here/cpuinfo" $root/proc/cpuinfo
mount -t tmpfs -o mode=755 dev $root/dev
for node in null zero full random urandom tty; do
  touch $root/dev/$node
  mount --bind /dev/$node $root/dev/$node
done
mkdir -p $root/dev/pts $root/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts $root/dev/pts
mount -t tmpfs -o mode=1777 shm $root/dev/shm
ln -s pts/ptmx $root/dev/ptmx
ln -s /proc/self/fd $root/dev/fd
: >$root/dev/console
mount -t tmpfs -o mode=755 run $root/run
mount -t tmpfs tmp $root/tmp
# A unit that protects kernel tunables or control groups gets a fresh /proc, with the host's processor in it.
cp "$here/cpuinfo" $root/run/emulated-cpuinfo
mkdir -p $root/run/systemd/system/edgekit-.service.d
printf '[Service]\nBindReadOnlyPaths=/run/emulated-cpuinfo:/proc/cpuinfo\n' \
  >$root/run/systemd/system/edgekit-.service.d/emulated-cpuinfo.conf
hostname "$name"
exec env -i QEMU_CPU="$cpu" container=emulated PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot $root \
  /lib/systemd/systemd --system --log-target=journal --show-status=0 systemd.unit=multi-user.target
