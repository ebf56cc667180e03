--
-- Waiting until the log is applied up to a log_index: what seq_wait_for_epoch
-- does for epochs, for entries of any kind.
--
\getenv src PG_ABS_SRCDIR
\i :src/test/regress/prologue.sql
-- Nothing here waits long, unless it is broken.
SET statement_timeout = '2 min';

-- The beginning is always there.
SELECT seq_wait_for_index(0, '0');
SELECT seq_wait_for_index(1, '10 ms');
-- Entries that move no epoch; afterwards the state is that of the last one.
INSERT INTO seq_log (entry) VALUES (''), ('\xc1'), ('\x92ad436f6d706c6574696f6e41636b93090301');
SELECT seq_wait_for_index(3, '1 min');
SELECT last_applied_index, last_applied_epoch FROM seq_state;
SELECT seq_wait_for_index(2, '0'), seq_wait_for_index(4, '0');
-- A log_index in a hole is reached with the next entry behind it.
INSERT INTO seq_log (log_index, entry) VALUES (10, '');
SELECT seq_wait_for_index(7, '1 min'), seq_wait_for_index(10, '1 min'), seq_wait_for_index(11, '0');
-- An own append does not come before its commit.
BEGIN;
INSERT INTO seq_log (entry) VALUES ('');
SELECT seq_wait_for_index(11, '10 ms');
COMMIT;
SELECT seq_wait_for_index(11, '1 min');
-- Refused.
SELECT seq_wait_for_index(-1, '0');
SELECT seq_wait_for_index(1, '-1 ms');
SELECT seq_wait_for_index(NULL, '0'), seq_wait_for_index(1, NULL);
-- Cancelled.
SET statement_timeout = '50 ms';
SELECT seq_wait_for_index(12, '1 min');
SET statement_timeout = '2 min';
-- Not for everybody.
CREATE ROLE regress_calvin_nobody;
SET ROLE regress_calvin_nobody;
SELECT seq_wait_for_index(1, '0');
RESET ROLE;
DROP ROLE regress_calvin_nobody;
DROP EXTENSION calvin_seq;
