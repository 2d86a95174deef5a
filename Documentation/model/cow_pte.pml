/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A model of the life of one shared PTE table, for spin.
 *
 * Up to three mms, each on a CPU of its own whose TLB (the page X) and paging-structure
 * cache (the table T) are explicit state; with two mms, mm 0 has a second CPU, so that a
 * flush must reach both.  At the start mm 0 maps T privately, and T
 * maps X.  mm 0 forks 1, and then 0 or 1 forks 2; the mms fault (break or reuse) and
 * unmap (detach, or zap by the last one), X is truncated or reclaimed with a batched
 * flush, both in place, GUP-fast takes a reference, and the CPUs walk and read and write
 * at any time.
 *
 * The names are those of mm/cow_pte.c, where comments name the steps of this file in
 * brackets: [share], [break], [reuse], [detach], [leave], [flush], [drop],
 * [flush leaving], [in place]; so do those in mm/gup.c, [gup], and in kernel/fork.c,
 * [fork flush].  What is one atomic step here is under the lock of the
 * table there; a step that is not atomic here is outside of it.
 *
 * What is bounded, always: one table with one page; two forks (one with N=2); an mm
 * writes once at most and then unmaps once, or does not write; X is truncated or
 * reclaimed once; GUP-fast tries once, in mm 0, for a reference or for a pin, and keeps
 * it; and all come to their end.  What is checked (scripts/model.sh):
 *   -DN=2 -DGUP      two mms and GUP-fast; no fork of a sharer
 *   -DN=2 -DTHREAD   ... and instead of GUP-fast a second thread of mm 0, that writes
 *                    once at most, too
 *   -DN=3            three mms, with the fork of a sharer; neither GUP-fast nor a second
 *                    thread
 *
 * Invariants, and where they are:
 *   RW is clear in every sharer's entry, and no TLB of a sharer has an older translation
 *     when fork() returns: cpu(), the write, for all other mms and CPUs
 *   a PMD entry is never empty for a moment: cpu(), the first step
 *   no table or page is freed that a CPU can reach: cpu(), the reads
 *   no copy of a table is lost, and none is made twice: no_orphan()
 *   one last sharer: rmap_finds(), drop(), and finish(), that T is freed
 *   changes in place reach all: cpu(), the read of X
 *   no reference by GUP through a shared table, and fork() finds those that there are:
 *     gup_alone(), in the last step of gup_fast()
 *   a page that may be pinned is never in a shared table: pin_alone(), in the last steps
 *     of gup_fast() and of share()
 *   no reference is lost: finish()
 *   who copies leaves no page exclusive: cpu(), the write
 * Not here, but tested: allocations that fail (nomem), RSS (accounting), and that the
 * child has a copy of a block with a pinned page (gup).
 *
 * Variants, each of which must break the assertion that is named, written as spin has it
 * but for blanks and parentheses (scripts/model.sh):
 *   NO_FLUSH         !t_free             a leaver is dropped without a flush
 *   DROP_EARLY       !t_free             ... or before it
 *   ONE_CPU          !t_free             ... or only the first CPU of an mm is flushed
 *   KEEP_LEAVING     !t_free             the last sharer does not flush those who are leaving
 *   ALL_LEAVE        rmap_way            the last sharer leaves, too
 *   INPLACE_SHARERS  !x_free             an in-place change flushes sharers, but not who is leaving
 *   INPLACE_ONE      !x_free             ... or only one sharer
 *   BATCH_ONE        !x_free             reclaim remembers only one sharer for its batched flush
 *   BATCH_LATE       !x_free             ... or flushes when it has let go of the page
 *   NO_RECHECK       ref_is_seen         GUP-fast does not look at the PMD entry again
 *   MARK_LATE        ref_is_seen         GUP-fast says too late that it has taken a reference, and
 *                                        fork does not look for any
 *   COPY_EXCLUSIVE   k==m||!own_x[k]     a copy leaves the pages of both tables exclusive
 *   COUNT_FIRST      ref_is_seen         fork counts references before it changes the PMD entry
 *   SHARE_RW         m==0||tlb[2]==0     the child's PMD entry is writable
 *   NO_FORK_FLUSH    k==m||st[k]!=1      fork does not flush the parent
 *   FORK_FLUSH_EXCL  k==m||st[k]!=1      ... unless the page is exclusive
 *   COUNT_UNLOCKED   !t_free             a leaver counts the sharers before it takes the lock
 *   PMD_MOMENT       0                   a break empties the PMD entry and fills it a moment later
 *   LOSE_REFERENCE   refs_add_up         a break takes no reference for the copy
 *   BREAK_NO_RECHECK owns[m]==pmd[m]==3  a break does not look at the PMD entry again with the
 *                                        locks, and another thread has broken the table (with
 *                                        THREAD)
 *   NO_PINS          pin_is_seen         fork does not look for pins
 *   PINS_FIRST       pin_is_seen         ... or only before it changes the PMD entry
 */
