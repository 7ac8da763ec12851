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
  labels      TEXT NOT NULL,
  awaited     INTEGER NOT NULL DEFAULT 0,  -- 1 while the run that started it waits for its end
  custom_status_seq INTEGER,               -- of the newest status that its code set
  cancel_seq  INTEGER,              -- of cancel_requested, or else of cancel_held
  deadline    TEXT                  -- when it is cancelled if it has not ended
) STRICT;
CREATE INDEX tidemill_runs_by_status ON tidemill_runs (status, seq);
CREATE INDEX tidemill_runs_by_workflow ON tidemill_runs (workflow, seq);
CREATE INDEX tidemill_runs_by_parent ON tidemill_runs (parent, parent_op) WHERE parent IS NOT NULL;
-- Ends that the parent has not observed, and children that nobody waits for: few at any time.
CREATE INDEX tidemill_runs_unobserved ON tidemill_runs (seq)
  WHERE awaited = 1 AND ended_seq IS NOT NULL;
CREATE INDEX tidemill_runs_unwanted ON tidemill_runs (seq)
  WHERE awaited = 0 AND ended_seq IS NULL AND parent IS NOT NULL;
-- Runs that are still to be cancelled at their deadline.
CREATE INDEX tidemill_runs_by_deadline ON tidemill_runs (deadline, seq)
  WHERE deadline IS NOT NULL AND ended_seq IS NULL AND cancel_seq IS NULL;

CREATE TABLE tidemill_timers (
  run     TEXT NOT NULL,
  op      INTEGER NOT NULL,
  fire_at TEXT NOT NULL,
  PRIMARY KEY (run, op)
) STRICT, WITHOUT ROWID;
CREATE INDEX tidemill_timers_by_time ON tidemill_timers (fire_at);

CREATE TABLE tidemill_signals (
  run       TEXT NOT NULL,
  number    INTEGER NOT NULL,
  name      TEXT NOT NULL,
  seq       INTEGER NOT NULL,  -- of signal_received
  key       TEXT,
  bytes     INTEGER NOT NULL,
  op        INTEGER,           -- the operation that has it
  taken_seq INTEGER,           -- of signal_taken
  PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX tidemill_signals_by_key ON tidemill_signals (run, key) WHERE key IS NOT NULL;
CREATE INDEX tidemill_signals_kept ON tidemill_signals (run, op) WHERE taken_seq IS NULL;

CREATE TABLE tidemill_promises (
  run        TEXT NOT NULL,
  op         INTEGER NOT NULL,
  name       TEXT NOT NULL,
  seq        INTEGER NOT NULL,  -- of promise_started
  status     TEXT NOT NULL,
  closed_seq INTEGER,           -- of the event with which the run stopped waiting
  record     TEXT NOT NULL,     -- what decides about an answer
  PRIMARY KEY (run, op)
) STRICT, WITHOUT ROWID;
CREATE INDEX tidemill_promises_open ON tidemill_promises (seq) WHERE status = 'open';
CREATE INDEX tidemill_promises_answered ON tidemill_promises (run)
  WHERE closed_seq IS NULL AND status <> 'open';
