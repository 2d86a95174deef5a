#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Redis saves a snapshot while a client writes.

Usage: redis.py KEYS

Fills a server with KEYS values of 1000 bytes, has one client set random keys, one at a
time, while another one says BGSAVE, three times: the command that meets the fork waits
for it.  Prints lines "metric unit
value": what the fork took, how long commands took during the saves, and by how much
the memory of the system grew.
"""
import os, random, socket, subprocess, sys, time


def meminfo():
    v = {line.split(":")[0]: int(line.split()[1]) for line in open("/proc/meminfo")}
    return v["AnonPages"] + v["PageTables"]


class Client:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path)
        self.f = self.s.makefile("rb")

    def send(self, *words):
        words = [str(w).encode() for w in words]
        self.s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))

    def __call__(self, *words):
        self.send(*words)
        return self.reply()

    def reply(self):
        line = self.f.readline().rstrip()
        if line[:1] == b"-":
            sys.exit("redis: " + line[1:].decode())
        if line[:1] == b"$" and line != b"$-1":
            return self.f.read(int(line[1:]) + 2)[:-2]
        return line[1:]

    def info(self, section):
        lines = self("INFO", section).decode().split("\r\n")
        return dict(l.split(":", 1) for l in lines if ":" in l)


def main():
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit(__doc__)
    keys = int(sys.argv[1])
    random.seed(1)
    path = os.path.join(os.getcwd(), "socket")
    server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--save", "",
                               "--rdbcompression", "no", "--rdbchecksum", "no", "--enable-debug-command", "yes"],
                              stdout=subprocess.DEVNULL)
    for _ in range(600):
        try:
            redis = Client(path)
            break
        except OSError:
            time.sleep(0.1)
    redis("DEBUG", "POPULATE", keys, "key", 1000)
    saver = Client(path)
    value = "x" * 1000
    forks, peak, during, grown = [], 0, [], []
    for _ in range(3):
        before = meminfo()
        saver.send("BGSAVE")
        n = 0
        while True:
            key = "key:%d" % random.randrange(keys)
            start = time.perf_counter_ns()
            redis("SET", key, value)
            during.append((time.perf_counter_ns() - start) / 1000)
            n += 1
            if n == 1:
                saver.reply()
                forks.append(int(redis.info("stats")["latest_fork_usec"]))
            if n % 200 == 0:
                peak = max(peak, meminfo() - before)
                if redis.info("persistence")["rdb_bgsave_in_progress"] == "0":
                    break
        if redis.info("persistence")["rdb_last_bgsave_status"] != "ok":
            sys.exit("the save has failed")
        grown.append(n)
    during.sort()
    print("fork, first us", forks[0])
    print("fork, again us", sorted(forks[1:])[0])
    print("commands during the saves n", sum(grown))
    print("command, median us %.0f" % during[len(during) // 2])
    print("command, p99 us %.0f" % during[len(during) * 99 // 100])
    print("command, worst us %.0f" % during[-1])
    print("memory, peak kB", peak)
    server.terminate()
    server.wait()


main()
