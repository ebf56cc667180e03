/*
 * hint.c
 *	  Hints that name the extension's functions and views.
 *
 * EXECUTE on what it calls is all that a role needs, so as a rule it has not much
 * more: who is told to call something else shall hear at once that somebody else
 * has to.
 */
#include "compat.h"

#include <ctype.h>

#include "catalog/pg_proc.h"
#include "log/hint.h"
#include "log/table.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

typedef enum Usability
{
	NOT_OURS,
	USABLE,
	NOT_USABLE
} Usability;

/* One of several functions of a name will do. */
static Usability
function_usability(const char *name, Oid schema)
{
	CatCList   *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
	Usability	usability = NOT_OURS;

	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_proc function = (Form_pg_proc) GETSTRUCT(&list->members[i]->tuple);

		if (function->pronamespace != schema)
			continue;
		if (compat_may_execute(function->oid, GetUserId()))
			usability = USABLE;
		else if (usability == NOT_OURS)
			usability = NOT_USABLE;
	}
	ReleaseCatCacheList(list);
	return usability;
}

static Usability
usability_of(const char *name, Oid schema)
{
	Oid			relid = get_relname_relid(name, schema);

	if (!OidIsValid(relid))
		return function_usability(name, schema);
	return pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK ?
		USABLE : NOT_USABLE;
}

/* The next "seq_..." of a text, and what is behind it; NULL: there is none. */
static char *
next_name(const char **text)
{
	for (const char *p = *text; (p = strstr(p, "seq_")) != NULL; p++)
	{
		const char *end = p;

		if (p > *text && (isalnum((unsigned char) p[-1]) || p[-1] == '_'))
			continue;
		while (islower((unsigned char) *end) || *end == '_')
			end++;
		*text = end;
		return pnstrdup(p, end - p);
	}
	return NULL;
}

int
errhint_for_role(const char *text)
{
	Oid			schema = log_schema();
	StringInfoData lacking;
	const char *rest = text;
	char	   *name;

	initStringInfo(&lacking);
	while (OidIsValid(schema) && (name = next_name(&rest)) != NULL)
	{
		if (usability_of(name, schema) == NOT_USABLE)
			appendStringInfo(&lacking, "%s%s", lacking.len > 0 ? ", " : "", name);
		pfree(name);
	}
	if (lacking.len == 0)
		return errhint("%s", text);
	return errhint("%s Role \"%s\" has no privilege for %s: ask who administers calvin_seq.",
				   text, GetUserNameFromId(GetUserId(), false), lacking.data);
}
