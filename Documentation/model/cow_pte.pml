/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A model of the life of one shared PTE table, for spin.
 *
 * Three mms, each on a CPU of its own whose TLB (the page X) and paging-structure
 * cache (the table T) are explicit state.  At the start mm 0 maps T privately, and T
 * maps X.  mm 0 forks 1, and forks 2; then everybody does anything: write faults
 * (break or reuse), unmap (detach, or zap by the last one), reclaim of X in place,
 * GUP-fast, and the CPUs walk and read and write at any time.
 *
 * The names are those of mm/cow_pte.c.  What is one atomic step here is under the
 * lock of the table there; a step that is not atomic here is outside of it.
 *
 * N is 3, or with GUP-fast (-DGUP -DN=2) 2, to keep the states countable.
 *
 * Variants, each of which must break an assertion (scripts/model.sh):
 *   NO_FLUSH           a leaver is dropped without a flush
 *   DROP_EARLY         ... or before it
 *   KEEP_LEAVING       the last sharer does not flush those who are leaving
 *   ALL_LEAVE          the last sharer leaves, too
 *   INPLACE_SHARERS    an in-place change flushes sharers, but not who is leaving
 *   INPLACE_ONE        ... or only one sharer
 *   NO_RECHECK         GUP-fast does not look at the PMD entry again
 *   COUNT_FIRST        fork counts references before it changes the PMD entry
 *   SHARE_RW           the child's PMD entry is writable
 *   NO_FORK_FLUSH      fork does not flush the parent
 *   COUNT_UNLOCKED     a leaver counts the sharers before it takes the lock
 *   PMD_MOMENT         a break empties the PMD entry and fills it a moment later
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
byte pwc[N];		/* the CPU's copy of it */
byte tlb[N];		/* the CPU's translation of X: T_RO, T_RW or OWN */
byte st[N];
bool alive[N];		/* the mm runs */
bool mapped[N];		/* ... and has a VMA for the block */
bool t_free;		/* T was given back */
bool x_in_t;		/* T maps X */
byte x_own;		/* tables of their own that map X */
byte x_refs;		/* refcount of X */
bool x_free;
bool excl;		/* PageAnonExclusive of X in T */
bool gup_ref;		/* GUP-fast has a reference of mm 0's page */
bool forking;		/* mmap_lock of mm 0 for writing */
bool ptl;		/* fork holds the lock of T over several steps */

inline nr_sharers(n)
{
	n = (st[0] == SHARER) + (st[1] == SHARER) + (st[N - 1] == SHARER && N > 2)
}

inline flush(m)
{
	pwc[m] = NONE;
	tlb[m] = NONE
}

#define t_reached	(pmd[0] == T_RO || pmd[0] == T_RW || pmd[1] == T_RO || \
			 pmd[1] == T_RW || pmd[N - 1] == T_RO || pmd[N - 1] == T_RW)

/* rmap finds T as long as it maps X: a PMD entry points to it */
inline rmap_finds()
{
	assert(!x_in_t || t_reached)
}

inline put_page()
{
	x_refs--;
	if
	:: x_refs == 0 -> x_free = true
	:: else
	fi
}

/* cow_pte_flush_leaving() */
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

/* cow_pte_drop() */
inline drop(m)
{
	atomic { st[m] = OUT }
}

/* cow_pte_gather_leave() and what the mmu_gather does in the end */
inline gather_leave(m)
{
#ifdef DROP_EARLY
	drop(m);
#endif
#ifndef NO_FLUSH
	atomic { flush(m) }
#endif
#ifndef DROP_EARLY
	drop(m);
#endif
}

