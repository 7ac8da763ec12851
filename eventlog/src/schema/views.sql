CREATE VIEW runs AS
SELECT r.run, r.workflow, r.status, r.created_at,
  (SELECT u.ts FROM events u WHERE u.run = r.run ORDER BY u.seq DESC LIMIT 1) AS updated_at,
  e.ts AS ended_at,
  CAST(round((julianday(e.ts) - julianday(r.created_at)) * 86400000) AS INTEGER) AS duration_ms,
  r.parent, r.parent_op, r.labels,
  c.data -> '$.input' AS input,
  e.data -> '$.output' AS output,
  e.data -> '$.error' AS error,
  b.data -> '$.reason' AS blocked,
  u.data -> '$.value' AS custom_status,
  x.data -> '$.requester' AS cancel,
  r.deadline
FROM tidemill_runs r
LEFT JOIN events c ON c.seq = r.seq
LEFT JOIN events e ON e.seq = r.ended_seq
LEFT JOIN events b ON b.seq = r.blocked_seq
LEFT JOIN events u ON u.seq = r.custom_status_seq
LEFT JOIN events x ON x.seq = r.cancel_seq;

CREATE VIEW children AS
SELECT r.parent, r.parent_op, r.run, r.workflow, r.status, r.created_at, e.ts AS ended_at,
  CAST(round((julianday(e.ts) - julianday(r.created_at)) * 86400000) AS INTEGER) AS duration_ms,
  c.data -> '$.input' AS input,
  e.data -> '$.output' AS output,
  e.data -> '$.error' AS error
FROM tidemill_runs r
LEFT JOIN events c ON c.seq = r.seq
LEFT JOIN events e ON e.seq = r.ended_seq
WHERE r.parent IS NOT NULL;

CREATE VIEW steps AS
SELECT o.run, o.op, s.name,
  CASE e.kind WHEN 'step_completed' THEN 'completed'
    WHEN 'step_failed' THEN iif(e.data ->> '$.error.kind' = 'cancelled', 'cancelled', 'failed')
    WHEN 'op_dropped' THEN 'dropped' ELSE iif(x.seq, 'cancelled', 'running') END AS status,
  o.attempts, s.ts AS started_at, coalesce(e.ts, x.ts) AS ended_at,
  CAST(round((julianday(coalesce(e.ts, x.ts)) - julianday(s.ts)) * 86400000) AS INTEGER)
    AS duration_ms,
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
LEFT JOIN events c ON c.seq = o.checkpoint_seq
-- What a cancel ended has no event of its own: cancel_requested names it.
LEFT JOIN tidemill_runs r ON r.run = o.run
LEFT JOIN events x ON x.seq = r.cancel_seq AND e.seq IS NULL
  AND json_type(x.data, '$.resolves."' || o.op || '"') IS NOT NULL;

-- One row for each attempt that began, is queued for a thread or the lease, or waits for its moment.
-- One that began and was followed by another without having failed was cut off: its process ended.
CREATE VIEW attempts AS
SELECT run, op, name, attempt, status, started_at, ended_at,
  CAST(round((julianday(ended_at) - julianday(started_at)) * 86400000) AS INTEGER) AS duration_ms,
  error