#ifndef N
#define N	3
#endif

/* What a PMD entry, or a cached one, points to */
#define NONE	0
#define T_RO	1	/* T, RW clear: shared */
#define T_RW	2	/* T, private */
#define OWN	3	/* a table of its own */

/* struct cow_pte_sharer */
#define OUT	0
#define SHARER	1	/* in ->sharers */
#define LEAVING	2	/* in ->leaving */
#define LEFT	3	/* ->node.next is NULL: flushed by the last sharer */

byte pmd[N];		/* the PMD entry */
#if N == 2
#define CPUS	3	/* the last one is of mm 0, too */
#else
#define CPUS	N
#endif
byte pwc[CPUS];		/* the CPU's copy of it, if it points to T */
byte tlb[CPUS];		/* the CPU's translation of X by T: NONE, T_RO or T_RW */
byte st[N];
bool alive[N];		/* the mm runs */
bool mapped[N];		/* ... and has a VMA for the block */
bool t_free;		/* T was given back */
bool x_in_t;		/* T maps X */
bool own_x[N];		/* the mm's own table maps X */
byte owns[N];		/* tables that were made for the mm */
byte x_own;		/* ... that map X, of all mms */
byte x_refs;		/* refcount of X */
bool x_free;
bool excl;		/* PageAnonExclusive of X in T */
bool gup_ref;		/* GUP-fast has a reference of mm 0's page */
bool pinned;		/* ... that is a pin, or it is about to have one */
bool mark;		/* MMF_HAS_GUP_REF of mm 0: cow_pte_gup_ref() */
bool forking;		/* mmap_lock of mm @forker for writing, its VMA locks too */
byte forker;
byte busy[N];		/* who has it for reading, or a VMA lock: until the sharer is dropped */
byte ended;		/* processes that have come to their end */
bool ptl;		/* fork holds the lock of T over several steps */
hidden byte k;		/* scratch, inside of one step: no state */
/* What is asserted, by a name that scripts/model.sh can compare */
hidden byte rmap_way, refs_add_up, ref_is_seen, pin_is_seen;

inline nr_sharers(n)
{
	n = (st[0] == SHARER) + (st[1] == SHARER) + (st[N - 1] == SHARER && N > 2)
}

/* All CPUs of the mm */
inline flush(m)
{
	pwc[m] = NONE;
	tlb[m] = NONE;
#if CPUS > N && !defined(ONE_CPU)
	if
	:: m == 0 -> pwc[N] = NONE; tlb[N] = NONE
	:: else
	fi
#endif
}

#define t_reached	(pmd[0] == T_RO || pmd[0] == T_RW || pmd[1] == T_RO || \
			 pmd[1] == T_RW || pmd[N - 1] == T_RO || pmd[N - 1] == T_RW)

/* A PMD entry was replaced: no copy is left that nothing points to */
#define no_orphan(m)	assert(owns[m] == (pmd[m] == OWN))

/* rmap finds T as long as it maps X: a PMD entry points to it */
inline rmap_finds()
{
	rmap_way = !x_in_t || t_reached;
	assert(rmap_way)
}

/* Whoever has a reference never sees writes of another sharer. */
inline gup_alone()
{
	ref_is_seen = !(gup_ref && excl && x_in_t && st[0] == SHARER &&
			(st[1] == SHARER || st[N - 1] == SHARER));
	assert(ref_is_seen)
}

/* A shared table, and be it dormant, has no page that is pinned. */
inline pin_alone()
{
	pin_is_seen = !(gup_ref && pinned && x_in_t && st[0] == SHARER);
	assert(pin_is_seen)
}

inline put_page()
{
	x_refs--;
	if
	:: x_refs == 0 -> x_free = true
	:: else
	fi
}

#define locked(m)	(forking && forker == m)

#ifdef GUP
#define WITH_GUP	1
#else
#define WITH_GUP	0
#endif
#ifdef THREAD
#define WITH_THREAD	1
#else
#define WITH_THREAD	0
#endif
#define PROCESSES	(N + 2 + WITH_GUP + WITH_THREAD)

/*
 * In the last step of a process.  When all are gone, so are the table and what it mapped:
 * nothing is lost.
 */