/* cow_pte_fork(): mm 0 shares with @c.  In the first fork T becomes shared. */
inline share(c)
{
	atomic { !forking -> forking = true }
	if
	:: atomic { pmd[0] == T_RW -> ptl = true }
#ifdef COUNT_FIRST
		atomic {
			if
			:: x_in_t && x_refs > 1 + x_own -> excl = false
			:: else
			fi
		}
		atomic { pmd[0] = T_RO }
#else
		atomic { pmd[0] = T_RO }
		/* smp_mb() */
		atomic {
			if
			:: x_in_t && x_refs > 1 + x_own -> excl = false
			:: else
			fi
		}
#endif
		atomic { st[0] = SHARER; ptl = false }
	:: pmd[0] != T_RW -> skip
	fi;
	atomic {
		if
		:: pmd[0] == T_RO && st[0] == SHARER ->
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
	/* dup_mmap() flushes before it lets go of the mmap_lock */
	atomic { flush(0) }
#endif
	atomic { alive[c] = true; forking = false }
}

/* A write fault: cow_pte_replace() */
inline write_fault(m)
{
	atomic {
		!ptl;
		if
		:: pmd[m] == T_RO && st[m] == SHARER && !(m == 0 && forking) ->
			nr_sharers(n);
			if
			:: n == 1 ->			/* reuse */
				flush_leaving();
				st[m] = OUT;
				pmd[m] = T_RW;
				n = 0
			:: else ->			/* break */
				if
				:: x_in_t -> x_own++; x_refs++; excl = false
				:: else
				fi;
#ifdef PMD_MOMENT
				pmd[m] = NONE;
#else
				pmd[m] = OWN;
#endif
				st[m] = LEAVING
			fi;
			rmap_finds()
		:: else -> n = 0
		fi
	}
#ifdef PMD_MOMENT
	atomic {
		if
		:: n > 1 -> pmd[m] = OWN
		:: else
		fi
	}
#endif
	if
	:: n > 1 -> gather_leave(m)
	:: else
	fi
}

/* munmap or exit: cow_pte_detach(), or the ordinary zap of a private table */
inline unmap(m)
{
#ifdef COUNT_UNLOCKED
	atomic { nr_sharers(k) }
#endif
	atomic {
		!ptl;
		n = 0;
		if
		:: pmd[m] == T_RO && st[m] == SHARER && !(m == 0 && forking) ->
#ifdef COUNT_UNLOCKED
			n = k;
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
				mapped[m] = false;
				st[m] = LEAVING;
				n = 2
			fi;
			rmap_finds()
		:: else
		fi
	}
	if
	:: n == 2 -> gather_leave(m)
	:: else -> skip
	fi;
	atomic {
		!ptl;
		k = 0;
		if
		:: n == 0 && pmd[m] == T_RW && st[m] == OUT && !(m == 0 && forking) ->
			/* zap_pte_range(), free_pgtables() */
			k = 1 + x_in_t;
			x_in_t = false;
			mapped[m] = false;
			pmd[m] = NONE
		:: n == 0 && pmd[m] == OWN ->
			k = 3;
			mapped[m] = false;
			pmd[m] = NONE
		:: else
		fi;
		n = k
	}
	/* tlb_finish_mmu(): flush, then free */
	if
	:: n -> atomic { flush(m) }
	:: else -> skip
	fi;
	atomic {
		if
		:: n == 2 -> t_free = true; put_page()
		:: n == 1 -> t_free = true
		:: n == 3 && own_x -> own_x = false; x_own--; put_page()
		:: else
		fi
	}
}

/* What an mm does, each thing once at most, in any order */
proctype mm(byte m)
{
	byte n, k;
	bool own_x, wrote, unmapped;

	alive[m];
	do
	:: !wrote ->
		wrote = true;
		write_fault(m);
		if
		:: n > 1 -> own_x = pmd[m] == OWN && x_own > 0
		:: else
		fi
	:: !unmapped && !(m == 0 && forking) -> unmapped = true; unmap(m)
	:: wrote && unmapped -> break
	:: unmapped -> break
	od
}

/* The CPU of mm @m: walks, reads and writes whenever it likes */
proctype cpu(byte m)
{
	byte j;

end:	do
	/* a fault there would find no table, and make an empty one */
	:: atomic { alive[m] && mapped[m] && pmd[m] == NONE -> assert(false) }
	:: atomic { alive[m] && pwc[m] == NONE && pmd[m] != NONE -> pwc[m] = pmd[m] }
	:: atomic { (pwc[m] == T_RO || pwc[m] == T_RW) ->
		/* the table is read */
		assert(!t_free);
		if
		:: x_in_t -> tlb[m] = pwc[m]
		:: else
		fi
		}
	:: atomic { (tlb[m] == T_RO || tlb[m] == T_RW) ->
		/* the page is read */
		assert(!x_free) }
	:: atomic { tlb[m] == T_RW && excl && !(m == 0 && forking) ->
		/* the page is written: nobody else may see that */
		for (j : 0 .. N - 1) {
			assert(j == m || tlb[j] == NONE || tlb[j] == OWN);
			assert(j == m || st[j] != SHARER)
		}
		}
	od
}

/* Reclaim of X in T: try_to_unmap_one() */
proctype reclaim()
{
	byte k;
	bool took;

	atomic {
		!ptl;
		if
		:: x_in_t && t_reached ->
			x_in_t = false;
			took = true;
			for (k : 0 .. N - 1) {
				if
#ifdef INPLACE_ONE
				:: k == 0 && (st[k] == SHARER || pmd[k] == T_RW) -> flush(k)
#else
				:: st[k] == SHARER || pmd[k] == T_RW -> flush(k)
#endif
#ifndef INPLACE_SHARERS
				:: st[k] == LEAVING -> flush(k)
#endif
				:: else
				fi
			}
		:: else
		fi
	}
	atomic {
		if
		:: took -> put_page()
		:: else
		fi
	}
}

/* GUP-fast in mm 0 */
proctype gup_fast()
{
	byte seen;

	atomic { seen = pmd[0] }
	if
	:: seen == T_RW ->
		atomic {
			if
			:: x_in_t -> x_refs++; seen = T_RW
			:: else -> seen = NONE
			fi
		}
		if
		:: seen == T_RW ->
			atomic {
#ifndef NO_RECHECK
				if
				:: pmd[0] == T_RW && x_in_t -> gup_ref = true
				:: else -> put_page()
				fi
#else
				gup_ref = true
#endif
			}
		:: else -> skip
		fi
	:: else -> skip		/* slow GUP breaks first */
	fi;
	/* whoever has a reference now never sees writes of another sharer */
	atomic {
		assert(!(gup_ref && excl && x_in_t && st[0] == SHARER &&
			 (st[1] == SHARER || st[N - 1] == SHARER)))
	}
}

proctype fork()
{
	share(1);
#if N > 2
	share(2)
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
		run cpu(0); run cpu(1);
		run mm(0); run mm(1);
#if N > 2
		run cpu(2); run mm(2);
#endif
		run fork();
#ifdef GUP
		run gup_fast();
#endif
		run reclaim()
	}
}
