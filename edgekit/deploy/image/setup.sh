#!/bin/sh
# Makes the agent's user and environment on the first boot, from wheels that lie on the card or from the network.
# Started by edgekit-setup.service until it succeeds; every step may be done again.
set -eu
root=${EDGEKIT_ROOT:-}
programs=$root/opt/edgekit
state=$root/var/lib/edgekit
settings=$root/etc/edgekit
python=${EDGEKIT_PYTHON:-/usr/bin/python3}
carried=$(cat "$programs/carried")

if ! getent passwd edgekit >/dev/null; then
  groups=
  for group in video render; do
    if getent group "$group" >/dev/null; then groups="$groups${groups:+,}$group"; fi
  done
  useradd --system --user-group --home-dir /var/lib/edgekit --no-create-home --shell /usr/sbin/nologin \
    ${groups:+--groups "$groups"} edgekit
fi
chown -R edgekit:edgekit "$state"
chmod 0750 "$state"
chgrp edgekit "$settings/agent.toml"

if [ "$carried" = index ] && ! "$python" -c 'import ensurepip' 2>/dev/null; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv
fi
environment=$programs/venv-image
rm -rf "$environment"
pip_wheel=$(find "$programs/wheels" -name 'pip-*.whl' | head -n 1)
if [ -n "$pip_wheel" ]; then
  "$python" -m venv --system-site-packages --without-pip "$environment"
  pip() { "$environment/bin/python" "$pip_wheel/pip" "$@"; }
else
  "$python" -m venv --system-site-packages "$environment"
  pip() { "$environment/bin/python" -m pip "$@"; }
fi
# The system's camera packages are built against the system's numpy; numpy 2 beside them breaks their import.
: >"$environment/constraints.txt"
if "$python" -c 'import numpy, sys; sys.exit(not numpy.__version__.startswith("1."))' 2>/dev/null; then
  echo 'numpy<2' >"$environment/constraints.txt"
fi
install() { pip install --quiet --no-input --no-cache-dir --disable-pip-version-check --no-warn-script-location "$@"; }
own=$(find "$programs/wheels" -name 'edgekit-*.whl' | head -n 1)
if [ "$carried" = wheels ]; then
  install --no-index --find-links "$programs/wheels" --constraint "$environment/constraints.txt" \
    --requirement "$programs/requirements.txt"
else
  install --only-binary :all: --constraint "$environment/constraints.txt" --requirement "$programs/requirements.txt"
fi
install --no-index --no-deps --ignore-installed "$own"
"$environment/bin/edgekit" --version
sync
ln -sfn venv-image "$programs/.venv.new"
mv -fT "$programs/.venv.new" "$programs/venv"
sync
rm -rf "$programs/wheels"
systemctl --no-block start edgekit-agent.service
if [ -f "$root/etc/systemd/system/edgekit-update.timer" ]; then
  systemctl --no-block start edgekit-update.timer
fi
