/*
 * compat.h
 *	  What differs between the PostgreSQL versions we compile on (15 to 19).
 *
 * Included right after postgres.h, so that PGDLLEXPORT is ours before any
 * header uses it.
 */
#ifndef CALVIN_COMPAT_H
#define CALVIN_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000
#error "calvin_seq needs PostgreSQL 15 or newer"
#endif

/* 15 leaves it empty on ELF: with hidden visibility nothing would be found */
#if PG_VERSION_NUM < 160000
#undef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
#endif

/* Before a declaration; 18 has it, and no pg_attribute_noreturn() any more. */
#ifndef pg_noreturn
#define pg_noreturn pg_attribute_noreturn()
#endif

/* 19 has it, and warns of comments. */
#ifndef pg_fallthrough
#define pg_fallthrough __attribute__((fallthrough))
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* An SQL-callable function, visible although everything else is hidden. */
#define CALVIN_FUNCTION(name)                                  \
	PGDLLEXPORT Datum name(PG_FUNCTION_ARGS);                  \
	PG_FUNCTION_INFO_V1(name)

#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "parser/parse_relation.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#if PG_VERSION_NUM >= 170000
#define compat_lock_held_by_me(tag, mode) LockHeldByMe((tag), (mode), false)
#else
#define compat_lock_held_by_me(tag, mode) LockHeldByMe((tag), (mode))
#endif

/* A WaitEventSet; of this process, until it is freed, or the process ends. */
#if PG_VERSION_NUM >= 170000
#define compat_create_wait_event_set(n) CreateWaitEventSet(NULL, (n))
#else
#define compat_create_wait_event_set(n) CreateWaitEventSet(TopMemoryContext, (n))
#endif

/* Index of a backend's or worker's PGPROC, below MaxBackends. */
#if PG_VERSION_NUM >= 170000
#define compat_proc_number(proc) GetNumberFromPGProc(proc)
#else
#define compat_proc_number(proc) ((proc)->pgprocno)
#endif

/* The process of a virtual transaction; NULL if there is none. */
#if PG_VERSION_NUM >= 170000
#define compat_holder_proc(vxid) ProcNumberGetProc((vxid).procNumber)
#else
#define compat_holder_proc(vxid) BackendIdGetProc((vxid).backendId)
#endif

/* Give a table new, empty storage when this transaction commits. */
#if PG_VERSION_NUM >= 160000
#define compat_set_new_storage(rel) \
	RelationSetNewRelfilenumber((rel), (rel)->rd_rel->relpersistence)
#else
#define compat_set_new_storage(rel) \
	RelationSetNewRelfilenode((rel), (rel)->rd_rel->relpersistence)
#endif

/*
 * The snapshot that TOAST rows are read with, kept in *data before 18; another
 * one must be active or registered.
 */
#if PG_VERSION_NUM >= 180000
#define compat_toast_snapshot(data) ((void) (data), get_toast_snapshot())
#else
#define compat_toast_snapshot(data) (init_toast_snapshot(data), (data))
#endif

/*
 * Does a commit that asks for it wait for synchronous standbys now?  That is
 * the checkpointer's to say, who may hear of a change before or after us.  The
 * minor releases of spring 2025 have it in two bits; of the first, that he has
 * not spoken yet, the caller is to think the worst.
 */
#include "replication/walsender_private.h"
#ifdef SYNC_STANDBY_INIT
#define compat_commits_wait()                                          \
	((((volatile WalSndCtlData *) WalSndCtl)->sync_standbys_status &   \
	  (SYNC_STANDBY_INIT | SYNC_STANDBY_DEFINED)) != SYNC_STANDBY_INIT)
#else
#define compat_commits_wait() \
	(((volatile WalSndCtlData *) WalSndCtl)->sync_standbys_defined)
#endif

#if PG_VERSION_NUM >= 180000
#define compat_primary_key_index(rel) RelationGetPrimaryKeyIndex((rel), false)
#else
#define compat_primary_key_index(rel) RelationGetPrimaryKeyIndex(rel)
#endif

#if PG_VERSION_NUM >= 160000
#define compat_owns_database(db, role) \
	object_ownercheck(DatabaseRelationId, (db), (role))
#define compat_owns_relation(rel, role) \
	object_ownercheck(RelationRelationId, (rel), (role))
#else
#define compat_owns_database(db, role) pg_database_ownercheck((db), (role))
#define compat_owns_relation(rel, role) pg_class_ownercheck((rel), (role))
#endif

#include "catalog/pg_proc.h"
#if PG_VERSION_NUM >= 160000
#define compat_may_connect(db, role) \
	(object_aclcheck(DatabaseRelationId, (db), (role), ACL_CONNECT) == ACLCHECK_OK)
#define compat_may_execute(function, role) \
	(object_aclcheck(ProcedureRelationId, (function), (role), ACL_EXECUTE) == ACLCHECK_OK)
#define compat_may_look_into(schema, role) \
	(object_aclcheck(NamespaceRelationId, (schema), (role), ACL_USAGE) == ACLCHECK_OK)
#else
#define compat_may_connect(db, role) \
	(pg_database_aclcheck((db), (role), ACL_CONNECT) == ACLCHECK_OK)
