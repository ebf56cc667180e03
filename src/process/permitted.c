/*
 * permitted.c
 *	  May a handler run, as its role and with its function?
 *
 * A session that logs in as the role, and calls the function, is asked the same: a
 * worker is never more.  It is asked here first, so that the answer is in seq_handlers
 * and not in the server log once a second.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "log/registry.h"
#include "log/table.h"
#include "process/permitted.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

static bool
refuse(HandlerRefusal *refusal, int sqlerrcode, const char *message, const char *hint)
{
	refusal->sqlerrcode = sqlerrcode;
	refusal->message = message;
	refusal->hint = hint;
	return false;
}

Oid
handler_argument_type(bool array)
{
	Oid			type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									   CStringGetDatum(TXN_TYPE_NAME),
									   ObjectIdGetDatum(log_table_require()->schema));

	return array && OidIsValid(type) ? get_array_type(type) : type;
}

char *
handler_signature(const HandlerDefinition *definition)
{
	char	   *schema = get_namespace_name(log_table_require()->schema);

	return psprintf("%s(%s%s)",
					quote_qualified_identifier(NameStr(definition->schema),
											   NameStr(definition->function)),
					quote_qualified_identifier(schema, TXN_TYPE_NAME),
					definition->takes_array ? "[]" : "");
}

/* Can the role log in? */
static bool
role_permitted(const HandlerDefinition *definition, HandlerRefusal *refusal)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(definition->role));
	bool		can_log_in;

	if (!HeapTupleIsValid(tuple))
		return refuse(refusal, ERRCODE_UNDEFINED_OBJECT,
					  psprintf("role \"%s\" does not exist",
							   NameStr(definition->role_name)),
					  "Call seq_handle() as another role, or seq_unhandle().");
	can_log_in = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	ReleaseSysCache(tuple);
	if (!can_log_in)
		return refuse(refusal, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					  psprintf("role \"%s\" is not permitted to log in",
							   GetUserNameFromId(definition->role, false)),
					  "A background worker runs the handler as that role: let it log in, or call seq_handle() as another one.");
	return true;
}

/* Does the database take connections of the role? */
static bool
database_permitted(const HandlerDefinition *definition, HandlerRefusal *refusal)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	bool		open = HeapTupleIsValid(tuple) &&
		((Form_pg_database) GETSTRUCT(tuple))->datallowconn;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (!open)
		return refuse(refusal, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					  "the database is not accepting connections",
					  "Use ALTER DATABASE with ALLOW_CONNECTIONS true.");
	if (!compat_may_connect(MyDatabaseId, definition->role))
		return refuse(refusal, ERRCODE_INSUFFICIENT_PRIVILEGE,
					  psprintf("role \"%s\" does not have the CONNECT privilege on the database",
							   GetUserNameFromId(definition->role, false)),
					  "A background worker runs the handler as that role: grant it CONNECT.");
	return true;
}

/*
 * Whoever may write to the table of definitions could have others act for him.  So the
 * role of each has to be one that the table's owner may be anyhow.
 */
static bool
owner_permitted(const HandlerDefinition *definition, HandlerRefusal *refusal)
{
	Oid			relid = log_side_table(log_table_require(), SIDE_HANDLERS);
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner = HeapTupleIsValid(tuple) ?
		((Form_pg_class) GETSTRUCT(tuple))->relowner : InvalidOid;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (OidIsValid(owner) && has_privs_of_role(owner, definition->role))
		return true;
	return refuse(refusal, ERRCODE_INSUFFICIENT_PRIVILEGE,
				  psprintf("the owner of %s may not act as role \"%s\"", HANDLERS_NAME,
						   GetUserNameFromId(definition->role, false)),
				  "Have a superuser own the table.");
}

/*
 * Another function may have the names by now, made by somebody who could do that, and would
 * have it run as the role.
 */
