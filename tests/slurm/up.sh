#!/usr/bin/env bash
# A real Slurm of two nodes with two GPUs each, on this machine alone, for tests and for trying things out:
#   sudo tests/slurm/up.sh FOLDER [NODES]    (an empty or new folder) ends with the line that a shell needs to use it
#   sudo tests/slurm/down.sh FOLDER          ends it and removes the folder
# Debian and Ubuntu: apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
# No systemd, no accounting, nothing outside the folder; ports of its own. The GPUs are device files that hold nothing.
set -eu
usage="usage: up.sh FOLDER [NODES]: a new or empty folder, and how many nodes (2)"
[ $# -ge 1 ] && [ $# -le 2 ] || { echo "$usage" >&2; exit 2; }
case ${2:-2} in *[!0-9]*|0*) echo "$usage; got '$2' nodes" >&2; exit 2 ;; esac
[ "$(id -u)" = 0 ] || { echo "up.sh needs root: the daemons start jobs as their users, and make device files" >&2; exit 2; }
for program in munged slurmctld slurmd sinfo; do
  command -v $program >/dev/null || { echo "up.sh needs $program; see its first lines for the packages" >&2; exit 2; }
done
mkdir -p "$1"
folder=$(cd "$1" && pwd -P)
[ -z "$(ls -A "$folder")" ] || { echo "up.sh: '$folder' is not empty; give a new folder" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
trap '[ $? = 0 ] || "$here/down.sh" "$folder"' EXIT
nodes=$(seq -f n%g "${2:-2}")
mkdir "$folder"/{munge,dev,state,log,spool}
for each in $nodes; do mkdir "$folder/spool/$each"; done

# Who may submit: whoever can reach this munge's socket.
dd if=/dev/urandom of="$folder/munge/key" bs=128 count=1 status=none
chmod 600 "$folder/munge/key"
munged --force --socket="$folder/munge/socket" --key-file="$folder/munge/key" --pid-file="$folder/munge/pid" \
  --log-file="$folder/log/munged" --seed-file="$folder/munge/seed" 2>"$folder/log/munged.start"

# Ports that nobody has now: one for the controller, one a node.
ports=($(python3 - $nodes <<'END'
import socket, sys
taken = [socket.create_server(("127.0.0.1", 0)) for _ in sys.argv]
print(*(each.getsockname()[1] for each in taken))
END
))

for gpu in 0 1; do mknod "$folder/dev/gpu$gpu" c 1 3; done # plain files would leave CUDA_VISIBLE_DEVICES empty
cat >"$folder/gres.conf" <<END
AutoDetect=off
Name=gpu File=$folder/dev/gpu[0-1]
END
cat >"$folder/slurm.conf" <<END
ClusterName=toy
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job starts once its old credential has expired.
AuthInfo=socket=$folder/munge/socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/%n
# Neither cgroups nor accounting: a container has the one seldom, and the other wants a database.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# The nodes have more processors than this machine.
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=3
SlurmdTimeout=10
MinJobAge=86400
MaxJobCount=20000
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,requeue_delay=1
GresTypes=gpu
END
number=1
for each in $nodes; do
  echo "NodeName=$each NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=${ports[number]} CPUs=8 RealMemory=64000 Gres=gpu:2"
  number=$((number + 1))
done >>"$folder/slurm.conf"
echo "PartitionName=main Nodes=$(echo $nodes | tr ' ' ,) Default=YES MaxTime=7-0 State=UP
PartitionName=short Nodes=n1 MaxTime=10 State=UP" >>"$folder/slurm.conf"

export SLURM_CONF=$folder/slurm.conf
slurmctld -c -f "$SLURM_CONF"
for each in $nodes; do slurmd -f "$SLURM_CONF" -N "$each"; done
for _ in $(seq 100); do
  ready=$(sinfo -h -N -p main -t idle -o %N 2>/dev/null | sort -u | wc -l)
  [ "$ready" = "$(echo $nodes | wc -w)" ] && { echo "export SLURM_CONF=$SLURM_CONF"; exit 0; }
  sleep 0.1
done
echo "up.sh: the nodes did not come up in 10 seconds" >&2
tail -n 5 "$folder"/log/* >&2
exit 1
