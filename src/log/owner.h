/*
 * owner.h
 *	  Acting as the owner of one of the extension's tables.
 *
 * Who may call a function needs no grant on the tables: it reads and writes them
 * as their owner.  What he has attached to them (triggers, constraints, generated
 * columns, indexes) then runs in the caller's session, as himself and
 * restricted: see owner.c.
 */
#ifndef CALVIN_LOG_OWNER_H
#define CALVIN_LOG_OWNER_H

#include "compat.h"

#include "log/table.h"

typedef struct LogIdentity
{
	Oid			user;
	int			context;
	int			settings; /* nest level of what was set, 0 if nothing was */
	int			level; /* of the section around this one, 0 if there is none */
} LogIdentity;

/* Until the matching restore, or the end of the (sub)transaction by an error. */
extern LogIdentity log_become_owner(const LogTable *table);

/* The same for the owner of another table, who may be somebody else. */
extern LogIdentity log_become_side_owner(const LogTable *table, SideTable side);

/* The same for any relation of ours. */
extern LogIdentity log_become_relation_owner(Oid relid);

/* As log_become_owner() to insert into seq_log, sparing what a bare one does not need. */
extern LogIdentity log_become_owner_to_append(const LogTable *table);

/*
 * For a worker, whose settings are its own, to read and step: nothing of the owner's
 * may run but in another section within this one.  It may last beyond the commit.
 */
extern LogIdentity log_become_worker(const LogTable *table);

extern void log_become_self(const LogIdentity *identity);

extern void owner_init(void);

#endif							/* CALVIN_LOG_OWNER_H */
