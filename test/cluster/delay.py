"""A cable that is slow: hands every frame from one interface to another after a time, both ways.

    delay.py MILLISECONDS INTERFACE INTERFACE

For kernels without netem. The frames are passed on with what the kernel says about them (their
checksums may not be computed yet, and they may be larger than the interface's packets).
"""
import collections
import select
import socket
import sys
import time

SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
ALL_PROTOCOLS = 3


def open_interface(name):
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    end.bind((name, ALL_PROTOCOLS))
    end.setblocking(False)
    return end


def take(end, queue, delay):
    while True:
        try:
            frame = end.recv(1 << 17)
        except BlockingIOError:
            return
        queue.append((time.monotonic() + delay, frame))


def pass_on(queue, end):
    while queue and queue[0][0] <= time.monotonic():
        try:
            end.send(queue.popleft()[1])
        except OSError:
            pass    # a cable that is full, or pulled, loses frames


def main(delay, one, other):
    ends = open_interface(one), open_interface(other)
    queues = collections.deque(), collections.deque()
    while True:
        due = [queue[0][0] for queue in queues if queue]
        wait = max(min(due) - time.monotonic(), 0) if due else None
        select.select(ends, [], [], wait)
        for i in 0, 1:
            take(ends[i], queues[i], delay)
            pass_on(queues[i], ends[1 - i])


main(float(sys.argv[1]) / 1000, sys.argv[2], sys.argv[3])