#define compat_may_execute(function, role) \
	(pg_proc_aclcheck((function), (role), ACL_EXECUTE) == ACLCHECK_OK)
#define compat_may_look_into(schema, role) \
	(pg_namespace_aclcheck((schema), (role), ACL_USAGE) == ACLCHECK_OK)
#endif

#include "access/genam.h"
#if PG_VERSION_NUM >= 190000
#define compat_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan((rel), (index), (snapshot), NULL, (nkeys), 0, SO_NONE)
#elif PG_VERSION_NUM >= 180000
#define compat_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan((rel), (index), (snapshot), NULL, (nkeys), 0)
#else
#define compat_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan((rel), (index), (snapshot), (nkeys), 0)
#endif

#include "access/tableam.h"
#if PG_VERSION_NUM >= 190000
#define compat_table_beginscan(rel, snapshot) \
	table_beginscan((rel), (snapshot), 0, NULL, SO_NONE)
#else
#define compat_table_beginscan(rel, snapshot) \
	table_beginscan((rel), (snapshot), 0, NULL)
#endif

#if PG_VERSION_NUM >= 190000
#define compat_table_tuple_delete(rel, tid, cid, snapshot, wait, failure) \
	table_tuple_delete((rel), (tid), (cid), 0, (snapshot), InvalidSnapshot, \
					   (wait), (failure))
#else
#define compat_table_tuple_delete(rel, tid, cid, snapshot, wait, failure) \
	table_tuple_delete((rel), (tid), (cid), (snapshot), InvalidSnapshot, \
					   (wait), (failure), false)
#endif

/* A hash table in shared memory, of n entries at most. */
#if PG_VERSION_NUM >= 190000
#define compat_shmem_hash(name, n, info, flags) \
	ShmemInitHash((name), (n), (info), (flags))
#else
#define compat_shmem_hash(name, n, info, flags) \
	ShmemInitHash((name), (n), (n), (info), (flags))
#endif

/* CLUSTER; from 19 on REPACK as well. */
#if PG_VERSION_NUM >= 190000
#define COMPAT_CLUSTER_STMT T_RepackStmt
#else
#define COMPAT_CLUSTER_STMT T_ClusterStmt
#endif

/*
 * A signal's handler that ignores it.  19 has one of the handlers' type, PG_SIG_IGN,
 * which casts from function to function: with the server's own flags clang warns.
 */
#if PG_VERSION_NUM >= 190000
#define COMPAT_SIG_IGN ((pqsigfunc) (uintptr_t) SIG_IGN)
#else
#define COMPAT_SIG_IGN SIG_IGN
#endif

/* An ExecutorRun_hook: its arguments, and those it hands on. */
#if PG_VERSION_NUM >= 180000
#define COMPAT_RUN_PARAMS QueryDesc *query, ScanDirection direction, uint64 count
#define COMPAT_RUN_ARGS query, direction, count
#else
#define COMPAT_RUN_PARAMS \
	QueryDesc *query, ScanDirection direction, uint64 count, bool execute_once
#define COMPAT_RUN_ARGS query, direction, count, execute_once
#endif

/* A handler of a signal hands its arguments on. */
#if PG_VERSION_NUM >= 190000
#define COMPAT_SIGNAL_ARGS postgres_signal_arg, pg_siginfo
#else
#define COMPAT_SIGNAL_ARGS postgres_signal_arg
#endif

/* An executor state whose range table is one relation. */
#if PG_VERSION_NUM >= 180000
#define compat_init_range_table(estate, rte)                               \
	do {                                                                   \
		List	   *permissions = NIL;                                     \
		addRTEPermissionInfo(&permissions, (rte));                         \
		ExecInitRangeTable((estate), list_make1(rte), permissions,         \
						   bms_make_singleton(1));                         \
	} while (0)
#elif PG_VERSION_NUM >= 160000
#define compat_init_range_table(estate, rte)                               \
	do {                                                                   \
		List	   *permissions = NIL;                                     \
		addRTEPermissionInfo(&permissions, (rte));                         \
		ExecInitRangeTable((estate), list_make1(rte), permissions);        \
	} while (0)
#else
#define compat_init_range_table(estate, rte) \
	ExecInitRangeTable((estate), list_make1(rte))
#endif

/* Does a join give each inner row once at most, without its partners? */
#if PG_VERSION_NUM >= 180000
#define COMPAT_JOIN_OF_INNER(type) \
	((type) == JOIN_RIGHT_ANTI || (type) == JOIN_RIGHT_SEMI)
#elif PG_VERSION_NUM >= 160000
#define COMPAT_JOIN_OF_INNER(type) ((type) == JOIN_RIGHT_ANTI)
#else
#define COMPAT_JOIN_OF_INNER(type) false
#endif

/* A standby's startup process wakes who has entered the position he waits for. */
#if PG_VERSION_NUM >= 190000
#define COMPAT_REPLAY_WAKES
#include "access/xlogwait.h"
#include "storage/lwlock.h"
#endif

/* Settings, with values, that keep further timeouts from a worker. */
#if PG_VERSION_NUM >= 170000
#define COMPAT_MORE_TIMEOUTS {"transaction_timeout", "0"},
#else
#define COMPAT_MORE_TIMEOUTS
#endif

#endif							/* CALVIN_COMPAT_H */