FROM (
  SELECT o.run, o.op, o.name, attempt, iif(x.seq, 'dropped', o.status) AS status, has_begun,
    started_at, iif(x.seq, coalesce(ended_at, x.ts), ended_at) AS ended_at, error
  FROM (
    SELECT run, op, name, attempt,
      CASE
        WHEN failed_at IS NOT NULL THEN 'failed'
        WHEN attempt < newest THEN 'cut_off'
        WHEN end_kind = 'step_completed' THEN 'completed'
        WHEN end_kind = 'step_failed' THEN 'failed'
        WHEN end_kind = 'op_dropped' THEN 'dropped'
        WHEN held_at IS NOT NULL THEN 'held'
        WHEN begun THEN 'running'
        WHEN follows THEN 'waiting'
        ELSE 'queued'
      END AS status,
      begun OR held_at IS NOT NULL AS has_begun,
      started_at,
      coalesce(failed_at, held_at, CASE WHEN attempt = newest THEN end_at END) AS ended_at,
      coalesce(error, CASE WHEN attempt = newest THEN end_error END) AS error
    FROM (
      SELECT run, op, max(name) AS name, attempt,
        max(kind IN ('step_attempt_started', 'checkpoint')
          OR kind IN ('step_started', 'step_restarted') AND NOT coalesce(data ->> '$.queued', 0)
        ) AS begun,
        min(kind = 'follows') AS follows,
        max(CASE WHEN kind = 'step_attempt_started' THEN ts
          WHEN kind IN ('step_started', 'step_restarted') AND NOT coalesce(data ->> '$.queued', 0)
          THEN ts END) AS started_at,
        max(CASE kind WHEN 'step_attempt_failed' THEN ts END) AS failed_at,
        max(CASE kind WHEN 'op_held' THEN ts END) AS held_at,
        max(CASE WHEN kind IN ('step_attempt_failed', 'op_held') THEN data -> '$.error' END) AS error,
        max(attempt) OVER step AS newest,
        -- The end of the step has no attempt of its own: the newest one takes it.
        max(max(CASE WHEN attempt IS NULL THEN kind END)) OVER step AS end_kind,
        max(max(CASE WHEN attempt IS NULL THEN ts END)) OVER step AS end_at,
        max(max(CASE WHEN attempt IS NULL THEN data -> '$.error' END)) OVER step AS end_error
      FROM (
        SELECT run, op, name, ts, kind, data,
          CASE WHEN kind = 'step_started' THEN 1
            WHEN kind NOT IN ('step_completed', 'step_failed') THEN data ->> '$.attempt' END AS attempt
        FROM events
        WHERE kind IN ('step_started', 'step_attempt_started', 'step_attempt_failed',
          'step_restarted', 'op_held', 'checkpoint', 'step_completed', 'step_failed', 'op_dropped')
        UNION ALL
        SELECT run, op, name, ts, 'follows', NULL, (data ->> '$.attempt') + 1
        FROM events
        WHERE kind = 'step_attempt_failed'
      )
      GROUP BY run, op, attempt
      WINDOW step AS (PARTITION BY run, op)
    )
    WHERE attempt IS NOT NULL
  ) o
  LEFT JOIN tidemill_runs r ON r.run = o.run
  LEFT JOIN events x ON x.seq = r.cancel_seq
    AND o.status IN ('waiting', 'queued', 'running', 'held')
    AND json_type(x.data, '$.resolves."' || o.op || '"') IS NOT NULL
)
WHERE status <> 'dropped' OR has_begun;

CREATE VIEW checkpoints AS
SELECT run, op, name, data ->> '$.attempt' AS attempt, seq, ts, data -> '$.value' AS value
FROM events WHERE kind = 'checkpoint';

CREATE VIEW timers AS
SELECT o.run, o.op, s.name,
  CASE e.kind WHEN 'timer_fired' THEN 'fired' WHEN 'op_dropped' THEN 'dropped'
    ELSE iif(x.seq, 'cancelled', 'waiting') END AS status,
  s.data ->> '$.fire_at' AS fire_at, s.ts AS started_at, coalesce(e.ts, x.ts) AS ended_at
FROM (
  SELECT run, op,
    max(CASE kind WHEN 'timer_started' THEN seq END) AS start_seq,
    max(CASE WHEN kind IN ('timer_fired', 'op_dropped') THEN seq END) AS end_seq
  FROM events
  WHERE kind IN ('timer_started', 'timer_fired', 'op_dropped')
  GROUP BY run, op
) o
JOIN events s ON s.seq = o.start_seq
LEFT JOIN events e ON e.seq = o.end_seq
LEFT JOIN tidemill_runs r ON r.run = o.run
LEFT JOIN events x ON x.seq = r.cancel_seq AND e.seq IS NULL
  AND json_type(x.data, '$.resolves."' || o.op || '"') IS NOT NULL;

CREATE VIEW signals AS
SELECT s.run, s.op, s.name, s.seq, e.ts, e.data -> '$.value' AS value, s.number, s.key,
  e.data ->> '$.by' AS sender, t.ts AS taken_at
FROM tidemill_signals s
LEFT JOIN events e ON e.seq = s.seq
LEFT JOIN events t ON t.seq = s.taken_seq;

CREATE VIEW promises AS
SELECT p.run, p.op, p.name, p.status, s.data ->> '$.terms.message' AS message,
  p.record ->> '$.deadline' AS deadline, coalesce(p.record -> '$.answers', '[]') AS answers,
  s.ts AS started_at, c.ts AS closed_at
FROM tidemill_promises p
LEFT JOIN events s ON s.seq = p.seq
LEFT JOIN events c ON c.seq = p.closed_seq;
