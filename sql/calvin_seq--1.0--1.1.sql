/* calvin_seq 1.0 to 1.1 */

\echo Use "ALTER EXTENSION calvin_seq UPDATE TO '1.1'" to load this file. \quit

--
-- CREATE EXTENSION runs this behind calvin_seq--1.0.sql, so that a new database and an
-- updated one cannot differ. 1.0 is as it was released: what changes is changed here.
--