inline finish()
{
	ended++;
	if
	:: ended == PROCESSES ->
#if !defined(SHARE_RW) && !defined(ALL_LEAVE) && !defined(COUNT_UNLOCKED)
		/* what those do must be seen before the end */
		refs_add_up = x_refs == x_in_t + x_own + gup_ref;
		assert(refs_add_up);
		assert(t_free && !t_reached && !x_in_t && !x_own);
		for (k : 0 .. N - 1) { assert(st[k] == OUT && !owns[k]) }
#else
		skip
#endif
	:: else
	fi
}

/* [flush leaving] cow_pte_flush_leaving() */
inline flush_leaving()
{
#ifndef KEEP_LEAVING
	for (k : 0 .. N - 1) {
		if
		:: st[k] == LEAVING -> flush(k); st[k] = LEFT
		:: else
		fi
	}
#else
	for (k : 0 .. N - 1) {
		if
		:: st[k] == LEAVING -> st[k] = LEFT
		:: else
		fi
	}
#endif
}

/* [drop] cow_pte_drop().  Nobody is dropped twice. */
inline drop(m)
{
	assert(st[m] == LEAVING || st[m] == LEFT);
	st[m] = OUT
}

/*
 * [flush], then [drop]: cow_pte_gather_leave(), and what the mmu_gather does then.  The
 * drop is one step with letting go of the mmap_lock.
 */
inline gather_leave(m)
{
#ifdef DROP_EARLY
	d_step { drop(m) };
#endif
#ifndef NO_FLUSH
	d_step { flush(m) };
#endif
	d_step {
#ifndef DROP_EARLY
		drop(m);
#endif
		busy[m]--
	}
}

/* fork() looks at references only where somebody has said that there may be some. */
#define has_refs(p)	(p == 0 && mark && x_refs > 1 + x_own)

/* A page that is not exclusive is not pinned: GUP-fast has to find that out. */
#define has_pins(p)	(p == 0 && mark && excl && pinned)

/*
 * [share] cow_pte_fork(): mm @p shares with @c.  A private T becomes shared, unless X may
 * be pinned: then T is private again, and copied.
 */
inline share(p, c, last)
{
	atomic { !forking && !busy[p] -> forking = true; forker = p }
	if
	:: atomic { pmd[p] == T_RW && st[p] == OUT -> ptl = true }
#ifdef COUNT_FIRST
		atomic {
			if
			:: x_in_t && !has_pins(p) && has_refs(p) -> excl = false
			:: else
			fi
		}
#endif
#ifdef PINS_FIRST
		atomic { pins = x_in_t && has_pins(p) }
#endif
		atomic { pmd[p] = T_RO }
		/* smp_mb() */
		atomic {
#if !defined(PINS_FIRST) && !defined(NO_PINS)
			pins = x_in_t && has_pins(p);
#endif
			if
			:: pins -> pmd[p] = T_RW
#ifndef COUNT_FIRST
			:: !pins && x_in_t && has_refs(p) -> excl = false
#endif
			:: else
			fi
		}
		atomic {
			if
			:: !pins -> st[p] = SHARER
			:: else -> pins = false
			fi;
			ptl = false
		}
	:: pmd[p] != T_RW -> skip
	fi;
	atomic {
		if
		:: pmd[p] == T_RO && st[p] == SHARER ->
			st[c] = SHARER;
			mapped[c] = true;
#ifdef SHARE_RW
			pmd[c] = T_RW
#else
			pmd[c] = T_RO
#endif
		:: else -> skip		/* copied, as ever: not modelled */
		fi
	}
#ifndef NO_FORK_FLUSH
	/* [fork flush] dup_mmap() flushes before it lets go of the mmap_lock */
#ifdef FORK_FLUSH_EXCL
	if
	:: atomic { excl -> flush(p) }
	:: !excl
	fi;
#else
	atomic { flush(p) }
#endif
#endif
	atomic {
		pin_alone();
		alive[c] = true;
		forking = false;
		if
		:: last -> finish()
		:: else
		fi
	}
}

/*
 * A write fault: [break] or [reuse], cow_pte_replace().  The look at the PMD entry without
 * a lock is a step of its own if there is a second thread that could change it.
 */
