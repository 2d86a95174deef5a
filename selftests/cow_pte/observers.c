// SPDX-License-Identifier: GPL-2.0
/* Who looks changes nothing, and sees the truth. */
#include "util.h"

static char *mem;

static void read_all(pid_t pid, const char *name)
{
	char path[64], buf[65536];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return;
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	close(fd);
}

/* Sum of a field over the VMAs that intersect [from, to). */
static long smaps_sum(pid_t pid, const char *key, char *from, char *to)
{
	unsigned long start = 0, end = 0;
	char path[64], line[256];
	long sum = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	f = fopen(path, "r");
	EXPECT(f, "%s", path);
	while (fgets(line, sizeof(line), f)) {
		unsigned long s, e;
		char perms[8];

		if (sscanf(line, "%lx-%lx %7s", &s, &e, perms) == 3) {
			start = s;
			end = e;
		} else if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':' &&
			   end > (unsigned long)from && start < (unsigned long)to) {
			sum += atol(line + strlen(key) + 1);
		}
	}
	fclose(f);
	return sum;
}

static uint64_t pagemap(char *p)
{
	uint64_t v = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY);

	EXPECT(fd >= 0 && pread(fd, &v, 8, (uintptr_t)p / PAGE * 8) == 8, "pagemap");
	close(fd);
	return v;
}

static long o_bad(long tag, long pages)
{
	return bad_page(mem, pages, tag);
}

/* Files in /proc and mincore() leave bytes and tables as they are. */
static void t_readers(void)
{
	static const char *const files[] = {
		"smaps", "smaps_rollup", "numa_maps", "maps", "status", "statm", "oom_score",
	};
	unsigned char vec[2 * BLOCK_PAGES];
	long breaks, reuse;
	struct proc c;

	mem = blocks(2);
	fill(mem, 2 * BLOCK_PAGES, 1);
	cow_on();
	proc_init(&c);
	proc_spawn_shared(&c, 2);
	breaks = ev("break");
	reuse = ev("reuse");
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		read_all(c.pid, files[i]);
	for (size_t i = 0; i < 2 * BLOCK_PAGES; i++)
		EXPECT(pagemap(mem + i * PAGE) >> 63, "page %zu not present", i);
	SYS(mincore(mem, 2 * BLOCK, vec));
	for (size_t i = 0; i < 2 * BLOCK_PAGES; i++)
		EXPECT(vec[i] & 1, "page %zu not in core", i);
	EXPECT(o_bad(1, 2 * BLOCK_PAGES) == -1, "parent");
	EXPECT(on(&c, o_bad, 1, 2 * BLOCK_PAGES) == -1, "child");
	/* fopen() and the like write to the heap and the stack, not to these */
	if (!plain()) {
		EXPECT(ev("break") - breaks <= 3, "%ld broken", ev("break") - breaks);
		EXPECT(ev("reuse") - reuse <= 3, "%ld reused", ev("reuse") - reuse);
		proc_exit(&c);
		reuse = ev("reuse");
		fill(mem, 2 * BLOCK_PAGES, 2);
		EXPECT(ev("reuse") - reuse >= 2, "the blocks had not stayed shared");
	}
}

/* PSS is divided among the sharers, and no page is exclusive. */
static void t_pss(void)
{
	struct proc c, d;
	long pss, rss;

	mem = blocks(2);
	fill(mem, 2 * BLOCK_PAGES, 1);
	EXPECT(pagemap(mem) & (1ULL << 56), "not exclusive before the fork");
	cow_on();
	proc_init(&c);
	proc_spawn_shared(&c, 2);
	proc_init(&d);
	proc_spawn_shared(&d, 2);
	rss = smaps_sum(getpid(), "Rss", mem, mem + 2 * BLOCK);
	pss = smaps_sum(getpid(), "Pss", mem, mem + 2 * BLOCK);
	EXPECT(rss == 4096, "Rss %ld", rss);
	EXPECT(pss >= 4096 / 3 - 4 && pss <= 4096 / 3 + 4, "Pss %ld", pss);
	EXPECT(smaps_sum(c.pid, "Private_Dirty", mem, mem + 2 * BLOCK) == 0, "private");
	EXPECT(!(pagemap(mem) & (1ULL << 56)), "exclusive while shared");
	proc_exit(&c);
	proc_exit(&d);
	EXPECT(pagemap(mem) & (1ULL << 56), "not exclusive afterwards");
	pss = smaps_sum(getpid(), "Pss", mem, mem + 2 * BLOCK);
	EXPECT(pss == 4096, "Pss %ld", pss);
}

static long o_clear_refs(long value, long b)
{
	char text[4];

	(void)b;
	snprintf(text, sizeof(text), "%ld", value);
	return write_file("/proc/self/clear_refs", text);
}

/* The accessed bit is a hint of all; soft-dirty is one process's. */
static void t_clear_refs(void)
{
	struct proc c;
	long ret;

	mem = blocks(1);
	fill(mem, BLOCK_PAGES, 1);
	cow_on();
	proc_init(&c);
	proc_spawn_shared(&c, 1);
	EXPECT(on(&c, o_clear_refs, 1, 0) == 0, "clear_refs 1");
	EXPECT(on(&c, o_bad, 1, BLOCK_PAGES) == -1, "child");
	CHECK(mem, BLOCK_PAGES, 1);
	ret = on(&c, o_clear_refs, 4, 0);
	EXPECT(ret == 0, "clear_refs 4: %ld", ret);
	EXPECT(on(&c, o_bad, 1, BLOCK_PAGES) == -1, "child");
	on(&c, o_write, (long)mem, 3);
	CHECK(mem, BLOCK_PAGES, 1);
	proc_exit(&c);
}

static const struct test tests[] = {
	{ "readers in /proc and mincore", t_readers },
	{ "PSS and the exclusive bit", t_pss },
	{ "clear_refs", t_clear_refs },
};

MAIN(tests)