static bool
function_owner_permitted(const HandlerDefinition *definition, Oid owner,
						 HandlerRefusal *refusal)
{
	const char *name = GetUserNameFromId(owner, true);

	if ((name != NULL && strcmp(name, NameStr(definition->owner)) == 0) ||
		has_privs_of_role(owner, definition->role))
		return true;
	return refuse(refusal, ERRCODE_INSUFFICIENT_PRIVILEGE,
				  psprintf("function %s belongs to role \"%s\", and did to \"%s\" when it became the handler",
						   handler_signature(definition), name != NULL ? name : "?",
						   NameStr(definition->owner)),
				  "If it is to be run nevertheless, call seq_handle() again.");
}

static bool
function_permitted(const HandlerDefinition *definition, HandlerFunction *found,
				   HandlerRefusal *refusal)
{
	Oid			schema = get_namespace_oid(NameStr(definition->schema), true);
	Oid			argument = handler_argument_type(definition->takes_array);
	oidvector  *arguments = buildoidvector(&argument, 1);
	HeapTuple	tuple = NULL;
	Form_pg_proc function;
	Oid			owner;
	bool		plain;

	found->txn_type = handler_argument_type(false);
	if (OidIsValid(schema))
		tuple = SearchSysCache3(PROCNAMEARGSNSP,
								CStringGetDatum(NameStr(definition->function)),
								PointerGetDatum(arguments), ObjectIdGetDatum(schema));
	if (!HeapTupleIsValid(tuple))
		return refuse(refusal, ERRCODE_UNDEFINED_FUNCTION,
					  psprintf("function %s does not exist", handler_signature(definition)),
					  "Create it, or call seq_handle() with another one.");
	function = (Form_pg_proc) GETSTRUCT(tuple);
	found->function = function->oid;
	owner = function->proowner;
	plain = function->prokind == PROKIND_FUNCTION && !function->proretset;
	ReleaseSysCache(tuple);
	if (!plain)
		return refuse(refusal, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					  psprintf("%s is not a plain function", handler_signature(definition)),
					  "A handler is a function that returns one value, or void: no procedure, aggregate, window function or set.");
	if (!function_owner_permitted(definition, owner, refusal))
		return false;
	/* by its number it can be asked for without */
	if (!compat_may_look_into(schema, definition->role))
		return refuse(refusal, ERRCODE_INSUFFICIENT_PRIVILEGE,
					  psprintf("role \"%s\" may not use schema \"%s\"",
							   GetUserNameFromId(definition->role, false),
							   NameStr(definition->schema)),
					  "Grant it USAGE.");
	if (!compat_may_execute(found->function, definition->role))
		return refuse(refusal, ERRCODE_INSUFFICIENT_PRIVILEGE,
					  psprintf("role \"%s\" may not execute function %s",
							   GetUserNameFromId(definition->role, false),
							   handler_signature(definition)),
					  "Grant it EXECUTE.");
	return true;
}

bool
handler_permitted(const HandlerDefinition *definition, HandlerFunction *function,
				  HandlerRefusal *refusal)
{
	return role_permitted(definition, refusal) &&
		owner_permitted(definition, refusal) &&
		database_permitted(definition, refusal) &&
		function_permitted(definition, function, refusal);
}

bool
handler_has_group(const HandlerDefinition *definition, HandlerRefusal *refusal)
{
	Registration *registration = registry_find(NameStr(definition->name));

	if (registration == NULL || registration->id != definition->id ||
		registration->kind != REGISTRATION_GROUP)
		return refuse(refusal, ERRCODE_UNDEFINED_OBJECT,
					  psprintf("there is no group \"%s\" that the handler was defined for",
							   NameStr(definition->name)),
					  "Make it with seq_create_group(), and call seq_handle() again.");
	if (!has_privs_of_role(definition->role, registration->owner))
		return refuse(refusal, ERRCODE_INSUFFICIENT_PRIVILEGE,
					  psprintf("role \"%s\" may not use group \"%s\"",
							   GetUserNameFromId(definition->role, false),
							   NameStr(definition->name)),
					  "Make it a member of the role that the group belongs to.");
	return true;
}