inline write_fault(m)
{
	atomic {
		/* mmap_lock or VMA lock, and the VMA is looked up */
		!locked(m);
		n = 0;
		seen = NONE;
		if
		:: mapped[m] -> busy[m]++; seen = pmd[m]
		:: else
		fi
#ifdef THREAD
	}
	atomic {
#endif
		if
		:: seen == T_RO ->
			!ptl;
			if
#ifdef BREAK_NO_RECHECK
			:: true ->
#else
			:: pmd[m] == T_RO ->
#endif
				nr_sharers(n)
			:: else			/* another thread was faster */
			fi
		:: else
		fi;
		if
		:: n == 0
		:: n == 1 ->				/* [reuse] */
			flush_leaving();
			st[m] = OUT;
			pmd[m] = T_RW;
			no_orphan(m)
		:: n > 1 ->				/* [break] */
			if
			:: x_in_t ->
				own_x[m] = true;
				x_own++;
#ifndef LOSE_REFERENCE
				x_refs++;
#endif
#ifndef COPY_EXCLUSIVE
				excl = false
#endif
			:: else
			fi;
			st[m] = LEAVING;		/* [leave] */
#ifdef PMD_MOMENT
			pmd[m] = NONE
#else
			owns[m]++;
			pmd[m] = OWN;
			no_orphan(m)
#endif
		fi;
		rmap_finds();
		if
		:: n <= 1 && mapped[m] -> busy[m]--
		:: else
		fi;
		seen = NONE
	}
#ifdef PMD_MOMENT
	atomic {
		if
		:: n > 1 -> owns[m]++; pmd[m] = OWN
		:: else
		fi
	}
#endif
	if
	:: n > 1 -> gather_leave(m)
	:: else
	fi
}

/*
 * munmap or exit: [detach], cow_pte_detach(), or the ordinary zap of a private table.
 * No fault is under way, and none comes: the VMA is gone.
 */
inline unmap(m)
{
#ifdef COUNT_UNLOCKED
	atomic { nr_sharers(seen) }
#endif
	atomic {
		!ptl && !locked(m) && !busy[m];
		busy[m] = 1;
		mapped[m] = false;
		n = 0;
		if
		:: pmd[m] == T_RO && st[m] == SHARER ->
#ifdef COUNT_UNLOCKED
			n = seen;
#else
			nr_sharers(n);
#endif
			if
#ifdef ALL_LEAVE
			:: n == 1 && st[0] != LEAVING && st[1] != LEAVING && st[N - 1] != LEAVING ->
#else
			:: n == 1 ->
#endif
				flush_leaving();
				st[m] = OUT;
				pmd[m] = T_RW;
				n = 0
			:: else ->
				pmd[m] = NONE;
				st[m] = LEAVING;
				n = 2
			fi;
			no_orphan(m);
			rmap_finds()
		:: else
		fi
	}
	if
	:: n == 2 -> gather_leave(m); n = 0
	:: else ->
		atomic {
			!ptl;
			n = 0;
			if
			:: pmd[m] == T_RW && st[m] == OUT ->
				/* zap_pte_range(), free_pgtables() */
				n = 1 + x_in_t;
				x_in_t = false;
				pmd[m] = NONE
			:: pmd[m] == OWN ->
				n = 3;
				owns[m]--;
				pmd[m] = NONE
			:: else
			fi;
			no_orphan(m)
		}
		/* tlb_finish_mmu(): flush, then free */
		if
		:: n -> d_step { flush(m) }
		:: else
		fi
	fi;
	atomic {
		busy[m] = 0;
		if
		:: n == 2 -> t_free = true; put_page()
		:: n == 1 -> t_free = true
		:: n == 3 && own_x[m] -> own_x[m] = false; x_own--; put_page()
		:: else
		fi;
		n = 0;
		finish()
	}
}

/*
 * What an mm does: one write fault or none, and in the end it unmaps.  A fault after that
 * would find no VMA.
 */
proctype mm(byte m)
{
	byte n, seen;

	alive[m];
	if
	:: write_fault(m)
	:: skip
	fi;
	unmap(m)
}

#ifdef THREAD
/* A second thread of mm @m, which writes, too, at any time */
proctype thread(byte m)
{
	byte n, seen;

	write_fault(m);
	atomic { finish() }
}
#endif

/*
 * CPU @c, which is of mm @m: walks, reads and writes whenever it likes.  What it may know of a
 * table of its own is of no consequence, and so it does not remember it.
 */
proctype cpu(byte c, m)
{
end:	do
	/* a fault there would find no table, and make an empty one */
	:: d_step { alive[m] && mapped[m] && pmd[m] == NONE -> assert(false) }
	:: d_step { alive[m] && pwc[c] == NONE && (pmd[m] == T_RO || pmd[m] == T_RW) ->
		pwc[c] = pmd[m] }
	:: d_step { pwc[c] != NONE && (t_free || x_in_t) ->
		/* the table is read */
		assert(!t_free);
		/* an entry is writable if the page is exclusive, and is not looked at again */
		tlb[c] = (pwc[c] == T_RW && excl -> T_RW : T_RO)
		}
	:: d_step { tlb[c] != NONE && x_free ->
		/* the page is read */
		assert(!x_free) }
	:: atomic { tlb[c] == T_RW && !locked(m) ->
		/* the page is written: nobody else may see that */
		for (k : 0 .. N - 1) {
			assert(k == m || tlb[k] == NONE);
			assert(k == m || st[k] != SHARER);
			assert(k == m || !own_x[k])
		}
#if CPUS > N
		assert(m == 0 || tlb[N] == NONE)
#endif
		}
	od
}

