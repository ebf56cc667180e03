-- Entries to JSON and back. stdin has "entry, canonical form, has NUL" as
-- `drive json` prints them; the last line told is the verdict.
CREATE EXTENSION calvin_seq;

CREATE TABLE pairs (entry bytea, canonical bytea, has_nul boolean);
\copy pairs FROM pstdin

-- NULL if all is well. A name with NUL is the one thing that JSON cannot hold.
CREATE FUNCTION wrong(entry bytea, canonical bytea, has_nul boolean) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    json jsonb;
BEGIN
    IF has_nul THEN
        BEGIN
            json := seq_decode(entry);
            RETURN 'a name with NUL as ' || json;
        EXCEPTION WHEN untranslatable_character THEN
            RETURN NULL;
        END;
    END IF;
    json := seq_decode(entry);
    IF seq_encode(json) IS DISTINCT FROM canonical THEN
        RETURN 'encoded as ' || seq_encode(json);
    ELSIF seq_encode(json::text::jsonb) IS DISTINCT FROM canonical THEN
        RETURN 'encoded from text as ' || seq_encode(json::text::jsonb);
    ELSIF seq_decode(canonical) IS DISTINCT FROM json THEN
        RETURN 'decoded from its canonical form as ' || seq_decode(canonical);
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END $$;

CREATE TABLE verdicts AS
    SELECT entry, has_nul, wrong(entry, canonical, has_nul) AS wrong FROM pairs;

SELECT entry, wrong FROM verdicts WHERE wrong IS NOT NULL ORDER BY length(entry) LIMIT 10;
SELECT format('json: %s entries, %s refused, %s wrong', count(*),
    count(*) FILTER (WHERE has_nul), count(wrong)) FROM verdicts;
