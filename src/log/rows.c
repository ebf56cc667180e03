/*
 * rows.c
 *	  Transactions as rows.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "log/rows.h"

const Oid	row_types[ROW_COLUMNS] = {
	INT4OID, INT8OID, INT4OID, INT8OID, INT8OID, INT4ARRAYOID, BYTEAOID, BYTEAOID
};

void
row_maker_init(RowMaker *maker)
{
	Size		size = ARR_OVERHEAD_NONULLS(1) + sizeof(int32) * WIRE_VSHARDS;

	memset(maker, 0, sizeof(*maker));
	maker->context = CurrentMemoryContext;
	maker->array = palloc0(size);
	maker->array->ndim = 1;
	maker->array->dataoffset = 0;
	maker->array->elemtype = INT4OID;
	ARR_LBOUND(maker->array)[0] = 1;
}

static Datum
make_array(RowMaker *maker, const uint16 *vshards, int n)
{
	ArrayType  *array = maker->array;
	int32	   *elements;

	/* an empty array has no dimensions */
	array->ndim = n > 0 ? 1 : 0;
	SET_VARSIZE(array, n > 0 ?
				ARR_OVERHEAD_NONULLS(1) + sizeof(int32) * n :
				ARR_OVERHEAD_NONULLS(0));
	if (n > 0)
	{
		ARR_DIMS(array)[0] = n;
		ARR_LBOUND(array)[0] = 1;
		elements = (int32 *) ARR_DATA_PTR(array);
		for (int i = 0; i < n; i++)
			elements[i] = vshards[i];
	}
	return PointerGetDatum(array);
}

static Datum
make_bytes(RowMaker *maker, RowBytes *bytes, WireSlice content)
{
	Size		size = content.len + VARHDRSZ;

	if (size > bytes->size)
	{
		if (bytes->value != NULL)
			pfree(bytes->value);
		bytes->value = NULL;
		bytes->size = Max(size, 1024);
		bytes->value = MemoryContextAlloc(maker->context, bytes->size);
	}
	SET_VARSIZE(bytes->value, size);
	memcpy(VARDATA(bytes->value), content.data, content.len);
	return PointerGetDatum(bytes->value);
}

void
row_make(RowMaker *maker, const Delivery *delivery)
{
	maker->values[0] = Int32GetDatum(delivery->vshard);
	maker->values[1] = Int64GetDatum((int64) delivery->epoch);
	maker->values[2] = Int32GetDatum((int32) delivery->position);
	maker->values[3] = Int64GetDatum(delivery->epoch_system_ms);
	maker->values[4] = Int64GetDatum((int64) delivery->tenant_id);
	maker->values[5] = make_array(maker, delivery->vshards,
								  delivery->vshard_count);
	maker->values[6] = make_bytes(maker, &maker->plans, delivery->plans);
	maker->values[7] = delivery->datum != NULL ?
		PointerGetDatum(delivery->datum) :
		make_bytes(maker, &maker->tx_class, delivery->tx_class);
}
