#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""A pre-forking server in Python: one big heap, workers that use a little of it.

Usage: cpython.py OBJECTS

Builds a dictionary of OBJECTS records, freezes the garbage collector, forks 8 workers
that answer requests at random records (which writes to their reference counts), then a
worker for a single request 20 times.  Prints lines "metric unit value".
"""
import gc, os, random, sys, time


def meminfo():
    v = {line.split(":")[0]: int(line.split()[1]) for line in open("/proc/meminfo")}
    return v["AnonPages"] + v["PageTables"]


def work(data, seed, requests):
    random.seed(seed)
    total = 0
    for _ in range(requests):
        record = data[random.randrange(len(data))]
        total += len(record["name"]) + record["id"]
    return total


def main():
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit(__doc__)
    n = int(sys.argv[1])
    data = {i: {"id": i, "name": "record %d" % i, "tags": [i, i + 1]} for i in range(n)}
    gc.collect()
    gc.freeze()
    before = meminfo()
    ready_r, ready_w = os.pipe()
    go_r, go_w = os.pipe()
    forks, pids = [], []
    start = time.perf_counter_ns()
    for w in range(8):
        t = time.perf_counter_ns()
        pid = os.fork()
        if not pid:
            gc.disable()
            work(data, w, 500)
            os.write(ready_w, b"x")
            os.read(go_r, 1)
            os._exit(0)
        forks.append((time.perf_counter_ns() - t) / 1000)
        pids.append(pid)
    for _ in range(8):
        os.read(ready_r, 1)
    served = (time.perf_counter_ns() - start) / 1000
    grown = meminfo() - before
    os.write(go_w, b"x" * 8)
    for pid in pids:
        if os.waitpid(pid, 0)[1]:
            sys.exit("a worker has failed")
    start = time.perf_counter_ns()
    for w in range(20):
        pid = os.fork()
        if not pid:
            gc.disable()
            work(data, w, 1)
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            sys.exit("a worker has failed")
    print("fork of a worker, median us %.0f" % sorted(forks)[4])
    print("8 workers started and 4000 requests served us %.0f" % served)
    print("memory of 8 workers kB", grown)
    print("fork, one request, exit us %.0f" % ((time.perf_counter_ns() - start) / 20000))


main()
