"""A link between two machines that is slow and loses packets.

Two TUN devices, NAME-a and NAME-b: what is sent into one comes out of the other after the delay, or never. It
does what tc's netem does, on kernels that are built without it. `cargo xtask link-test` starts it, puts the
devices where they belong and closes its standard input at the end, whereupon it says how many packets it
carried and how many it lost.
"""

import argparse
import fcntl
import os
import random
import selectors
import struct
import sys
import time
from collections import deque

TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
LARGEST = 65536


def device(name: str) -> int:
    """Make a TUN device and return the file through which its packets go."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return file


def main() -> None:
    """Carry packets until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--delay", type=float, required=True, help="milliseconds")
    parser.add_argument("--loss", type=float, required=True, help="share of packets, from 0 to 1")
    options = parser.parse_args()
    ends = [device(f"{options.name}-{end}") for end in "ab"]
    draws = random.Random(0)
    # By the end that they come out of: when, and what.
    under_way: list[deque[tuple[float, bytes]]] = [deque(), deque()]
    carried = lost = 0
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    for end, file in enumerate(ends):
        selector.register(file, selectors.EVENT_READ, end)
    print("ready", flush=True)
    while True:
        due = [packets[0][0] for packets in under_way if packets]
        wait = max(0.0, min(due) - time.monotonic()) if due else None
        for key, _ in selector.select(wait):
            if key.data is None:
                print(f"{carried} packets carried, {lost} lost", flush=True)
                return
            try:
                packet = os.read(ends[key.data], LARGEST)
            except (BlockingIOError, OSError):
                continue
            if draws.random() < options.loss:
                lost += 1
            else:
                under_way[1 - key.data].append((time.monotonic() + options.delay / 1000, packet))
        now = time.monotonic()
        for end, packets in enumerate(under_way):
            while packets and packets[0][0] <= now:
                _, packet = packets.popleft()
                carried += 1
                try:
                    os.write(ends[end], packet)
                except OSError:
                    # A device that is down, or full: lost as well.
                    lost += 1


if __name__ == "__main__":
    main()
