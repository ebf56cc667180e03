\set ECHO none
--
-- How the tests of sql/ begin: a new extension, whose log is empty and whose
-- applier runs, and schema t with what the tests share. Each starts with
--
--	\getenv src PG_ABS_SRCDIR
--	\i :src/test/regress/prologue.sql
--
-- What is here outlives \c, and whoever needs more defines it in t as well.
--
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS calvin_seq CASCADE;
DROP SCHEMA IF EXISTS t CASCADE;
CREATE EXTENSION calvin_seq;
CREATE SCHEMA t;
GRANT USAGE ON SCHEMA t TO PUBLIC;
RESET client_min_messages;

-- Wait until the applier runs, and has applied all that is in the log.
CREATE PROCEDURE t.wait_applied() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..6000 LOOP
		BEGIN
			IF (SELECT applier_pid IS NOT NULL AND last_applied_index = (SELECT coalesce(max(log_index), 0) FROM seq_log) FROM seq_state) THEN
				RETURN;
			END IF;
		EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
		END;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RAISE 'the log was not applied';
END $$;

-- The way a command fails: SQLSTATE, message and detail, or "ok". A PID in it
-- can only be our own.
CREATE FUNCTION t.failure(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE command;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN replace(concat_ws(': ', SQLSTATE, SQLERRM, nullif(detail, '')), 'PID ' || pg_backend_pid(), 'my PID');
END $$;

-- The entry of a batch: for each text a transaction that writes the collections
-- named in it, whose tenant is its number from 1; plans of so many bytes.
-- Vshards: 97 for "a", 98 for "b" and so on.
CREATE FUNCTION t.batch(epoch bigint, txns text[] DEFAULT '{a}', plans int DEFAULT 1) RETURNS bytea LANGUAGE sql AS $$
	SELECT seq_encode(jsonb_build_object('EpochBatch', jsonb_build_object(
		'epoch', epoch, 'epoch_system_ms', 1000 + epoch, 'txns',
		(SELECT coalesce(jsonb_agg(jsonb_build_object('tx_class', jsonb_build_object(
			'plans', '\x' || repeat('70', plans), 'tenant_id', i, 'write_set',
			(SELECT coalesce(jsonb_agg(jsonb_build_object('Document', jsonb_build_object('collection', c, 'surrogates', '[]'::jsonb))), '[]')
				FROM unnest(string_to_array(t, ',')) c))) ORDER BY i), '[]')
			FROM unnest(txns) WITH ORDINALITY AS u (t, i)))))
$$;

-- The entry of a batch without transactions.
CREATE FUNCTION t.empty_batch(epoch bigint) RETURNS bytea LANGUAGE sql AS
	$$ SELECT '\x92aa45706f636842617463689193cf'::bytea || int8send(epoch) || '\x90ff' $$;

-- Append the next so many epochs, or those from an epoch on, and wait until they
-- are applied.
CREATE PROCEDURE t.append(n int, txns text[] DEFAULT '{a}', plans int DEFAULT 1, first bigint DEFAULT NULL) LANGUAGE plpgsql AS $$
BEGIN
	first := coalesce(first, seq_current_committed_epoch() + 1, 0);
	INSERT INTO seq_log (entry) SELECT t.batch(first + i, txns, plans) FROM generate_series(0, n - 1) i;
	COMMIT;
	CALL t.wait_applied();
END $$;

CALL t.wait_applied();
\set ECHO all
