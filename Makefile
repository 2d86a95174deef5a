# COW page tables: from source to verdict.  Everything is overridable on the command
# line or from the environment.

BUILD ?= $(CURDIR)/build
FLAVOUR ?= vm
JOBS ?= $(shell nproc)
ACCEL ?= auto
CPUS ?= 2
KERNEL_SRC ?=
LINUX ?= $(BUILD)/linux
FORCE ?=
export BUILD JOBS ACCEL CPUS KERNEL_SRC LINUX FORCE
ifdef MEM
export MEM
endif
ifdef O
export O
endif
# The scripts look at these only if they are set.
ifdef SHARE
export SHARE
endif
ifdef GDB
export GDB
endif
ifdef ONLY
export ONLY
endif
ifdef ROUNDS
export ROUNDS
endif
ifdef CONFIG
export CONFIG
endif
ifdef LOCALMOD
export LOCALMOD
endif

S := scripts

.PHONY: help
help:
	@sed -n 's/^#:\( \|$$\)//p' Makefile

#: Minutes are for two cores and TCG; "cold" is with an empty ccache.  What a target
#: needs it makes first: packages, source, series, kernel.
#:
#:   make deps       install the Debian packages that are missing, as root     1
#:   make fetch      kernel source into build/linux, branch base             1.5
#:   make apply      the series onto it, branch cow-pte                      0.2
#:   make kernel     build FLAVOUR=vm, debug, kcsan or gdb     14 cold, 2 warm
#:   make boot       a shell in the VM, FLAVOUR= as above                    0.2
#:   make run        the main job: fork times, redis          30 cold, 12 warm
#:   make test       harness and selftests, flavour debug     50 cold, 22 warm
#:   make full       all tests and checks below, one after the other; NAMES=   hours
#:
#: Tests:
#:   make breakages  break the kernel on purpose, see the tests fail; NAMES=  90
#:   make fuzz       the differential fuzzer, ARGS="--seconds 600"             4
#:   make races      all operations against each other, ARGS="-r 1000"       100
#:   make endurance  10,000 forks, 1,000 sharers, 50 generations, forks that
#:                   fail; ARGS="-r 100"                                      70
#:   make load       stress-ng and trinity, all sharing; ARGS="-s 60 -S SEED"  20
#:   make stress     load, userland, mmtests ARGS=debug and kcsan, in turn    hours
#:   make kcsan      races and fuzzer with the data race detector             45
#:   make userland   Debian programs with sharing for all of them             40
#:   make mmtests    the kernel's own mm selftests, unpatched and sharing;
#:                   ARGS=debug: hours                                        45
#:   make kselftest  the tests as a part of a kernel tree                      3
#:   make model      check the model of the protocol with spin                 3
#:
#: Figures:
#:   make bench      every figure, unpatched and patched; ARGS="quick base on",
#:                   ONLY="write fork,64", ROUNDS= with ACCEL=kvm              40
#:   make apps       Redis, AFL++ and Python, plain and sharing; ARGS="-m 512"  20
#:   make compare    two results of bench, ARGS="DIR DIR"                      0
#:   make document   the figures into README.md and Documentation              0
#:
#: The series:
#:   make check      branch and patches/ agree, checkpatch, shellcheck, spelling  1
#:   make check-each does each patch build, with and without (40), and work
#:                   (30); ARGS=build, ARGS=test                              70
#:   make docs       do the kernel's documents build, without a new warning?   5
#:   make versions   which 6.12.y does it apply to; ARGS="TREE..."             2
#:   make export     patches/ from the branch                                0.1
#:   make mbox       the series as one file for git am; ARGS=--selftests    0.2
#:   make deb        packages of a patched kernel; CONFIG=FILE LOCALMOD=1    hours
#:   make clean      remove the objects; make distclean removes build/       0.1
#:
#: Overridable: BUILD= (build directory), O= (object directory of the kernel),
#: LINUX= (another kernel tree with the branches), KERNEL_SRC= (a 6.12.y tree or git
#: checkout, never modified), ACCEL=auto|kvm|tcg, JOBS=, MEM= (MiB), CPUS=,
#: SHARE= (the directory that is /host in "make boot"), GDB=PORT (wait for a debugger),
#: FORCE=1 (apply: drop work in build/linux; full, breakages, check-each: again what has
#: passed).
#: Every script in scripts/ has --help, with its exit statuses; make gives 2 for each.

NAMES ?=
ARGS ?=
.PHONY: fuzz races endurance load stress kcsan userland mmtests apps kselftest
races: apply
	@$(S)/build.sh debug
	@$(S)/endurance.sh $(or $(ARGS),-r 1000) races

endurance: apply
	@$(S)/build.sh debug
	@$(S)/endurance.sh $(ARGS)

load: apply
	@$(S)/build.sh debug
	@$(S)/load.sh $(ARGS)

stress: deps
	@$(S)/full.sh load userland mmtests-debug kcsan

kcsan: apply
	@$(S)/build.sh kcsan
	@$(S)/kcsan.sh $(ARGS)

kselftest: apply
	@$(S)/build.sh debug
	@$(S)/kselftest.sh

apps: apply
	@$(S)/build.sh vm
	@$(S)/apps.sh $(ARGS)

mmtests: apply
	@$(S)/mmtests.sh $(ARGS)

fuzz: apply
	@$(S)/build.sh debug
	@$(S)/fuzz.sh $(ARGS)

userland: apply
	@$(S)/build.sh debug
	@$(S)/userland.sh $(ARGS)

# full.sh applies the series, without FORCE.
.PHONY: full docs versions compare document
full: deps
	@$(S)/full.sh $(NAMES)

docs: apply
	@$(S)/docs.sh

versions: deps
	@$(S)/versions.sh $(ARGS)

compare document:
	@$(S)/bench.sh $@ $(ARGS)

.PHONY: mbox deb
mbox deb: apply
	@$(S)/$@.sh $(ARGS)

.PHONY: model
model: deps
	@$(S)/model.sh

.PHONY: check-each
# check-each.sh takes FORCE, apply.sh must not.
check-each: deps
	@FORCE= $(S)/apply.sh
	@$(if $(filter test,$(ARGS)),:,$(S)/build.sh vm)
	@$(S)/check-each.sh $(ARGS)

.PHONY: breakages
# break.sh takes FORCE, apply.sh must not.
breakages: deps
	@FORCE= $(S)/apply.sh
	@$(S)/break.sh $(NAMES)

.PHONY: deps fetch apply kernel boot run test check export bench clean distclean
deps:
	@$(S)/deps.sh

fetch: deps
	@$(S)/fetch.sh

apply: deps
	@$(S)/apply.sh

kernel: apply
	@$(S)/build.sh $(FLAVOUR)

boot: kernel
	@$(S)/boot.sh $(FLAVOUR)

run: apply
	@$(S)/build.sh vm
	@$(S)/run.sh

test:
	@$(S)/suite.sh

check: apply
	@$(S)/check.sh

export:
	@$(S)/export.sh

bench: apply
	@$(S)/build.sh vm
	@$(S)/bench.sh $(ARGS)

clean:
	@$(S)/clean.sh

distclean:
	@$(S)/clean.sh all
