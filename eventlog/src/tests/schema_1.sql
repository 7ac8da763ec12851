-- The schema of version 1, as the release 0.1.0 makes it.
CREATE TABLE events (
  seq  INTEGER PRIMARY KEY,
  ts   TEXT NOT NULL,
  run  TEXT NOT NULL,
  kind TEXT NOT NULL,
  op   INTEGER,
  name TEXT,
  data TEXT,
  sum  INTEGER NOT NULL
) STRICT;
CREATE INDEX events_of_run ON events (run, seq);

CREATE TABLE tidemill_meta (
  key   TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
WHEN NOT EXISTS (SELECT 1 FROM tidemill_meta WHERE key = 'retention')
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
WHEN NOT EXISTS (SELECT 1 FROM tidemill_meta WHERE key = 'retention')
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

-- Events that retention removed. sum: the wrapping sum of the removed rows' hashes, so that the
-- checksum of what follows still proves what came before.
CREATE TABLE tidemill_gaps (
  first INTEGER PRIMARY KEY,
  last  INTEGER NOT NULL,
  sum   INTEGER NOT NULL
) STRICT;

CREATE TABLE tidemill_runs (
  seq         INTEGER PRIMARY KEY,  -- of run_created: the order of starts
  run         TEXT NOT NULL UNIQUE,
  workflow    TEXT NOT NULL,
  status      TEXT NOT NULL,
  created_at  TEXT NOT NULL,
  ended_seq   INTEGER,              -- of run_completed or run_failed
  blocked_seq INTEGER,              -- of run_blocked, while blocked
  parent      TEXT,
  parent_op   INTEGER,
  labels      TEXT NOT NULL
) STRICT;
CREATE INDEX tidemill_runs_unfinished ON tidemill_runs (seq) WHERE ended_seq IS NULL;
CREATE INDEX tidemill_runs_by_status ON tidemill_runs (status, seq);
CREATE INDEX tidemill_runs_by_workflow ON tidemill_runs (workflow, seq);

CREATE TABLE tidemill_timers (
  run     TEXT NOT NULL,
  op      INTEGER NOT NULL,
  fire_at TEXT NOT NULL,
  PRIMARY KEY (run, op)
) STRICT, WITHOUT ROWID;
CREATE INDEX tidemill_timers_by_time ON tidemill_timers (fire_at);

CREATE VIEW runs AS
SELECT r.run, r.workflow, r.status, r.created_at,
  (SELECT u.ts FROM events u WHERE u.run = r.run ORDER BY u.seq DESC LIMIT 1) AS updated_at,
  e.ts AS ended_at, r.parent, r.parent_op, r.labels,
  c.data -> '$.input' AS input,
  e.data -> '$.output' AS output,
  e.data -> '$.error' AS error,
  b.data -> '$.reason' AS blocked
FROM tidemill_runs r
LEFT JOIN events c ON c.seq = r.seq
LEFT JOIN events e ON e.seq = r.ended_seq
LEFT JOIN events b ON b.seq = r.blocked_seq;

CREATE VIEW steps AS
SELECT o.run, o.op, s.name,
  CASE e.kind WHEN 'step_completed' THEN 'completed' WHEN 'step_failed' THEN 'failed'
    WHEN 'op_dropped' THEN 'dropped' ELSE 'running' END AS status,
  o.attempts, s.ts AS started_at, e.ts AS ended_at,
  s.data -> '$.input' AS input,
  e.data -> '$.output' AS output,
  e.data -> '$.error' AS error,
  c.data -> '$.value' AS last_checkpoint
FROM (
  SELECT run, op,
    max(CASE kind WHEN 'step_started' THEN seq END) AS start_seq,
    max(CASE WHEN kind IN ('step_completed', 'step_failed', 'op_dropped') THEN seq END) AS end_seq,
    max(CASE kind WHEN 'checkpoint' THEN seq END) AS checkpoint_seq,
    max(CASE kind WHEN 'step_attempt_failed' THEN json_extract(data, '$.attempt') + 1
      WHEN 'step_restarted' THEN json_extract(data, '$.attempt') ELSE 1 END) AS attempts
  FROM events
  WHERE kind IN ('step_started', 'step_attempt_failed', 'step_restarted', 'step_completed',
    'step_failed', 'checkpoint', 'op_dropped')
  GROUP BY run, op
) o
JOIN events s ON s.seq = o.start_seq
LEFT JOIN events e ON e.seq = o.end_seq
LEFT JOIN events c ON c.seq = o.checkpoint_seq;

CREATE VIEW checkpoints AS
SELECT run, op, name, data ->> '$.attempt' AS attempt, seq, ts, data -> '$.value' AS value
FROM events WHERE kind = 'checkpoint';

CREATE VIEW timers AS
SELECT o.run, o.op, s.name,
  CASE e.kind WHEN 'timer_fired' THEN 'fired' WHEN 'op_dropped' THEN 'dropped'
    ELSE 'waiting' END AS status,
  s.data ->> '$.fire_at' AS fire_at, s.ts AS started_at, e.ts AS ended_at
FROM (
  SELECT run, op,
    max(CASE kind WHEN 'timer_started' THEN seq END) AS start_seq,
    max(CASE WHEN kind IN ('timer_fired', 'op_dropped') THEN seq END) AS end_seq
  FROM events
  WHERE kind IN ('timer_started', 'timer_fired', 'op_dropped')
  GROUP BY run, op
) o
JOIN events s ON s.seq = o.start_seq
LEFT JOIN events e ON e.seq = o.end_seq;

CREATE VIEW signals AS
SELECT run, op, name, seq, ts, data -> '$.value' AS value
FROM events WHERE kind = 'signal_received';
