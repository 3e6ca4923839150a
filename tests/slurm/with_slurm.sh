#!/usr/bin/env bash
# Run a command beside a Slurm of one node, brought up for it on this machine and taken down after:
#
#   tests/slurm/with_slurm.sh python -m pytest -m slurm
#
# It needs root, and Debian's slurm-wlm and munge (apt-get install slurm-wlm munge). Nothing of an
# installed Slurm is touched: keys, state, sockets, ports and logs are its own, in a temporary folder.
set -euo pipefail

folder=$(mktemp -d /tmp/one-node-slurm.XXXXXX)
host=$(hostname -s)
started=()

take_down() {
  code=$?
  trap - EXIT
  if [ -n "${SLURM_CONF:-}" ]; then
    timeout 10 scancel --me 2>/dev/null || true
    until_true "the end of the jobs" sh -c 'queue=$(squeue --noheader) && [ -z "$queue" ]' || true
  fi
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do
    kill -KILL "${started[i]}" 2>/dev/null || true
  done
  if [ -z "${up:-}" ]; then
    tail -n 20 "$folder"/*.log >&2 2>/dev/null || true
  fi
  rm -rf "$folder"
  exit "$code"
}
trap take_down EXIT

until_true() { # what, command...: wait for it, at most half a minute
  local what=$1
  shift
  local end=$((SECONDS + 30))
  while [ "$SECONDS" -lt "$end" ]; do
    if timeout 10 "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  echo "error: $what does not come up" >&2
  return 1
}

for program in munged slurmctld slurmd sbatch; do
  if ! PATH=$PATH:/usr/sbin command -v "$program" >/dev/null; then
    echo "error: there is no $program here: apt-get install slurm-wlm munge" >&2
    exit 2
  fi
done
if [ "$(id -u)" -ne 0 ]; then
  echo "error: slurmd starts its jobs as root: run this as root" >&2
  exit 2
fi
PATH=$PATH:/usr/sbin

# The key and the socket by which the programs know each other.
chmod 755 "$folder"
mkdir -m 755 "$folder/munge"
mkdir -m 700 "$folder/key"
head -c 1024 /dev/urandom >"$folder/key/munge.key"
chmod 400 "$folder/key/munge.key"
munged --foreground --socket="$folder/munge/socket" --key-file="$folder/key/munge.key" \
  --pid-file="$folder/munge/pid" --seed-file="$folder/key/seed" --num-threads=2 \
  >"$folder/munged.log" 2>&1 &
started+=($!)
disown
until_true munged munge --socket="$folder/munge/socket" --no-input

mkdir "$folder/state" "$folder/spool"
port=$((20000 + RANDOM % 20000))
cat >"$folder/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
KillWait=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=3
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE
CONF
export SLURM_CONF=$folder/slurm.conf
slurmctld -D >"$folder/slurmctld.log" 2>&1 &
started+=($!)
disown
slurmd -D -N "$host" >"$folder/slurmd.log" 2>&1 &
started+=($!)
disown
until_true "the node of Slurm" sh -c "sinfo --noheader --format=%T | grep -qx idle"
up=yes

"$@"
