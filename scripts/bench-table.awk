# The table of scripts/bench.sh: each figure on the three kernels, then the bars.
# Input: kernel,workload,parameter,metric,unit,median,lowest,highest,rounds
# strict=1: a bar that is missed gives exit status 1.

function get(kind, what) { return (kind "," what) in value ? value[kind "," what] : "" }
function show(x) { return x == "" ? "-" : sprintf("%.1f", x) }
function ratio(a, b) { return a == "" || b == "" || !(b + 0) ? "-" : sprintf("%.3f", a / b) }
function spread(kind, what) { return (kind "," what) in low ? sprintf("%.1f-%.1f", low[kind "," what], high[kind "," what]) : "-" }
# one figure against another: at most @limit of it
function bar(text, on, base, limit,   r) {
	if (on == "" || base == "" || !(base + 0)) {
		printf "%-58s %12s %12s %10s %8.4f  not measured\n", text, "-", "-", "-", limit
		unmeasured++
		return
	}
	r = on / base
	printf "%-58s %12.1f %12.1f %10.5f %8.4f  %s\n", text, base, on, r, limit, r <= limit ? "met" : "MISSED"
	if (r > limit) missed++
}
function level(text, what, kind, limit) { bar(text, get(kind, what), get("base", what), limit) }
{
	key = $2 "," $3 "," $4
	value[$1 "," key] = $6
	if ($9 > 1) { low[$1 "," key] = $7; high[$1 "," key] = $8; rounds = 1 }
	unit[key] = $5
	if (!(key in known)) { known[key] = 1; order[++n] = key }
}
END {
	printf "%-44s %6s %14s %14s %8s %14s %8s", "workload, parameter, metric", "unit", "base", "off", "off/base", "on", "on/base"
	if (rounds) printf "  %21s %21s %21s", "base, from to", "off", "on"
	printf "\n"
	for (i = 1; i <= n; i++) {
		k = order[i]
		b = get("base", k); f = get("off", k); o = get("on", k)
		text = k; gsub(/,/, ", ", text)
		printf "%-44s %6s %14s %14s %8s %14s %8s", text, unit[k], show(b), show(f), ratio(f, b), show(o), ratio(o, b)
		if (rounds) printf "  %21s %21s %21s", spread("base", k), spread("off", k), spread("on", k)
		printf "\n"
	}
	g = ("base,fork,1024,first" in value) ? 1024 : 64
	printf "\n%-58s %12s %12s %10s %8s\n", "the bars, " (g == 1024 ? "1 GiB" : g " MiB"), "base", "on or off", "ratio", "at most"
	first = get("base", "fork," g ",first")
	small = get("base", "fork,2,first")
	bar("repeated fork", get("on", "fork," g ",repeated"), first, 1 / 150)
	bar("first fork after every page was written", get("on", "fork," g ",first"), first, 1 / 20)
	bar("exit of the child and wait", get("on", "fork," g ",exit"), get("base", "fork," g ",exit"), 1 / 150)
	block = first == "" || small == "" ? "" : (first - small) / (g / 2 - 1)
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
	# Not reclaim: how many pages each call takes differs.  Not the exit of a process
	# with next to no memory: with 7000 MiB in place of 7168 the base takes 198.7 us in
	# place of 192.5.
	for (i = 1; i <= n; i++)
		if (order[i] ~ /^(ops|spawn|retouch|write|fork|command|all),/ && order[i] !~ /worst|maximum|break_alone|^fork,[02],exit/ &&
		    get("off", order[i]) != "" && get("base", order[i]) + 0) {
			r = get("off", order[i]) / get("base", order[i])
			if (r > worst) { worst = r; where = order[i] }
		}
	if (worst)
		bar("built and unused, the worst: " where, get("off", where), get("base", where), 1.005)
	else
		bar("built and unused", "", "", 1.005)
	printf "%d missed, %d not measured\n", missed, unmeasured
	exit (strict && missed > 0)
}
