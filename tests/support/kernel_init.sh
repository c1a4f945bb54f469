#!/bin/sh
# First process of a kernel of our own (`support.kernel`): no more than a node needs, then the program it was told.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /mnt
ip link set lo up
cd /mnt || exit 1
PYTHONPATH=$TESTS "$PYTHON" -m "$PROGRAM"
echo o >/proc/sysrq-trigger
sleep 10