/* Does an in-place change look at mm @k? */
#ifdef INPLACE_ONE
#define is_sharer(k)	(k == 0 && (st[k] == SHARER || pmd[k] == T_RW))
#else
#define is_sharer(k)	(st[k] == SHARER || pmd[k] == T_RW)
#endif
#ifdef INPLACE_SHARERS
#define is_concerned(k)	is_sharer(k)
#else
#define is_concerned(k)	(is_sharer(k) || st[k] == LEAVING)
#endif

/*
 * [in place] X goes out of T for all: zap_pte_range() of a truncation, which flushes
 * under the lock, or try_to_unmap_one() of reclaim, which flushes later.
 */
proctype inplace()
{
	bool took, pending[N];

	if
	:: atomic {
		!ptl;
		if
		:: x_in_t && t_reached ->
			x_in_t = false;
			took = true;
			for (k : 0 .. N - 1) {
				if
				:: is_concerned(k) -> flush(k)
				:: else
				fi
			}
		:: else
		fi
	   }
	:: atomic {
		!ptl;
		if
		:: x_in_t && t_reached ->
			x_in_t = false;
			excl = false;
			took = true;
			/* cow_pte_inplace_mms() */
			for (k : 0 .. N - 1) {
#ifdef BATCH_ONE
				pending[k] = k == 0 && is_concerned(k)
#else
				pending[k] = is_concerned(k)
#endif
			}
		:: else
		fi
	   }
#ifdef BATCH_LATE
	   atomic {
		if
		:: took -> took = false; put_page()
		:: else
		fi
	   }
#endif
	   /* try_to_unmap_flush() */
	   atomic {
		for (k : 0 .. N - 1) {
			if
			:: pending[k] -> flush(k); pending[k] = false
			:: else
			fi
		}
	   }
	fi;
	atomic {
		if
		:: took -> took = false; put_page()
		:: else
		fi;
		finish()
	}
}

/*
 * [gup] gup_fast_pte_range() in mm 0.  cow_pte_gup_ref() is before it, here after the look
 * at the entry: what counts is that it is before the reference.
 */
proctype gup_fast()
{
	byte seen;

	atomic { seen = pmd[0] }
	if
	:: seen == T_RW ->
#ifndef MARK_LATE
		atomic { mark = true }
#endif
		atomic {
			if
			:: x_in_t -> x_refs++; seen = T_RW
#if !defined(MARK_LATE) && !defined(NO_RECHECK)
			/* what these do wrong must be seen with a reference */
			:: x_in_t -> x_refs++; pinned = true; seen = T_RW
#endif
			:: else -> seen = NONE
			fi
		}
		if
		:: seen == T_RW ->
			atomic {
#ifndef NO_RECHECK
				if
				/* gup_must_unshare(): no pin of what others have, too */
				:: pmd[0] == T_RW && x_in_t && (excl || !pinned) -> gup_ref = true
				:: else -> pinned = false; put_page()
				fi
#else
				gup_ref = true
#endif
			}
		:: else -> skip
		fi
#ifdef MARK_LATE
		atomic { mark = true }
#endif
	:: else -> skip		/* slow GUP breaks first */
	fi;
	atomic {
		gup_alone();
		pin_alone();
		finish()
	}
}

proctype fork()
{
	bool pins;

#if N == 2
	share(0, 1, true)
#else
	share(0, 1, false);
	if
	:: share(0, 2, true)
	:: share(1, 2, true)	/* the fork of a sharer */
	fi
#endif
}

init {
	atomic {
		pmd[0] = T_RW;
		mapped[0] = true;
		x_in_t = true;
		x_refs = 1;
		excl = true;
		alive[0] = true;
		run cpu(0, 0); run cpu(1, 1);
		run mm(0); run mm(1);
#if N > 2
		run cpu(2, 2); run mm(2);
#else
		run cpu(2, 0);
#endif
		run fork();
#ifdef THREAD
		run thread(0);
#endif
#ifdef GUP
		run gup_fast();
#endif
		run inplace()
	}
}
