# The table of scripts/bench.sh: each figure on the three kernels, then the bars.
# Input: kernel,workload,parameter,metric,unit,value,round

function median(key,   v, n, i, j, t) {
	n = split(values[key], v, " ")
	for (i = 2; i <= n; i++)
		for (j = i; j > 1 && v[j - 1] + 0 > v[j] + 0; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
	low = v[1]; high = v[n]
	return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}
function get(kind, what) { return (kind "," what) in values ? median(kind "," what) : "" }
function show(x) { return x == "" ? "-" : sprintf("%.1f", x) }
function ratio(a, b) { return a == "" || b == "" || !b ? "-" : sprintf("%.3f", a / b) }
# one figure against another: at most @limit of it
function bar(text, on, base, limit, unit,   r) {
	if (on == "" || base == "" || !base) { printf "%-58s %12s %12s %10s %8.4f  not measured\n", text, "-", "-", "-", limit; return }
	r = on / base
	printf "%-58s %12.1f %12.1f %10.5f %8.4f  %s\n", text, base, on, r, limit, r <= limit ? "met" : "MISSED"
	if (r > limit) missed++
}
function level(text, what, kind, limit,   b, o) { bar(text, get(kind, what), get("base", what), limit) }
{
	key = $2 "," $3 "," $4
	values[$1 "," key] = values[$1 "," key] " " $6
	unit[key] = $5
	if (!(key in known)) { known[key] = 1; order[++n] = key }
}
END {
	printf "%-44s %6s %14s %14s %8s %14s %8s\n", "workload, parameter, metric", "unit", "base", "off", "off/base", "on", "on/base"
	for (i = 1; i <= n; i++) {
		k = order[i]
		b = get("base", k); f = get("off", k); o = get("on", k)
		text = k; gsub(/,/, ", ", text)
		printf "%-44s %6s %14s %14s %8s %14s %8s\n", text, unit[k], show(b), show(f), ratio(f, b), show(o), ratio(o, b)
	}
	printf "\n%-58s %12s %12s %10s %8s\n", "the bars, 1 GiB", "base", "on or off", "ratio", "at most"
	g = ("base,fork,1024,first" in values) ? 1024 : 64
	first = get("base", "fork," g ",first")
	bar("repeated fork", get("on", "fork," g ",repeated"), first, 1 / 150)
	bar("first fork after every page was written", get("on", "fork," g ",first"), first, 1 / 20)
	bar("exit of the child and wait", get("on", "fork," g ",exit"), get("base", "fork," g ",exit"), 1 / 150)
	block = (first - get("base", "fork,2,first")) / (g / 2 - 1)
	bar("worst write after fork, against fork of one block", get("on", "write," g ",first_worst"), block, 0.7)
	level("fork, child writes every page, exit", "all," g " child,total", "on", 1)
	bar("parent writes all after the child left", get("on", "retouch," g ",rewrite"), get("base", "retouch," g ",rewrite"), 0.01)
	level("fork and exit of a small program, vm.cow_pte=2", "spawn,exit,each", "on", 1.01)
	level("fork and exec of a static program, vm.cow_pte=2", "spawn,static,each", "on", 1.01)
	level("fork and exec of a dynamic program, vm.cow_pte=2", "spawn,dynamic,each", "on", 1.01)
	level("shell script, vm.cow_pte=2", "command,script3,time", "on", 1.01)
	level("compile, vm.cow_pte=2", "command,compile2,time", "on", 1.01)
	bar("PageTables of 100 children, with the records", get("on", "children," g " 100,tables_and_records"), \
		get("base", "children," g " 100,tables"), 1 / 50)
	level("reclaim of a page with 100 sharers", "reclaim," g / 16 " 100,page", "on", 0.2)
	for (i = 1; i <= n; i++)
		if (order[i] ~ /^(ops|spawn|retouch|write|fork),/ && get("off", order[i]) != "" && order[i] !~ /worst/) {
			r = get("off", order[i]) / get("base", order[i])
			if (r > worst) { worst = r; where = order[i] }
		}
	if (worst)
		bar("built and unused, the worst: " where, get("off", where), get("base", where), 1.005)
	printf "%d missed\n", missed
}
