/*
 * registry.h
 *	  Consumers by name, and whose they are: the table seq_registrations.
 */
#ifndef CALVIN_LOG_REGISTRY_H
#define CALVIN_LOG_REGISTRY_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "storage/lockdefs.h"

typedef enum RegistrationKind
{
	REGISTRATION_STREAM, /* of sessions, with a durable cursor for each vshard */
	REGISTRATION_GROUP	 /* of workers, with a position for each partition */
} RegistrationKind;

/* Partitions that a group may have at most. */
#define REGISTRATION_PARTITIONS_MAX 1024

/* One of them, palloc'd as a whole by who returns it. */
typedef struct Registration
{
	NameData	name;
	uint64		id; /* another one for each registration; never 0 */
	RegistrationKind kind;
	Oid			owner;
	int			nvshards;
	uint16	   *vshards; /* ascending; NULL: all */
	int			partitions; /* of a group */
	int			ncollections;
	char	  **collections; /* in the database's encoding; NULL: all */
	TimestampTz registered_at;
	uint64		lost_before; /* not 0: it needed something before this epoch, which was
							  * truncated nevertheless */
} Registration;

/*
 * Whatever was registered under that name, as committed now and by this transaction;
 * NULL if nothing.
 */
extern Registration *registry_find(const char *name);

/* The same, or an error; also unless the present user has the rights of its owner. */
extern Registration *registry_require(const char *name, RegistrationKind kind);

/* Or an error for another kind. */
extern void registry_require_kind(const Registration *registration,
								  RegistrationKind kind);

/* All of them, in the order of their names; how many. */
extern int	registry_list(Registration ***registrations);

/* An error unless the present user has the rights of its owner. */
extern void registry_require_owner(const Registration *registration);

/*
 * Register what is filled in but for id and registered_at, which are set; an error
 * if the name is taken.  Who does it at the same time is waited for.
 */
extern void registry_add(Registration *registration);

/*
 * What it needs of epochs before this one is about to be truncated; false if it is gone
 * by now.
 */
extern bool registry_mark_lost(const Registration *registration, uint64 before);

/* Take it away; false if somebody else has. */
extern bool registry_remove(const Registration *registration);

/*
 * The lock on a name, registered or not, to the end of the (sub)transaction: who stores
 * or drops cursors of it holds it in RowExclusiveLock, who registers it or ends that in
 * ExclusiveLock.
 */
extern void registry_lock_name(const char *name, LOCKMODE mode);

/*
 * The lock on a registration, to the end of the (sub)transaction: who uses it holds
 * it in RowExclusiveLock, who takes it away in ExclusiveLock.
 */
extern void registry_lock(uint64 id, LOCKMODE mode);

/*
 * The lock on a partition of a group, to the end of the (sub)transaction: exclusive.
 * Without "wait" false if another transaction has it.  One that gave nothing can be
 * let go at once.
 */
extern bool registry_lock_partition(uint64 id, int partition, bool wait);
extern void registry_unlock_partition(uint64 id, int partition);

/* Does another transaction have it, just now? */
extern bool registry_partition_is_locked(uint64 id, int partition);

/* Who uses a registration just now, ascending; palloc'd.  Returns how many. */
extern int	registry_users(uint64 id, int **pids);

/*
 * Keep a partition whose lock this transaction has, beyond its commit: until that is said
 * to be enough, a transaction is rolled back, or the process ends.  One at a time.
 */
extern void registry_hold_partition(uint64 id, int partition);
extern void registry_end_hold(void);

#endif							/* CALVIN_LOG_REGISTRY_H */
