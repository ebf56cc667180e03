/*
 * register.c
 *	  seq_register and seq_unregister: streams by name, with an owner.
 */
#include "compat.h"

#include "log/begin_at_end.h"
#include "log/cursors.h"
#include "log/registry.h"
#include "miscadmin.h"
#include "sql/args.h"
#include "sql/registering.h"
#include "utils/builtins.h"

CALVIN_FUNCTION(seq_register);
CALVIN_FUNCTION(seq_unregister);

static void
store(const Registration *registration, StreamCursor *cursors)
{
	if (!cursors_store(NameStr(registration->name), registration->nvshards, cursors))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the durable cursor \"%s\" was stored by another session",
						NameStr(registration->name)),
				 errhint("Run the transaction again.")));
}

/*
 * Nobody else knows of the cursors yet; a session that is subscribed here does not
 * notice.
 */
static void
move(const Registration *registration, uint64 epoch)
{
	StreamCursor *cursors = palloc(sizeof(StreamCursor) * WIRE_VSHARDS);
	NamedCursor *moved = palloc(sizeof(NamedCursor) * WIRE_VSHARDS);
	int			n = cursors_load(NameStr(registration->name), registration->nvshards,
								 registration->vshards, cursors);
	int			nmoved = 0;

	for (int i = 0; i < n; i++)
	{
		/* unless it was used in the meantime, by this transaction */
		if (cursors[i].version != 1 || cursors[i].next.epoch >= epoch)
			continue;
		moved[nmoved].name = registration->name;
		moved[nmoved++].cursor = cursors[i];
	}
	cursors_move(nmoved, moved, epoch);
	pfree(cursors);
	pfree(moved);
}

/* seq_register(name, vshards, from_epoch) */
Datum
seq_register(PG_FUNCTION_ARGS)
{
	Registration registration = {0};
	StreamCursor *cursors;
	uint64		start;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name and vshards must not be null")));
	registering_refuse("seq_register()");
	namestrcpy(&registration.name, arg_name(PG_GETARG_TEXT_PP(0), "consumer"));
	registration.kind = REGISTRATION_STREAM;
	registration.owner = GetUserId();
	registration.vshards = registering_vshards(PG_GETARG_ARRAYTYPE_P(1),
											   &registration.nvshards);
	start = registering_start(PG_ARGISNULL(2) ? NULL : &fcinfo->args[2].value);
	registering_add(&registration);
	cursors = palloc0(sizeof(StreamCursor) * registration.nvshards);
	for (int i = 0; i < registration.nvshards; i++)
	{
		cursors[i].vshard = registration.vshards[i];
		cursors[i].next.epoch = start;
	}
	store(&registration, cursors);
	if (PG_ARGISNULL(2))
		begin_at_end(&registration, start, move);
	PG_RETURN_VOID();
}

/* seq_unregister(name) */
Datum
seq_unregister(PG_FUNCTION_ARGS)
{
	char	   *name;
	Registration *registration;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name must not be null")));
	registering_refuse("seq_unregister()");
	name = arg_name(PG_GETARG_TEXT_PP(0), "consumer");
	(void) registry_require(name, REGISTRATION_STREAM);
	/* whoever stores its cursors has ended then, and nobody begins */
	registry_lock_name(name, ExclusiveLock);
	registration = registry_require(name, REGISTRATION_STREAM);
	if (!registry_remove(registration))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("consumer \"%s\" is not registered", name),
				 errdetail("It was unregistered by another transaction.")));
	(void) cursors_drop(name, 0, NULL);
	PG_RETURN_VOID();
}
