/*
 * memcheck.h
 *	  Stands before valgrind's header of this name where the servers of
 *	  scripts/sanitize.sh are built.
 *
 * A server built with USE_VALGRIND tells valgrind which bytes of its memory
 * contexts, and of its buffers, may be touched.  Here it tells the address
 * sanitizer too: to that one, memory of the server's own allocator would be
 * large blocks without borders, whose parts are never freed.
 *
 * The runtime is there or not, as the process was started: hence weak.  How
 * long what is freed has been is not told; but with CLOBBER_FREED_MEMORY, which
 * comes with assertions, the server forbids it before.
 */
#ifndef CALVIN_SANITIZE_MEMCHECK_H
#define CALVIN_SANITIZE_MEMCHECK_H

#include <stddef.h>

#include_next <valgrind/memcheck.h>

extern void __asan_poison_memory_region(void const volatile *addr, size_t size) __attribute__((weak));
extern void __asan_unpoison_memory_region(void const volatile *addr, size_t size) __attribute__((weak));

static inline void
tools_forbid(const volatile void *addr, size_t size)
{
	VALGRIND_MAKE_MEM_NOACCESS(addr, size);
	if (__asan_poison_memory_region)
		__asan_poison_memory_region(addr, size);
}

static inline void
asan_allow(const volatile void *addr, size_t size)
{
	if (__asan_unpoison_memory_region)
		__asan_unpoison_memory_region(addr, size);
}

static inline void
tools_make_defined(const volatile void *addr, size_t size)
{
	VALGRIND_MAKE_MEM_DEFINED(addr, size);
	asan_allow(addr, size);
}

static inline void
tools_make_undefined(const volatile void *addr, size_t size)
{
	VALGRIND_MAKE_MEM_UNDEFINED(addr, size);
	asan_allow(addr, size);
}

static inline void
tools_alloc(const volatile void *pool, const volatile void *addr, size_t size)
{
	VALGRIND_MEMPOOL_ALLOC(pool, addr, size);
	asan_allow(addr, size);
}

static inline void
tools_change(const volatile void *pool, const volatile void *before, const volatile void *after, size_t size)
{
	VALGRIND_MEMPOOL_CHANGE(pool, before, after, size);
	asan_allow(after, size);
}

#undef VALGRIND_MAKE_MEM_NOACCESS
#undef VALGRIND_MAKE_MEM_DEFINED
#undef VALGRIND_MAKE_MEM_UNDEFINED
#undef VALGRIND_MEMPOOL_ALLOC
#undef VALGRIND_MEMPOOL_CHANGE
#define VALGRIND_MAKE_MEM_NOACCESS(addr, size) tools_forbid(addr, size)
#define VALGRIND_MAKE_MEM_DEFINED(addr, size) tools_make_defined(addr, size)
#define VALGRIND_MAKE_MEM_UNDEFINED(addr, size) tools_make_undefined(addr, size)
#define VALGRIND_MEMPOOL_ALLOC(pool, addr, size) tools_alloc(pool, addr, size)
#define VALGRIND_MEMPOOL_CHANGE(pool, before, after, size) tools_change(pool, before, after, size)

#endif
